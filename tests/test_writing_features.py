"""What a recipe may ask of a student that writes, built whole: a checkpoint of its own, adapters, its own answers,
another tokenizer than the teacher's, the teacher's hidden states."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from typer.testing import CliRunner

import causal
import minikin
import talk
from minikin.base.console import Stages
from minikin.base.errors import GateFailed, UserError
from minikin.base.folders import RunFolder
from minikin.base.types import Student
from minikin.base.writing import Packed
from minikin.cli import app
from minikin.data.generate import Corpus
from minikin.feed.align import matched
from minikin.feed.causal import model_of, student_of
from minikin.feed.speech import Speaker
from minikin.package import transformers
from minikin.recipe.read import read
from minikin.steps import generate
from minikin.steps.context import Build
from minikin.steps.generate import prove
from minikin.train import on_policy
from test_writing_end_to_end import rows
from toys import toy_checkpoint

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")

OWN = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 160}
LARGE = {"hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 160}
RECIPE: dict[str, Any] = {
    "task": "generate",
    "data": {"train": "train.jsonl", "test": "test.jsonl", "max_length": 128},
    "teacher": {"model": "large", "epochs": 2, "batch": 16, "learning_rate": 0.005},
    "student": {"model": "small"},
    "distil": {"epochs": 3, "augment": 0, "without_teacher": False, "top_k": 16},
    "train": {"threads": 1, "batch": 16, "learning_rate": 0.01},
    "quantize": "f16",
    "gate": {"new_tokens": 24, "parity_texts": 10, "max_flips": 1},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and three checkpoints: a teacher, a student with a padded table, one that cuts otherwise."""
    folder = tmp_path_factory.mktemp("features")
    every = rows()
    for name, part in (("train", every[:96]), ("test", every[200:216])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    other = talk.byte_level(420)
    size = Tokenizer.from_str(other).get_vocab_size()
    made = {
        "large": causal.student("llama", **LARGE),
        "small": student_of(causal.model_of("llama", **OWN, vocab_size=320), talk.byte_level(297), talk.byte_config()),
        "other": student_of(causal.model_of("llama", **OWN, vocab_size=size), other, talk.byte_config(None)),
    }
    made["endless"] = replace(made["small"], tokenizer_config={})
    for name, student in made.items():
        (folder / name).mkdir()
        transformers.write(folder / name, student)
    return folder


def recipe(place: Path, out: Path, **changes: Any) -> Path:
    """The recipe with some sections changed, beside the data; `None` takes a key away."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in RECIPE.items()}
    for key, change in changes.items():
        values[key] = {**values.get(key, {}), **change} if isinstance(change, dict) else change
    path = place / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def built(place: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Build, and return the manifest with the losses of the student's epochs; all builds share what they can."""
    run = place / "run"
    before = set(run.glob("student-*"))
    minikin.build(recipe(place, out, **changes), out, run=run, quiet=True)
    (fresh,) = set(run.glob("student-*")) - before
    found: dict[str, Any] = json.loads((out / "minikin.json").read_text())
    return found | {"losses": json.loads((fresh / "history.json").read_text())["losses"]}


def as_build(place: Path, tmp_path: Path, **changes: Any) -> tuple[Build, Corpus]:
    build = Build(read(recipe(place, tmp_path, **changes)), tmp_path, RunFolder(tmp_path / "run"), Stages(quiet=True))
    return build, generate.material.data(build)


def test_a_checkpoint_of_its_own_learns_from_a_teacher_whose_table_is_padded_otherwise(place, tmp_path):
    told = built(place, tmp_path / "kin")
    config = json.loads((tmp_path / "kin" / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 2)
    assert (Path(told["base"]["name"]).name, Path(told["teacher"]["name"]).name) == ("small", "large")
    assert "- Began as: " in (tmp_path / "kin" / "README.md").read_text(encoding="utf-8")
    assert told["losses"][-1] < 0.8 * told["losses"][0]
    # a guess among all pieces would have their number
    assert told["measurements"]["student"]["perplexity"] < 0.25 * config["vocab_size"]


def test_a_teacher_in_the_students_tokens_says_what_it_says_of_them(place, tmp_path):
    build, corpus = as_build(place, tmp_path)
    checkpoint, own = generate.learn.resolved(build), generate.origins.own(build)
    teacher, student = generate.origins.found(build, corpus, checkpoint, own)
    assert teacher.tokenizer_json == student.tokenizer_json
    assert len(teacher.tensors["model.embed_tokens.weight"]) == len(student.tensors["model.embed_tokens.weight"])
    whole = causal.student("llama", **LARGE)
    text = Speaker(student.tokenizer_json, student.tokenizer_config).chats([[
        {"role": "user", "content": "kitchen lamp on"}, {"role": "assistant", "content": "turn"},
    ]])[0].ids_T  # fmt: skip
    theirs, ours = (json.loads(s.tokenizer_json) for s in (whole, student))
    pieces = Tokenizer.from_str(json.dumps(ours)).get_vocab()
    table = Tokenizer.from_str(json.dumps(theirs)).get_vocab()
    of_V = np.array([table[piece] for piece, _ in sorted(pieces.items(), key=lambda item: item[1])])
    with torch.no_grad():
        mine, its = (
            model_of(model)(input_ids=torch.tensor(ids[None].astype(np.int64))).logits
            for model, ids in ((teacher, text), (whole, of_V[text]))
        )
    torch.testing.assert_close(mine, its[..., torch.from_numpy(of_V)], rtol=1e-4, atol=1e-4)


def test_adapters_change_linear_layers_alone_and_ship_merged(place, tmp_path):
    told = built(place, tmp_path / "kin", train={"adapter": {"rank": 4}})
    assert told["losses"][-1] < told["losses"][0]
    build, corpus = as_build(place, tmp_path / "again", train={"adapter": {"rank": 4}})
    _, before = generate.origins.found(build, corpus, None, generate.origins.own(build))
    after = load_file(tmp_path / "kin" / "model.safetensors")
    assert after.keys() == before.tensors.keys()
    changed = {name for name in after if not np.array_equal(after[name], before.tensors[name])}
    assert changed == {name for name in after if name.endswith("proj.weight")}
    prompts = ["kitchen lamp on", "den blind off"]
    for a, b in zip(minikin.load(tmp_path / "kin")(prompts), minikin.load(tmp_path / "kin", engine="torch")(prompts),
                    strict=True):  # fmt: skip
        assert a.tokens == b.tokens


def test_dora_in_bfloat16_with_checkpointing(place, tmp_path):
    train = {"adapter": {"kind": "dora", "rank": 2, "alpha": 8}, "precision": "bf16", "checkpointing": True}
    told = built(place, tmp_path / "kin", train=train)
    assert told["losses"][-1] < told["losses"][0]


def test_a_student_learns_from_its_own_answers(place, tmp_path, monkeypatch):
    wrote = []
    answered = on_policy.answered
    monkeypatch.setattr(on_policy, "answered", lambda *a: wrote.append(answered(*a)) or wrote[-1])
    stored, objectives = set((place / "run").glob("signals-*")), [{"name": "kl", "temperature": 1.0}]
    told = built(place, tmp_path / "kin", distil={"on_policy": 1.0, "objectives": objectives, "epochs": 5})
    assert len(wrote) >= 5
    assert all(batch.ids_BT.shape[1] <= 128 for batch in wrote)
    assert told["losses"][-1] < 0.9 * told["losses"][0]
    # the teacher was there: nothing was stored
    assert set((place / "run").glob("signals-*")) == stored


def test_a_student_learns_from_what_is_inside_its_teacher(place, tmp_path):
    objectives = [{"name": "kl", "temperature": 1.0}, {"name": "hidden", "weight": 0.1}]
    told = built(place, tmp_path / "kin", distil={"objectives": objectives, "on_policy": 0.3})
    assert told["losses"][-1] < told["losses"][0]


def test_a_student_learns_from_random_draws(place, tmp_path):
    stored = set((place / "run").glob("signals-*"))
    told = built(place, tmp_path / "kin", distil={"signals": "sampled", "top_k": 24})
    assert told["losses"][-1] < 0.9 * told["losses"][0]
    (fresh,) = set((place / "run").glob("signals-*")) - stored
    kept = json.loads((fresh / "signals.json").read_text())["kept"]
    assert (kept["kind"], kept["k"], kept["temperature"]) == ("sampled", 24, 1.0)
    checked = CliRunner().invoke(app, ["check", str(recipe(place, tmp_path / "kin", distil={"signals": "sampled"}))])
    assert "16 random draws of each" in " ".join(checked.stderr.split())


def test_what_was_distilled_is_cut_and_recovers_by_the_same_signals(place, tmp_path, monkeypatch):
    monkeypatch.setattr(prove.speed, "cold_start", lambda *_a, **_k: SimpleNamespace(memory_mib=70.0))
    changes: dict[str, Any] = {
        "prune": {"keep": 0.6, "layers": 1, "kv_heads": 1, "recovery_epochs": 3},
        "distil": {"without_teacher": True},
        "budget": {"memory_mib": 60},
    }
    with pytest.raises(GateFailed, match="fresh process takes 70 MiB of memory, the budget 60 MiB"):
        built(place, tmp_path / "kin", **changes)
    config = json.loads((tmp_path / "kin" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["intermediate_size"], config["hidden_size"]) == (1, 32, 32)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (2, 1)
    told = json.loads((tmp_path / "kin" / "minikin.json").read_text())["measurements"]
    assert told["student"]["parameters"] == told["student_without_teacher"]["parameters"]
    story = json.loads((tmp_path / "kin" / "report.json").read_text())
    assert "prune" in story["seconds"]
    (note,) = (reason for reason in story["reasons"] if reason.startswith("Pruned to 1x32/32, 2 heads on 1"))
    before, after, recovered = (float(number) for number in re.findall(r"([\d.]+) (?:before|after|recovered)", note))
    assert recovered < after > before
    # the student learns from the teacher's word again, its control from people alone
    steps = [json.loads((p / "step.json").read_text()) for p in (place / "run").glob("pruned-*")]
    terms = [[o["name"] for o in step["inputs"]["parts"][3]] for step in steps]
    assert sorted(terms) == [["gold"], ["kl", "gold"]]


@pytest.mark.parametrize(
    ("prune", "words"),
    [
        ({"layers": 3}, "prune: A cut can't be larger than its source: layers 3 > 2"),
        (
            {"hidden": 18},
            "prune: A cut keeps whole heads, 2 to each of its kv_heads, and hidden: 18 is no multiple of 4",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_before_training(place, tmp_path, prune, words):
    with pytest.raises(UserError, match=words):
        minikin.build(recipe(place, tmp_path / "kin", prune=prune), tmp_path / "kin", quiet=True)
    assert not list(tmp_path.glob("kin.run/teacher-*"))


def test_a_checkpoint_keeps_a_merge_or_names_how_many_pieces_that_takes(place, tmp_path):
    path = recipe(place, tmp_path / "kin", student={"model": None, "vocabulary": 100})
    with pytest.raises(UserError, match=r"student\.vocabulary: 100 pieces would all be bytes") as error:
        minikin.build(path, tmp_path / "kin", quiet=True)
    least = int(re.search(r"at least (\d+)", str(error.value))[1])
    for more in (0, 1):
        changes: dict[str, Any] = {"student": {"model": None, "vocabulary": least - 1 + more}}
        build, corpus = as_build(place, tmp_path, **changes)
        refused = nullcontext() if more else pytest.raises(UserError, match=r"student\.vocabulary")
        with refused:
            teacher, _ = generate.origins.found(build, corpus, generate.learn.resolved(build), None)
            assert len(json.loads(teacher.tokenizer_json)["model"]["merges"]) == 1


ACROSS = [{"name": "uld", "temperature": 1.0}]


def test_across_tokenizers_sorted_probabilities_are_compared(place, tmp_path):
    told = built(place, tmp_path / "kin", student={"model": "other"}, distil={"objectives": ACROSS})
    assert told["losses"][-1] < 0.9 * told["losses"][0]
    known = Tokenizer.from_file(str(tmp_path / "kin" / "tokenizer.json")).get_vocab()
    assert set(known) - set(Tokenizer.from_file(str(place / "large" / "tokenizer.json")).get_vocab())


def test_what_is_compared_across_tokenizers_follows_the_same_text(place, tmp_path):
    build, corpus = as_build(place, tmp_path, student={"model": "other"}, distil={"objectives": ACROSS})
    teacher, student = generate.origins.found(
        build, corpus, generate.learn.resolved(build), generate.origins.own(build)
    )
    voice = generate.material.voice(build, corpus, student)
    mine = generate.material.rows(build, corpus, voice, teacher)
    match_M = matched(mine.places_M, mine.taught.places_M)
    ours, theirs = said_before(student, mine.train), said_before(teacher, mine.taught.train)
    pairs = [(ours[m], theirs[int(match_M[m])]) for m in np.flatnonzero(match_M >= 0)]
    assert len(pairs) > 0.3 * len(match_M)
    assert all(a == b for a, b in pairs)


def said_before(student: Student, packed: Packed) -> list[tuple[str, str]]:
    """For each learnt token, what its answer says before it; documents are told apart by their prompt."""
    tokenizer, found = Tokenizer.from_str(student.tokenizer_json), []
    for row in range(len(packed.ids_NT)):
        for t in np.flatnonzero(packed.learnt_NT[row]):
            own = np.flatnonzero(packed.documents_NT[row] == packed.documents_NT[row, t])
            own = own[own < t]
            prompt, answer = (
                tokenizer.decode([int(packed.ids_NT[row, i]) for i in own if packed.learnt_NT[row, i] == learnt])
                for learnt in (False, True)
            )
            # templates write other words around the prompt
            asked = next(p for p in PROMPTS if p in prompt)
            found.append((asked, answer))
    return found


PROMPTS = sorted((row["prompt"] for row in rows()), key=len, reverse=True)


@pytest.mark.parametrize(
    ("distil", "words"),
    [
        ({}, "[{name: uld}, {name: gold}] in place of kl"),
        ({"on_policy": 0.5}, "in place of kl, distil.on_policy"),
    ],
)
@pytest.mark.parametrize("command", ["build", "check"])
def test_what_needs_common_tokens_is_refused_before_training(place, tmp_path, command, distil, words):
    path = recipe(place, tmp_path / "kin", student={"model": "other"}, distil=distil)
    done = CliRunner().invoke(app, [command, str(path), *(["-o", str(tmp_path / "kin")] if command == "build" else [])])
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"model": "nowhere"}}, "student.model: nowhere was not found"),
        ({"distil": {"objectives": [{"name": "hidden", "layers": {1: 9}}]}}, "the teacher 4"),
        ({"distil": {"objectives": [{"name": "hidden", "layers": {7: 1}}]}}, "the student has 2"),
        ({"student": {"model": "other"}, "distil": {"objectives": ACROSS, "top_k": 2000}}, "distil.top_k: 'uld'"),
        ({"student": {"model": "endless"}, "distil": {"on_policy": 0.5}}, "names no end of a text"),
        ({"teacher": {"beams": 4}}, "teacher.beams is about the text of an endpoint or an encoder-decoder"),
        (
            {
                "student": {"model": "other"},
                "distil": {"objectives": ACROSS},
                "data": {"kind": "text", "text": "completion"},
                "budget": {"keep": 0.5},
            },
            "budget.keep compares perplexities",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_training(place, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        minikin.build(recipe(place, tmp_path / "kin", **changes), tmp_path / "kin", quiet=True)
    assert not (tmp_path / "kin").exists()
    assert not list(tmp_path.glob("kin.run/teacher-*"))


def test_check_shows_how_it_will_learn(place, tmp_path):
    changes = {"distil": {"on_policy": 0.25}, "train": {"adapter": {"rank": 8}, "checkpointing": True}}
    changes["prune"] = {"keep": 0.6}
    done = CliRunner().invoke(app, ["check", str(recipe(place, tmp_path / "kin", **changes))])
    assert done.exit_code == 0, done.output
    for words in (
        "tuned 2x32/48",
        "by kl, gold",
        "25%",
        "stays in memory",
        "lora, rank 8",
        "computed twice",
        "the teacher beside it",
        "After that it is cut and recovers for 2 epochs",
    ):
        assert words in done.output


@pytest.mark.parametrize("key", ["layers", "feed_forward", "follow"])
def test_what_is_said_of_an_encoder_is_refused_for_a_decoder(place, tmp_path, key):
    with pytest.raises(UserError, match=f"teacher.{key} is of encoders .*large is a decoder"):
        minikin.build(recipe(place, tmp_path, teacher={key: 8}), tmp_path / "kin", run=tmp_path / "run", quiet=True)
    assert not (tmp_path / "kin").exists()


def test_more_neurons_than_the_encoder_has_are_refused(place, tmp_path):
    toy_checkpoint(place / "narrow", layers=1)
    changes = {"teacher": {"model": "narrow", "feed_forward": 4096}, "student": {"model": None}}
    changes["data"] = {"max_length": 64}
    with pytest.raises(UserError, match=r"teacher\.feed_forward: .*narrow has [0-9]+ neurons, not 4096"):
        minikin.build(recipe(place, tmp_path, **changes), tmp_path / "kin", run=tmp_path / "run", quiet=True)


def test_an_encoder_becomes_a_teacher_that_writes_and_the_student_is_cut_from_it(place, tmp_path):
    toy_checkpoint(place / "encoder", layers=2, initializer=0.15)
    shape = {"start": "cut", "layers": 1, "hidden": 32, "heads": 2, "kv_heads": 2, "feed_forward": 32}
    told = built(
        place,
        tmp_path / "kin",
        data={"max_length": 64},
        teacher={"model": "encoder", "layers": 2, "feed_forward": 48, "follow": 3},
        student={"model": None, "vocabulary": 400} | shape,
    )
    (step,) = (place / "run").glob("followed-*")
    missed = [-score for score in json.loads((step / "history.json").read_text())["scores"]]
    assert 0 < missed[-1] < missed[0] < 1
    assert json.loads((step / "student.json").read_text())["config"]["n_inner"] == 48
    config = json.loads((tmp_path / "kin" / "config.json").read_text())
    assert (config["model_type"], config["n_layer"], config["n_embd"], config["n_inner"]) == ("gpt2", 1, 32, 32)
    assert (Path(told["teacher"]["name"]).name, told["teacher"]["source"]) == ("encoder", "path")
    assert told["losses"][-1] < 0.9 * told["losses"][0]
