"""An encoder-decoder as the teacher, by the command line: a student learns its answers, each written once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from minikin.base.console import Stages
from minikin.base.errors import TeacherError
from minikin.base.folders import RunFolder
from minikin.cli import app
from minikin.recipe.read import read
from minikin.steps import generate
from minikin.steps.context import Build
from minikin.teachers.resolve import resolve
from minikin.teachers.rewriter import Rewriter
from rewriters import ANSWERS, toy_t5
from test_endpoint_end_to_end import lines

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")

PROMPTS = sorted(ANSWERS, key=lambda prompt: prompt[::-1])
TEST, TRAIN, MORE = PROMPTS[::5], PROMPTS[1::5] + PROMPTS[2::5], PROMPTS[3::5]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_t5(tmp_path_factory.mktemp("rewriter") / "t5")


def write(folder: Path, t5: Path, **changes: Any) -> Path:
    """A recipe over commands that people answered otherwise than the teacher, and commands without an answer."""
    lines(folder / "train.jsonl", [{"prompt": p, "completion": f"please {p}"} for p in TRAIN])
    lines(folder / "more.jsonl", [{"prompt": p} for p in MORE])
    lines(folder / "test.jsonl", [{"prompt": p, "completion": ANSWERS[p]} for p in TEST])
    values: dict[str, Any] = {
        "task": "generate",
        "data": {"train": "train.jsonl", "unlabelled": "more.jsonl", "test": "test.jsonl", "max_length": 32},
        "teacher": {"model": str(t5), "max_tokens": 8},
        "student": {"size": "pico", "vocabulary": 320},
        "distil": {"epochs": 1, "augment": 0},
        "quantize": "q8_0",
        "train": {"threads": 1, "batch": 8},
        "gate": {"new_tokens": 8, "parity_texts": 2, "max_flips": 1.0},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def run(verb: str, recipe: Path) -> Any:
    more = ["-o", str(recipe.parent / "kin")] if verb == "build" else []
    return CliRunner().invoke(app, [verb, str(recipe), *more])


def begun(recipe: Path) -> tuple[Build, Any]:
    build = Build(read(recipe), recipe.parent / "kin", RunFolder(recipe.parent / "kin.run"), Stages(quiet=True))
    checkpoint = generate.learn.resolved(build)
    return generate.aims.suited(build, checkpoint), checkpoint


def test_a_kin_is_built_of_its_answers_and_compared_with_them(t5, tmp_path):
    recipe = write(tmp_path, t5)
    checked = run("check", recipe)
    assert checked.exit_code == 0, checked.output
    words = " ".join(checked.stderr.split())
    assert f"{t5}: " in words
    assert "prompts to ask; at most about" in words
    assert "It learns by gold, prompt." in words
    assert "the student without the teacher, 1 epoch" in words
    done = run("build", recipe)
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "kin" / "report.json").read_text())
    assert told["measurements"]["teacher"]["accuracy"] == 1.0
    assert told["measurements"]["student_without_teacher"] is not None  # learnt from people's answers
    manifest = json.loads((tmp_path / "kin" / "minikin.json").read_text())
    assert manifest["teacher"]["name"] == str(t5)
    # the recipe that lies beside the kin says what was done
    assert [o.name for o in read(tmp_path / "kin" / "recipe.yaml").distil.objectives] == ["gold", "prompt"]


def test_its_answers_stand_in_place_of_peoples(t5, tmp_path):
    build, checkpoint = begun(write(tmp_path, t5))
    found = generate.material.data(build, checkpoint)
    told = generate.ask.told(build, found, checkpoint)
    assert {text[0]: text[1] for text in told.corpus.data.train.texts}.items() <= ANSWERS.items()
    assert len(told.corpus.data.train) == len(found.data.train) + len(MORE)
    assert told.people is found
    assert list(told.test or ()) == [ANSWERS[text[0]] for text in found.data.test.texts]
    # what nobody learns from stays people's
    assert all(text[1].startswith("please") for text in told.corpus.data.validation.texts)


def test_prompts_alone_are_enough(t5, tmp_path):
    recipe = write(tmp_path, t5, data={"train": "more.jsonl", "unlabelled": None})
    build, checkpoint = begun(recipe)
    told = generate.ask.told(build, generate.material.data(build, checkpoint), checkpoint)
    assert told.people is None
    assert {text[0]: text[1] for text in told.corpus.data.train.texts}.items() <= ANSWERS.items()


def test_a_killed_run_goes_on_and_no_answer_is_written_twice(t5, tmp_path, monkeypatch):
    chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    rewriter = Rewriter(resolve(str(t5)), tmp_path, max_tokens=8, beams=2)
    wrote, replies = [], rewriter._replies

    def counted(model: Any, pieces: Any, prompts: Any, most: int) -> Any:
        if len(wrote) == 32:
            raise KeyboardInterrupt
        wrote.extend(prompts)
        return replies(model, pieces, prompts, most)

    monkeypatch.setattr(rewriter, "_replies", counted)
    with pytest.raises(KeyboardInterrupt):
        rewriter.ask(chats)
    assert rewriter.forecast(chats).cached == 32
    monkeypatch.undo()
    found = rewriter.ask(chats)
    assert [reply.text for reply in found.replies if reply] == [ANSWERS[prompt] for prompt in PROMPTS]
    monkeypatch.setattr(rewriter, "_loaded", None)  # all is there: the model isn't even loaded
    assert rewriter.ask(chats) == found


def test_what_cannot_be_used_is_told_by_place(t5, tmp_path):
    texts = ["hall lamp on", "hall " * 16, "den fan off", "attic fan off"]
    chats = [[{"role": "user", "content": text}] for text in texts]
    rewriter = Rewriter(resolve(str(t5)), tmp_path, max_tokens=8, beams=1)
    found = rewriter.ask(chats, validate=lambda text: "no attics" if "attic" in text else None)
    assert found.faults == {1: "a prompt of more than 16 tokens", 3: "no attics"}
    short = Rewriter(resolve(str(t5)), tmp_path, max_tokens=2, beams=1).ask(chats[:1])
    assert short.faults == {0: "an answer that was cut off at max_tokens"}


def test_a_broken_checkpoint_is_named(t5, tmp_path):
    broken = tmp_path / "t5"
    broken.mkdir()
    for path in t5.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: 200 if path.suffix == ".safetensors" else None])
    with pytest.raises(TeacherError, match="can't be loaded as an encoder-decoder"):
        Rewriter(resolve(str(broken)), tmp_path / "answers", max_tokens=2, beams=1).ask(
            [[{"role": "user", "content": "hall lamp on"}]]
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distil": {"objectives": [{"name": "kl"}]}}, "distil.objectives: 'kl'"),
        ({"distil": {"objectives": [{"name": "uld"}, {"name": "gold"}]}}, "distil.objectives: 'uld'"),
        ({"distil": {"objectives": [{"name": "gold"}, {"name": "hidden"}]}}, "distil.objectives: 'hidden'"),
        ({"distil": {"on_policy": 0.5}}, "distil.on_policy"),
        ({"teacher": {"epochs": 3}}, "teacher.epochs"),
        ({"student": {"start": "cut"}}, "student.start: 'cut'"),
        ({"data": {"kind": "text"}}, "data.kind: 'text'"),
    ],
)
def test_what_its_text_cannot_teach_is_refused_before_anything_is_done(t5, tmp_path, changes, words):
    recipe = write(tmp_path, t5, **changes)
    for verb in ("check", "build"):
        done = run(verb, recipe)
        assert done.exit_code == 2, done.output
        told = " ".join(done.output.split())
        assert words in told
        assert "is an encoder-decoder, which is asked as it is and teaches by its text alone" in told
    assert not (tmp_path / "kin.run").exists()
