"""Streams over a writer with a script: whole characters, stop strings, ends, limits and times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.errors import UserError
from minikin.base.writing import Decoding, Generator
from minikin.runtimes.writing import Writer

END = 256


class Scripted(Writer):
    """Writes the bytes of a text, one a token, and then its end."""

    context, ends, reused = 64, frozenset({END}), 0

    def __init__(self, script: bytes) -> None:
        self.script, self.open = [*script, END], 0

    def tokens(self, text):
        return [300, *text.encode()]

    specials, end = {"<s>": 300, "<end>": 299}, END

    def plain(self, text):
        return list(text.encode())

    def session(self, prompt=()):
        self.open, self.place = self.open + 1, -1
        return self

    def feed(self, ids):
        self.place += 1
        logits_V = np.zeros(301, np.float32)
        logits_V[self.script[self.place % len(self.script)]] = 9
        return logits_V

    def close(self):
        self.open -= 1

    def spelled(self, token):
        return bytes([token]) if token < END else b""

    def constraint(self, schema):
        raise UserError("no schemas here")

    def computed(self, ids):
        return np.zeros(len(ids) - 1), np.zeros(len(ids) - 1, bool)


def test_characters_come_whole():
    writer = Scripted("naïve 東京🙂".encode())
    stream = writer.stream("x")
    assert list(stream) == list("naïve 東京🙂")
    assert (stream.completion.text, stream.completion.finish) == ("naïve 東京🙂", "end")
    assert len(stream.completion.tokens) == len("naïve 東京🙂".encode()) + 1
    assert writer.open == 0


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\xe6\x9d", "a\ufffd"),
        (b"\x80", "\ufffd"),
        (b"\xed\xa0\x80", "\ufffd" * 3),
    ],
)
def test_invalid_bytes_become_replacement_characters(script, text):
    assert Scripted(script).complete("x")[0].text == text


@given(st.binary(max_size=40))
def test_any_bytes_stream_as_the_text_that_they_are(script):
    pieces = list(Scripted(script).stream("x", Decoding(max_tokens=50)))
    assert "".join(pieces) == script.decode("utf-8", "replace")
    assert all(pieces)


@pytest.mark.parametrize(
    ("stop", "pieces"),
    [
        (("cd",), ["a", "b"]),
        (("cx",), ["a", "b", "cd", "e", "f"]),
        (("ef", "cde"), ["a", "b"]),
        (("a",), []),
        (("f",), ["a", "b", "c", "d", "e"]),
        (("fg",), ["a", "b", "c", "d", "e", "f"]),
    ],
)
def test_a_stop_string_is_held_back_and_never_shown(stop, pieces):
    stream = Scripted(b"abcdef").stream("x", Decoding(stop=stop))
    assert list(stream) == pieces
    assert stream.completion.finish == ("stop" if len("".join(pieces)) < 6 else "end")


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_the_text_is_what_stands_before_the_first_stop(script, stops):
    text = Scripted(script.encode()).complete("x", Decoding(stop=tuple(stops)))[0].text
    # A stop is found as soon as it is whole: the first to end, and of those the first to begin.
    ends = [(script.find(stop) + len(stop), script.find(stop)) for stop in stops if stop in script]
    assert text == (script[: min(ends)[1]] if ends else script)


def test_the_length_and_the_context_end_a_text():
    writer = Scripted(b"abcdefgh" * 20)
    assert writer.complete("x", Decoding(max_tokens=3))[0].text == "abc"
    full = writer.complete("x" * 60, Decoding(max_tokens=50))[0]
    assert (full.text, full.finish) == ("abc", "length")
    assert full.timing.read + full.timing.written == writer.context


def test_a_prompt_without_room_is_refused_or_cut_from_its_front():
    writer = Scripted(b"abc")
    with pytest.raises(UserError, match=r"65 tokens, and the model reads 64"):
        writer.stream("x" * 64)
    long = "".join(chr(97 + i % 26) for i in range(100))
    stream = writer.stream(long, Decoding(cut=True, max_tokens=20))
    assert stream._prompt == [300, *long[-43:].encode()]
    assert stream.finished().truncated
    assert not writer.complete("short", Decoding(cut=True))[0].truncated


def test_closing_a_stream_keeps_what_was_written_and_frees_its_place():
    writer = Scripted(b"abcdef")
    stream = writer.stream("x")
    pieces = iter(stream)
    assert next(pieces) + next(pieces) == "ab"
    stream.close()
    assert (stream.completion.text, stream.completion.finish, writer.open) == ("ab", "cancelled", 0)
    assert list(pieces) == []


def test_log_probabilities_lie_beside_the_tokens():
    how = Decoding(logprobs=True)
    done = Scripted(b"ab").complete("x", how)[0]
    assert len(done.logprobs) == len(done.tokens) == 3
    assert done.logprobs[0] == pytest.approx(9 - np.log(np.exp(9) + 300))
    assert Scripted(b"ab").complete("x")[0].logprobs is None


def test_several_completions_have_seeds_of_their_own():
    writer = Scripted(b"a")
    how = Decoding(temperature=50, max_tokens=8, seed=3)
    first, second = (done.tokens for done in writer.complete("x", how, n=2))
    assert first != second
    assert writer.complete("x", how)[0].tokens == first


def test_a_schema_is_refused_before_anything_is_computed():
    writer = Scripted(b"a")
    with pytest.raises(UserError, match="no schemas"):
        writer.stream("x", Decoding(schema={}))
    assert writer.open == 0


def test_a_writer_is_a_generator():
    assert isinstance(Scripted(b""), Generator)
