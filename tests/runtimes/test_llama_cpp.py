"""The llama.cpp runtime on the real weights of stories260k, on random models, and on files that are none."""

from __future__ import annotations

import json
import subprocess
import sys
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
    ],
)
def test_a_schema_that_nothing_satisfies_is_refused_at_once(writer, schema, reason):
    with pytest.raises(UserError, match=reason):
        writer.stream("x", Decoding(schema=schema))


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
