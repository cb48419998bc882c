"""The llama.cpp runtime on the real weights of stories260k, on random models, and on files that are none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import decoders
from minikin.base import llama
from minikin.base.errors import BusyError, KinError, MinikinError, UserError
from minikin.base.writing import Decoding, Generator
from minikin.package import gguf as package

pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
gguf = pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")

from minikin.runtimes.llama_cpp import LlamaCpp  # noqa: E402  (after the skips)
from minikin.runtimes.llama_sequences import BLOCK  # noqa: E402

STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
CALL = {
    "type": "object",
    "properties": {"device": {"enum": ["lamp", "fan"]}, "level": {"type": "integer", "minimum": 0, "maximum": 100}},
    "required": ["device", "level"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def stories(tmp_path_factory) -> Path:
    return decoders.stories(tmp_path_factory.mktemp("stories"))


@pytest.fixture(scope="module")
def story_file(stories) -> Path:
    package.write(stories, stories / "F16.gguf", "F16")
    return stories / "F16.gguf"


@pytest.fixture
def writer(story_file):
    with LlamaCpp(story_file) as generator:
        yield generator


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    decoders.toy_llama(folder)
    package.write(folder, folder / "model.gguf")
    return folder / "model.gguf"


def perplexity(generator: LlamaCpp, texts: list[str]) -> float:
    return float(np.exp(-np.concatenate([generator.logprobs(text) for text in texts]).mean()))


def test_a_real_model_tells_the_story_that_transformers_tells(stories, writer):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(stories).eval()
    for prompt in ("Once upon a time", "Tom and his dog", "The cat"):
        ids = torch.tensor([writer.tokens(prompt)])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False)
        done = writer.complete(prompt, Decoding(max_tokens=64))[0]
        assert list(done.tokens) == expected[0, ids.shape[1] :].tolist()
    assert isinstance(writer, Generator)


@pytest.mark.parametrize(("mix", "most"), [("Q8_0", 1.005), ("Q6_K", 1.005), ("Q5_K_M", 1.06), ("Q4_K_M", 1.08)])
def test_quantized_real_weights_keep_their_perplexity(stories, writer, tmp_path, mix, most):
    """Rows of 64 and 172 weights are no multiples of 256, so the K mixes fall back to formats a little larger."""
    raw = (decoders.data() / "tinystories" / "tinystories_b_2MB.txt").read_text(encoding="utf-8")
    texts = [raw[start : start + 900] for start in range(0, 18_000, 900)]
    package.write(stories, tmp_path / "model.gguf", mix)
    with LlamaCpp(tmp_path / "model.gguf") as generator:
        ratio = perplexity(generator, texts) / perplexity(writer, texts)
    assert 1 / most < ratio < most


def test_a_seed_decides_what_is_drawn(writer):
    how = Decoding(max_tokens=24, temperature=1, top_p=0.95, top_k=40, seed=5)
    first, again = (writer.complete("A bird", how)[0].text for _ in range(2))
    both = [done.text for done in writer.complete("A bird", how, n=2)]
    assert first == again == both[0] != both[1]


def test_a_schema_is_satisfied_by_greedy_and_drawn_texts_alike(writer):
    for how in (
        Decoding(schema=CALL),
        Decoding(schema=CALL, temperature=2, seed=1),
        Decoding(schema=CALL, stop=("zz",)),
    ):
        done = writer.complete("The lamp", how)[0]
        call = json.loads(done.text)
        assert (set(call), done.finish) == ({"device", "level"}, "end")
        assert call["device"] in ("lamp", "fan")
        assert 0 <= call["level"] <= 100
        assert done.text == json.dumps(call)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 3}, "greater than maximum"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "nonsense"}, "Invalid type"),
        ({"$ref": "http://localhost:1/schema"}, "not present"),
        ({"enum": [{1, 2}]}, "no JSON Schema"),
        ({"$ref": "#"}, "refers to itself without an end"),
    ],
)
def test_a_schema_that_nothing_satisfies_is_refused_at_once(writer, schema, reason):
    with pytest.raises(UserError, match=reason):
        next(iter(writer.stream("x", Decoding(schema=schema))))


def test_long_texts_are_scored_across_batches_as_in_one_pass(writer):
    ids = writer.tokens(STORY * 16)[: writer.context]
    assert len(ids) == 512
    whole = writer.logprobs(ids)
    assert whole[:100] == pytest.approx(writer.logprobs(ids[:101]), abs=0.02)
    with pytest.raises(UserError, match="513 tokens, and the model reads 512"):
        writer.logprobs([*ids, 5])


def test_a_smaller_context_and_more_sequences(story_file):
    with LlamaCpp(story_file, context=32, parallel=2) as generator:
        assert generator.context == 32
        alone = generator.complete("A dog", Decoding(max_tokens=12))[0].text
        streams = [iter(generator.stream("A dog", Decoding(max_tokens=12))) for _ in range(3)]
        texts = ["", ""]
        for _ in range(12):
            texts = [text + next(stream, "") for text, stream in zip(texts, streams, strict=False)]
            if len(texts[0]) < 3:
                with pytest.raises(BusyError, match="Another text is being written"):
                    next(iter(generator.stream("A dog")))
        assert texts == [alone, alone]


def test_threads_wait_for_their_turn(story_file):
    """More threads than places: everyone is answered, as if alone."""
    prompts = ["A dog", "The cat", "Tom and his", "Once upon a time"] * 2
    how = Decoding(max_tokens=16)
    for places in (1, 2):
        with LlamaCpp(story_file, parallel=places) as generator, ThreadPoolExecutor(4) as pool:
            alone = [generator.complete(prompt, how)[0].tokens for prompt in prompts]
            assert [done[0].tokens for done in pool.map(lambda p: generator.complete(p, how), prompts)] == alone


def test_who_waits_goes_on_when_a_place_is_left_or_the_model_closed(story_file):
    how = Decoding(max_tokens=4)
    with LlamaCpp(story_file) as generator, ThreadPoolExecutor(1) as pool:
        for end in ("close", "forget"):
            stream = generator.stream("A dog", how)
            next(iter(stream))
            waiting = pool.submit(generator.complete, "A dog", how)
            assert not wait([waiting], 0.05).done
            if end == "close":
                stream.close()
            else:
                del stream  # nobody will finish it
            assert waiting.result(10)[0].tokens
        stream = iter(generator.stream("A dog", how))
        next(stream)
        waiting = pool.submit(generator.complete, "A dog", how)
        assert not wait([waiting], 0.05).done
        generator.close()
        with pytest.raises(MinikinError, match="was closed"):
            waiting.result(10)


def counted(generator, monkeypatch) -> list[tuple[int, int]]:
    """How many tokens each pass computes, and how many logits are asked for, from now on."""
    compute, found = generator._sequences.compute, []

    def counting(tokens, wanted):
        found.append((len(tokens), len(wanted)))
        return compute(tokens, wanted)

    monkeypatch.setattr(generator._sequences, "compute", counting)
    return found


def test_texts_written_abreast_are_those_written_alone(toy, story_file, monkeypatch):
    asked = [("A dog", 12), ("The cat sat on the", 3), ("Tom", 20), ("Once upon a time", 1), ("She said", 9)]
    for path, places in ((story_file, 3), (story_file, 8), (toy, 2)):
        with LlamaCpp(path, parallel=places) as generator:
            how = [(generator.tokens(text), Decoding(max_tokens=most)) for text, most in asked]
            alone = [generator.complete(ids, each)[0] for ids, each in how]
            batches = counted(generator, monkeypatch)
            abreast = list(generator.abreast(how, places))
            assert [done.text for done in abreast] == [done.text for done in alone]
            assert [done.finish for done in abreast] == [done.finish for done in alone]
            assert max(wanted for _, wanted in batches) == min(places, 4)  # one of the five ends with its first token
            assert sum(wanted for _, wanted in batches) == sum(len(done.tokens) for done in alone)
            with pytest.raises(UserError, match="max_tokens is 0"):
                list(generator.abreast([how[0], (how[1][0], Decoding(max_tokens=0))], places))
            assert len(generator._sequences._free) == places


def test_a_prompt_is_computed_only_from_the_block_where_it_differs(writer, monkeypatch):
    """And what is written does not depend on what was asked before, to the last bit."""
    system, how = STORY * 8, Decoding(max_tokens=8, logprobs=True)
    prompts = [system + "Tom", system + "The cat and the dog", STORY * 4 + "Tom", "Tom", system + "Tom"]
    fed = counted(writer, monkeypatch)
    fresh = []
    for prompt in prompts:
        writer._sequences._held = [[]]
        fresh.append(writer.complete(prompt, how)[0])
        assert fresh[-1].timing.reused == 0
    counts = []
    for prompt, expected in zip(prompts, fresh, strict=True):
        fed.clear()
        done = writer.complete(prompt, how)[0]
        assert (done.tokens, done.logprobs) == (expected.tokens, expected.logprobs)
        assert sum(tokens for tokens, _ in fed) == done.timing.read - done.timing.reused + len(done.tokens) - 1
        counts.append(done.timing.reused)
    same = BLOCK * ((len(writer.tokens(system)) - 1) // BLOCK)
    # the first was asked last before; the fourth shares nothing, and leaves nothing to the fifth
    assert counts[0] == counts[1] == same > 2 * BLOCK
    assert BLOCK <= counts[2] < same
    assert counts[3:] == [0, 0]


def test_several_places_remember_several_prompts(story_file):
    with LlamaCpp(story_file, parallel=2) as generator:
        one, other = STORY * 4, "Tom has a red ball. " * 16
        how = Decoding(max_tokens=2)
        reused = [generator.complete(text, how)[0].timing.reused for text in (one, other, one, other)]
    assert reused[:2] == [0, 0]
    assert min(reused[2:]) >= BLOCK


def test_a_grammar_is_followed_by_greedy_and_drawn_texts_alike(writer):
    grammar = 'root ::= "the " animal (" and the " animal)* "."\nanimal ::= "cat" | "dog" | "frog"\n'
    pattern = re.compile(r"the (cat|dog|frog)( and the (cat|dog|frog))*\.")
    for how in (Decoding(grammar=grammar), Decoding(grammar=grammar, temperature=1.5, seed=3, top_k=40)):
        done = writer.complete("Tom saw", replace(how, max_tokens=200))[0]
        assert done.finish == "end"
        assert pattern.fullmatch(done.text)
    # any characters, but no special token
    free = writer.complete("Tom", Decoding(grammar="root ::= [^\\x00]*", temperature=3, max_tokens=60, seed=1))[0]
    assert not set(free.tokens[:-1]) & set(writer.specials.values())


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("root ::= nothing", "Undefined rule identifier 'nothing'"),
        ('root ::= "a', "unexpected end of input"),
        ('other ::= "a"', "does not contain a 'root' symbol"),
        ('root ::= root "a"', "left recursion"),
        (" \n", "is empty"),
        ('root ::= "a\0"', "a NUL"),
    ],
)
def test_a_grammar_that_nothing_follows_is_refused_at_once(writer, grammar, reason, capfd):
    with pytest.raises(UserError, match=reason):
        writer.check(Decoding(grammar=grammar))
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match="not both"):
        writer.check(Decoding(grammar='root ::= "a"', schema=CALL))


def test_a_closed_model_says_so(story_file):
    generator = LlamaCpp(story_file)
    stream = iter(generator.stream("A dog"))
    next(stream)
    generator.close()
    with pytest.raises(MinikinError, match="was closed"):
        next(stream)
    for use in (generator.tokens, generator.complete, generator.logprobs, generator.metadata):
        with pytest.raises(MinikinError, match="was closed"):
            use("A dog")


def test_an_empty_prompt_begins_with_the_first_token_where_there_is_one(writer, toy):
    assert writer.complete("", Decoding(max_tokens=4))[0].timing.read == 1
    with LlamaCpp(toy) as generator, pytest.raises(UserError, match="The prompt is empty"):
        generator.complete("")


def damaged(raw: bytes, kind: str) -> bytes:
    if kind == "text":
        return b"this is no model at all, only text"
    return {"empty": b"", "header": raw[:20], "half": raw[: len(raw) // 2], "tail": raw[:-64]}[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "header", "half", "tail"])
def test_a_damaged_file_is_refused_by_its_name(toy, tmp_path, kind):
    path = tmp_path / f"{kind}.gguf"
    path.write_bytes(damaged(toy.read_bytes(), kind))
    with pytest.raises(KinError, match=rf"can't load .*{kind}\.gguf"):
        LlamaCpp(path)


def test_a_missing_file_and_an_unknown_architecture_are_refused(tmp_path):
    with pytest.raises(KinError, match="There is no file"):
        LlamaCpp(tmp_path / "none.gguf")
    other = gguf.GGUFWriter(tmp_path / "other.gguf", "nothing-known")
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.write_tensors_to_file()
    other.close()
    with pytest.raises(KinError, match="unknown model architecture: 'nothing-known'"):
        LlamaCpp(tmp_path / "other.gguf")


def test_nothing_listens_and_no_signal_is_taken(toy):
    """In a process of its own: every socket that C or Python code opens shows in /proc."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system has no /proc")
    code = f"""
import os, signal
from pathlib import Path
from minikin.base.writing import Decoding
from minikin.runtimes.llama_cpp import LlamaCpp
before = signal.getsignal(signal.SIGINT)
with LlamaCpp(Path({str(toy)!r})) as generator:
    generator.complete("the lamp", Decoding(max_tokens=4, schema={{"type": "string"}}))
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink():
            assert "socket" not in os.readlink(entry), os.readlink(entry)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert int(status["SigCgt"], 16) & (1 << signal.SIGTERM - 1) == 0
assert signal.getsignal(signal.SIGINT) is before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_llama_cpp_says_while_python_ends_is_heard(toy, monkeypatch):
    """A model freed last of all speaks when the modules' names are gone already."""
    LlamaCpp(toy).complete("the lamp")
    opened = llama.library()
    opened.complaint()
    for name, value in vars(llama).items():
        if isinstance(value, int):
            monkeypatch.setattr(llama, name, None)
    opened._logged(2, b"freed", None)
    opened._logged(4, b"it broke", None)
    assert opened.complaint() == "it broke"


def test_the_runtime_needs_no_torch(toy):
    code = f"""
import sys
from pathlib import Path
from minikin.runtimes.llama_cpp import LlamaCpp
LlamaCpp(Path({str(toy)!r})).complete("the lamp")
assert not {{"torch", "transformers", "gguf"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_schema_in_the_box_can_be_followed(writer):
    box = Path(str(files("minikin"))) / "box" / "homes" / "schema.json"
    writer.stream("x", Decoding(max_tokens=1, schema=json.loads(box.read_text(encoding="utf-8")))).close()
