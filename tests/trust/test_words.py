import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.base.extras import extension
from minikin.trust.scores import NOTHING, Quick, Scorer
from minikin.trust.words import familiar, joined, pieces, runner_up, shares, table

TEXTS = ["Where is my card?", "my card is lost", "lost card", "send MONEY abroad", "money, now"]
LABELS = np.array([0, 0, 0, 1, 1])


def sixes(text):
    """Pieces by another way: words, joined by single spaces, six bytes at a time."""
    letters = "".join(c if c >= "\x80" or c.isalnum() else " " for c in joined(text))
    whole = f" {' '.join(letters.split(' '))} ".encode("utf-8", "replace").lower()
    whole = b" " + b" ".join(filter(None, whole.split(b" "))) + b" "
    return [whole[i : i + 6] for i in range(len(whole) - 5)]


def exactly(texts, labels_N, text, answer):
    """The share by comparing pieces themselves."""
    known = {piece for other, label in zip(texts, labels_N, strict=True) if label == answer for piece in sixes(other)}
    return np.mean([piece in known for piece in sixes(text)]) if sixes(text) else 0.0


@pytest.mark.parametrize(
    ("text", "of_each"),
    [
        ("MY CARD", (1.0, 0.0)),
        ("lost...card", (1.0, 0.0)),
        ("money", (0.0, 1.0)),
        ("lost cards", (5 / 7, 0.0)),
        ("a stranger", (0.0, 0.0)),
        ("?!", (0.0, 0.0)),
        ("", (0.0, 0.0)),
        (("where is", "my card"), (1.0, 0.0)),
    ],
)
def test_pieces_are_known_to_the_class_that_held_them(text, of_each):
    found = familiar(table(TEXTS, LABELS), [text, text], np.array([0, 1]))
    assert found == pytest.approx(of_each)
    assert [exactly(TEXTS, LABELS, text, answer) for answer in (0, 1)] == pytest.approx(of_each)


texts = st.lists(st.text(st.sampled_from("aB9é \ud800ß,.日\n"), max_size=20), max_size=8)


@given(texts, st.lists(st.text(max_size=9), min_size=1, max_size=5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_nothing_that_was_held_is_missed(held, asked, answer):
    labels_N = np.arange(len(held)) % 4
    found = familiar(table(held, labels_N), [*held, *asked], np.append(labels_N, np.full(len(asked), answer)))
    assert found[: len(held)].tolist() == [float(len(pieces(text)) > 0) for text in held]
    least = [exactly(held, labels_N, text, answer) for text in asked]
    assert (found[len(held) :] >= np.array(least) - 1e-12).all()


def test_few_strangers_look_known():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 9)) for _ in range(8000)]
    bits_B = table(words[:4000], np.arange(4000) % 10)
    shares = familiar(bits_B, words[4000:], np.arange(4000) % 10)
    assert len(bits_B) == 16384
    assert shares.mean() < 0.25


@pytest.mark.skipif(not hasattr(extension(), "score"), reason="this install has no kernel")
@given(texts.filter(bool), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_the_extension_reads_the_same_words(held, best):
    bits_B = table(TEXTS + held, np.arange(len(TEXTS) + len(held)) % 4)
    scorer = Scorer(np.array([0.3, 0.2, -0.1, 0.0, 2.5, -1.5]), 0.1, -1, None, True)
    row_C = np.array([0.05, 0.1, 0.1, 0.05], np.float32)
    row_C[best] = 0.7
    one, other = (Quick(scorer, 4, compiled, bits_B) for compiled in (extension(), None))
    for text in [*held, *TEXTS]:
        scores = [quick.score(row_C, None, best, 0.7, text) for quick in (one, other)]
        many = scorer.scores(row_C[None], None, shares(bits_B, [text], row_C[None]))
        assert scores == pytest.approx([many[0]] * 2, abs=1e-5)


@pytest.mark.parametrize("bits_B", [NOTHING, np.zeros(0, np.uint8), np.zeros(3, np.uint8), np.zeros((2, 2), np.uint8)])
def test_refuses_what_is_no_table(bits_B):
    with pytest.raises(ValueError, match="damaged"):
        familiar(bits_B, ["a"], np.array([0]))


def test_a_table_takes_the_room_there_is():
    words = [f"{i * 7919 % 100_003:09d}" for i in range(12_000)]
    sizes = [len(table(words, np.arange(len(words)) % 10, room)) for room in (1e9, 40_000, 20_000, 0, -5)]
    assert sizes[0] == len(table(words, np.arange(len(words)) % 10)) == 32768
    assert sizes == [32768, 32768, 16384, 8192, 8192]


def test_the_likeliest_other_label():
    assert runner_up(np.array([[0.5, 0.2, 0.3], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])).tolist() == [2, 1, 1]
    both = shares(table(TEXTS, LABELS), ["lost card"], np.array([[0.3, 0.7]]))
    assert both.tolist() == [[familiar(table(TEXTS, LABELS), ["lost card"], np.array([i]))[0] for i in (1, 0)]]
