"""An endpoint as the teacher, by the command line: asked once, killed and resumed, validated, forecast and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer
from typer.testing import CliRunner

import causal
import talk
from fake_api import chat, drip, hang_up, serving
from minikin.base import extras
from minikin.base.console import Stages
from minikin.base.errors import DataError, MissingExtra
from minikin.base.folders import RunFolder
from minikin.cli import app
from minikin.feed.causal import student_of
from minikin.feed.speech import ANSWER_BITS
from minikin.package import transformers
from minikin.recipe.ladder import decoder
from minikin.recipe.read import dump, of_values, read
from minikin.steps import generate
from minikin.steps.context import Build
from minikin.train.loop import Settings

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")

ROOMS = ("kitchen", "hall", "attic", "office", "cellar", "porch", "garage", "den")
THINGS = ("lamp", "fan", "heater", "radio", "blind")
GOLD = {
    f"{room} {thing} {way}": json.dumps({"do": way, "what": thing, "where": room}, separators=(",", ":"))
    for way in ("on", "off")
    for room in ROOMS
    for thing in THINGS
}
PROMPTS = sorted(GOLD, key=lambda prompt: prompt[::-1])
TEST, TRAIN = PROMPTS[::5], [prompt for i, prompt in enumerate(PROMPTS) if i % 5]


QUICK = {"timeout_s": 0.5, "retries": 1, "concurrency": 2}


def say(body: dict) -> object:
    """Answer rightly."""
    return 200, {}, chat(GOLD[body["messages"][-1]["content"]], sent=10, received=20)


def write(folder: Path, url: str, **changes: object) -> Path:
    """A recipe over prompts alone, with people's answers to the test's."""
    lines(folder / "prompts.jsonl", [{"prompt": p} for p in TRAIN])
    lines(folder / "test.jsonl", [{"prompt": p, "completion": GOLD[p]} for p in TEST])
    values: dict = {
        "task": "generate",
        "data": {"train": "prompts.jsonl", "test": "test.jsonl", "max_length": 48},
        "teacher": {
            "endpoint": url,
            "model": "big",
            "max_tokens": 40,
            "timeout_s": 0.5,
            "retries": 1,
            "concurrency": 2,
        },
        "student": {"size": "pico", "vocabulary": 320},
        "distil": {"epochs": 3, "augment": 0},
        "quantize": "q8_0",
        "train": {"threads": 1, "batch": 8},
        "gate": {"new_tokens": 24, "parity_texts": 5, "max_flips": 1.0},
    }
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(verb: str, recipe: Path, *more: str) -> object:
    arguments = [verb, str(recipe), *(["-o", str(recipe.parent / "kin")] if verb == "build" else []), *more]
    return CliRunner().invoke(app, arguments)


def test_a_build_killed_while_asking_goes_on_and_pays_for_nothing_twice(tmp_path):
    def slowly(body: dict) -> object:
        time.sleep(0.03)
        return say(body)

    with serving(slowly) as api:
        recipe = write(tmp_path, api.url)
        command = [sys.executable, "-m", "minikin", "build", str(recipe), "-o", str(tmp_path / "kin"), "--quiet"]
        killed = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
        answers = tmp_path / "kin.run" / "answers"
        try:
            while killed.poll() is None and len(list(answers.rglob("*.json"))) < 12:
                time.sleep(0.01)
        finally:
            killed.kill()
            killed.wait()
        kept = {json.loads(path.read_text())["text"] for path in answers.rglob("*.json")}
        assert 12 <= len(kept) < len(PROMPTS)
        before = len(api.texts)
        done = run("build", recipe, "--quiet")
        assert done.exit_code == 0, done.output
        asked_again = api.texts[before:]
        assert sorted(asked_again) == sorted(prompt for prompt in PROMPTS if GOLD[prompt] not in kept)
        asked = len(api.texts)
        assert run("build", recipe, "--quiet").exit_code == 0
        assert len(api.texts) == asked
    told = json.loads((tmp_path / "kin" / "report.json").read_text())
    assert told["measurements"]["teacher"]["accuracy"] == told["measurements"]["teacher"]["rouge_l"] == 1.0
    assert told["measurements"]["student_without_teacher"] is None  # nobody's answers but the teacher's
    assert told["data"]["counts"]["test"] == len(TEST)
    assert not told["agreement"]
    manifest = json.loads((tmp_path / "kin" / "minikin.json").read_text())
    assert manifest["teacher"]["name"] == "big (its text)"
    assert "Keeps" in told["verdict"]
    # prompts come back as the student was trained to read them
    import minikin

    assert minikin.load(tmp_path / "kin")("hall lamp on").text


def test_people_and_teacher_teach_together_and_what_is_invalid_is_left_out(tmp_path):
    pytest.importorskip("jsonschema")
    wrong = {TRAIN[0]: "no JSON at all", TRAIN[1]: '{"do":"explode"}', TRAIN[2]: ""}

    def mostly(body: dict) -> object:
        prompt = body["messages"][-1]["content"]
        return 200, {}, chat(wrong.get(prompt, GOLD[prompt]))

    schema = {"type": "object", "properties": {"do": {"enum": ["on", "off"]}}, "required": ["do", "what"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    lines(tmp_path / "more.jsonl", [{"prompt": p} for p in TRAIN[:24]])
    people = lines(tmp_path / "people.jsonl", [{"prompt": p, "completion": GOLD[p]} for p in TRAIN[24:]])
    with serving(mostly) as api:
        data = {"train": people.name, "unlabelled": "more.jsonl", "json_schema": "schema.json"}
        recipe = write(tmp_path, api.url, data=data, teacher={"system": "Write the call."})
        done = run("build", recipe)
    assert done.exit_code == 0, done.output
    assert api.bodies[0]["messages"][0] == {"role": "system", "content": "Write the call."}
    assert set(api.texts) == {*TRAIN[:24], *TEST}
    words = " ".join(done.output.split())
    assert "unlabelled: 3 rows whose answer by the teacher can't be used, left out: rows 1, 2, 3" in words
    for reason in ("row 1: an answer that is no JSON", "row 2: an answer against the schema", "row 3: an empty answer"):
        assert reason in words
    assert "big: 40 prompts to ask; at most about" in words
    told = json.loads((tmp_path / "kin" / "report.json").read_text())
    assert told["measurements"]["student_without_teacher"]["accuracy"] <= 1.0
    assert told["measurements"]["teacher"]["schema_valid"] == 1.0
    assert set(told["measurements"]["student"]["minus"]["teacher"]) >= {"accuracy", "chrf", "schema_valid", "looping"}
    assert told["data"]["counts"]["train"] > len(TRAIN) - 24


TROUBLE = {
    "hang": (drip, "no answer within 0.5 s"),
    "401": ((401, {}, b"sk-hush"), r"answered 401 (the key is not accepted)"),
    "429": ((429, {"Retry-After": "7200"}, b""), "asks to wait 7,200 s"),
    "500": ((500, {}, b""), "answered 500"),
    "garbage": ((200, {}, b"<html>"), "not a JSON object"),
    "truncated": (hang_up, "the connection broke"),
    "empty choices": ((200, {}, b'{"choices": []}'), "holds no text"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_every_error_of_an_endpoint_is_named_and_leaves_nothing_behind(name, tmp_path):
    trouble, words = TROUBLE[name]
    with serving(lambda _: trouble) as api:
        done = run("build", write(tmp_path, api.url))
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert "hush" not in done.output
    assert not (tmp_path / "kin").exists()
    assert not (tmp_path / "kin.run").exists()


def test_what_was_paid_for_outlives_an_error(tmp_path):
    def until(body: dict) -> object:
        return say(body) if len(api.texts) <= 10 else (401, {}, b"")

    with serving(until) as api:
        recipe = write(tmp_path, api.url)
        assert run("build", recipe, "--quiet").exit_code == 2
        assert len(list((tmp_path / "kin.run" / "answers").rglob("*.json"))) == 10


PRICED = {"price_in": 1e6, "price_out": 1e6}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distil": {"objectives": [{"name": "kl"}]}}, "'kl' compares the teacher's next-token distributions"),
        ({"distil": {"objectives": [{"name": "uld"}]}}, "set teacher.logprobs"),
        ({"distil": {"objectives": [{"name": "uld"}]}, "teacher": {"logprobs": 3}}, "are at temperature 1"),
        ({"teacher": {"logprobs": 21}}, "less than or equal to 20"),
        ({"teacher": {"limit": 1.0}}, "limits nothing without price_in and price_out"),
        ({"teacher": {**PRICED, "limit": 5.0}}, "over the limit of 5.00"),
        ({"teacher": {"key_env": "NO_SUCH_KEY"}}, "NO_SUCH_KEY holds no key"),
        ({"teacher": {"endpoint": "http://example.org/v1", "key_env": "PATH"}}, "over plain http"),
        ({"teacher": {"epochs": 3}}, "is of a teacher that runs here"),
        ({"teacher": {"follow": 1}}, "is of a teacher that runs here"),
        ({"teacher": {"model": ""}}, "the name of the model at that endpoint"),
        ({"teacher": {"endpoint": None}}, "is of a teacher.endpoint, and there is none"),
        ({"teacher": {"endpoint": "localhost:8000"}}, "must start with http"),
        ({"student": {"start": "cut"}}, "which stay at the endpoint"),
        ({"train": {"adapter": {"rank": 4}}}, "give student.model"),
        ({"distil": {"on_policy": 0.5}}, "in memory while the student learns"),
        ({"student": {"model": "nowhere", "size": None, "vocabulary": None}}, "student.model: "),
        ({"data": {"kind": "text", "train": "words.txt", "test": "words.txt"}}, "has no prompts"),
        ({"data": {"json_schema": "none.json"}}, "holds no JSON Schema"),
        ({"data": {"json_schema": "remote.json"}}, "refers to http://127.0.0.1:1/schema, which is not in it"),
        ({"teacher": {"parameters": {"top_p": None}}}, "top_p"),
        ({"teacher": {**PRICED, "limit": 1e9, "parameters": {"max_tokens": None}}}, "may cost more than teacher.limit"),
        ({"teacher": {"beams": 2}}, "is of a teacher that runs here"),
        ({"distil": {"signals": "sampled"}}, "'sampled' estimates kl alone"),
        ({"data": {"train": "test.jsonl", "test": None}}, "every prompt has people's answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_asked(changes, words, tmp_path):
    (tmp_path / "remote.json").write_text('{"properties": {"do": {"$ref": "http://127.0.0.1:1/schema"}}}')
    with serving(say) as api:
        recipe = write(tmp_path, api.url, **changes)
        for verb in ("check", "build"):
            done = run(verb, recipe)
            assert done.exit_code == 2, done.output
            assert words in " ".join(done.output.split())
    assert not api.bodies


def test_other_names_of_parameters_are_sent_and_a_refusal_says_how(tmp_path):
    def modern(body: dict) -> object:
        if "max_tokens" in body:
            error = {"error": {"message": "Unsupported parameter: 'max_tokens'.", "param": "max_tokens"}}
            return 400, {}, json.dumps(error).encode()
        return say(body)

    with serving(modern) as api:
        done = run("build", write(tmp_path, api.url))
        assert done.exit_code == 2, done.output
        assert "It names max_tokens: give another name for it" in " ".join(done.output.split())
        names = {"max_tokens": "max_completion_tokens", "seed": None, "temperature": None}
        recipe = read(write(tmp_path, api.url, teacher={"parameters": names}))
        build = Build(recipe, tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
        generate.ask.told(build, generate.material.data(build))
    assert set(api.bodies[-1]) == {"model", "messages", "max_completion_tokens"}


def test_a_row_that_the_endpoint_refuses_is_named(tmp_path):
    def mostly(body: dict) -> object:
        return (400, {}, b"") if body["messages"][-1]["content"] == TRAIN[6] else say(body)

    with serving(mostly) as api:
        recipe = read(write(tmp_path, api.url))
        build = Build(recipe, tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
        told = generate.ask.told(build, generate.material.data(build))
    (fault,) = (fault for fault in told.corpus.data.faults if fault.kind == "unanswered")
    assert fault.rows == (7,)
    assert "row 7: the endpoint answered 400" in fault.message


def test_check_forecasts_the_cost_and_asks_nothing(tmp_path):
    with serving(say) as api:
        recipe = write(tmp_path, api.url, teacher={**PRICED, "limit": 1e6})
        done = run("check", recipe)
    assert done.exit_code == 0, done.output
    words = " ".join(done.stderr.split())
    assert "big: 80 prompts to ask; at most about" in words
    assert "3,200 written" in words  # 80 answers of at most 40 tokens
    assert "the limit is 1,000,000.00" in words
    assert "tokens to learn" in words
    assert not api.bodies


def test_the_forecast_needs_no_llama_cpp_and_the_build_asks_nothing_without(tmp_path, monkeypatch):
    def need(module, extra):
        if extra == "gguf":
            raise MissingExtra(module, extra)
        return extras.need(module, extra)

    monkeypatch.setattr(generate.ask, "need", need)
    with serving(say) as api:
        build = Build(read(write(tmp_path, api.url)), tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
        corpus = generate.material.data(build)
        assert "80 prompts to ask" in generate.ask.foreseen(build, corpus)[1]
        with pytest.raises(MissingExtra, match="gguf"):
            generate.ask.told(build, corpus)
    assert not api.bodies


def test_a_test_without_answers_measures_agreement(tmp_path):
    def half(body: dict) -> object:
        prompt = body["messages"][-1]["content"]
        return 200, {}, chat(GOLD[prompt] if prompt != TEST[0] else "")

    with serving(half) as api:
        recipe = write(tmp_path, api.url, budget={"keep": 1.0})
        lines(tmp_path / "test.jsonl", [{"prompt": p} for p in TEST])
        done = run("build", recipe, "--quiet", "--set", "distil.epochs=1")
    assert done.exit_code == 3, done.output
    assert "it gives the teacher's answer to" in done.output
    told = json.loads((tmp_path / "kin" / "report.json").read_text())
    assert told["agreement"]
    assert told["measurements"]["teacher"] is None
    assert told["data"]["counts"]["test"] == len(TEST) - 1
    assert "Gives the teacher’s answer to" in told["verdict"]
    card = (tmp_path / "kin" / "README.md").read_text(encoding="utf-8")
    assert "the figures are agreement with the teacher, not correctness" in card
    assert "the teacher's answer, or the same text" in card


def test_chats_end_with_the_teachers_answer(tmp_path):
    def last(body: dict) -> object:
        return 200, {}, chat(f"so {body['messages'][-1]['content']}")

    with serving(last) as api:
        chats = [[{"role": "user", "content": p}, {"role": "assistant", "content": GOLD[p]}] for p in TRAIN]
        open_ended = lines(tmp_path / "more.jsonl", [{"messages": chat[:1]} for chat in chats[:20]])
        lines(tmp_path / "chats.jsonl", [{"messages": chat} for chat in chats[20:]])
        data = {"kind": "chat", "train": "chats.jsonl", "unlabelled": open_ended.name, "test": None}
        recipe = write(tmp_path, api.url, data=data)
        build = Build(read(recipe), tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
        found = generate.material.data(build)
        told = generate.ask.told(build, found)
    assert len(told.corpus.data.train) == len(found.data.train) + len(found.data.unlabelled)
    assert 0 < len(found.data.unlabelled) <= 20
    assert told.people is found
    last_chat = json.loads(str(told.corpus.data.train.texts[len(told.corpus.data.train) - 1]))
    assert last_chat[1] == {"role": "assistant", "content": f"so {last_chat[0]['content']}"}
    assert len(told.test or ()) == len(found.data.test)


@pytest.mark.parametrize("more", [(), ("--teacher", "https://example.org/v1")])
def test_new_proposes_an_endpoint_for_prompts_alone(tmp_path, more):
    write(tmp_path, "")
    out = tmp_path / "mine.yaml"
    done = CliRunner().invoke(
        app, ["new", str(tmp_path / "prompts.jsonl"), "--task", "generate", "-o", str(out), *more]
    )
    assert done.exit_code == 0, done.output
    recipe = read(out)
    assert recipe.data.kind == "pairs"
    assert recipe.teacher is not None
    assert recipe.teacher.endpoint == (more[1] if more else "http://localhost:8000/v1")
    checked = run("check", out, "--set", "student.size=pico")
    assert checked.exit_code == 0, checked.output
    assert "NAME: 64 prompts to ask" in " ".join(checked.stderr.split())


def test_the_recipe_as_resolved_is_a_recipe(tmp_path):
    recipe = read(write(tmp_path, "http://localhost:1/v1"))
    assert of_values(yaml.safe_load(dump(recipe))) == recipe


def spelling(cut: int, sure: float):
    """A service that tells its tokens, of `cut` characters each, and how likely each was."""

    def said(body: dict) -> object:
        answer = GOLD[body["messages"][-1]["content"]]
        tokens = [answer[i : i + cut] for i in range(0, len(answer), cut)] if cut else ["?"]
        tops = [{"token": t, "logprob": float(np.log(sure)), "top_logprobs": [
            {"token": t, "logprob": float(np.log(sure))}, {"token": "~", "logprob": float(np.log((1 - sure) / 2))}]}
            for t in tokens]  # fmt: skip
        reply = json.loads(chat(answer))
        reply["choices"][0]["logprobs"] = {"content": tops}
        return 200, {}, json.dumps(reply).encode()

    return said


@pytest.mark.parametrize(("cut", "share"), [(1, 1.0), (5, 0.5), (0, 0.0)])
def test_log_probabilities_stand_beside_the_students_tokens_or_it_is_said(cut, share, tmp_path):
    with serving(spelling(cut, 0.8)) as api:
        recipe = read(write(tmp_path, api.url, teacher={"logprobs": 2}))
        build = Build(recipe, tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
        told = generate.ask.told(build, generate.material.data(build))
    assert [(o.name, o.temperature) for o in recipe.distil.objectives] == [("gold", 2.0), ("prompt", 2.0), ("uld", 1.0)]
    voice = generate.material.voice(build, told.corpus, None)
    rows = generate.material.rows(build, told.corpus, voice)
    signals = generate.heard.signals(build, told, rows)
    if not share:
        assert signals is None
        assert "text alone" in build.notes[0]
        return
    assert signals is not None
    assert not signals.shared
    known_M = signals.known(np.arange(len(signals)))
    ids_M = np.asarray(rows.train.ids_NT)[np.asarray(rows.train.learnt_NT)]
    # each answer ends with a mark about which the service says nothing
    ends_M = ids_M == Tokenizer.from_str(voice.tokenizer_json).token_to_id("<|endoftext|>")
    assert not known_M[ends_M].any()
    assert known_M[~ends_M].all() if share == 1.0 else 0 < known_M[~ends_M].mean() < 1
    _, values_MK, rest_M = signals.of_rows(np.arange(len(signals)))
    assert np.allclose(np.exp(values_MK[known_M]), [0.8, 0.1], atol=1e-2)
    assert np.allclose(np.exp(rest_M[known_M]), 0.1, atol=1e-2)
    model = generate.learn.made(build, generate.learn.Plan("grown", decoder("pico")), None, voice, rows)
    objectives = generate.aims.objectives(recipe, model.config["num_hidden_layers"], None)
    settings = Settings(epochs=1, batch=8, learning_rate=1e-3)
    trained, _ = generate.learn.trained(build, model, rows, objectives, signals, settings, tmp_path, lambda *_: None)
    assert any((trained.tensors[name] != model.tensors[name]).any() for name in model.tensors)


def test_of_a_chat_only_the_last_answer_has_log_probabilities(tmp_path):
    def turns(before: str, prompt: str) -> dict:
        said = [("user", before), ("assistant", GOLD[before]), ("user", prompt)]
        return {"messages": [{"role": role, "content": words} for role, words in said]}

    lines(tmp_path / "more.jsonl", [turns(b, p) for b, p in pairwise(TRAIN[:32])])
    whole = [turns(b, p) for b, p in pairwise(TRAIN[32:])]
    for chat_ in whole:
        chat_["messages"].append({"role": "assistant", "content": "so"})
    lines(tmp_path / "chats.jsonl", whole)
    with serving(spelling(1, 0.8)) as api:
        data = {"kind": "chat", "train": "chats.jsonl", "unlabelled": "more.jsonl", "test": None, "max_length": 96}
        recipe = read(write(tmp_path, api.url, data=data, teacher={"logprobs": 2}))
        build = Build(recipe, tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
        told = generate.ask.told(build, generate.material.data(build))
    voice = generate.material.voice(build, told.corpus, None)
    rows, voice_ = generate.material.rows(build, told.corpus, voice), Tokenizer.from_str(voice.tokenizer_json)
    signals = generate.heard.signals(build, told, rows)
    assert signals is not None
    answer_M = (np.asarray(rows.places_M) >> ANSWER_BITS) & 1
    known_M = signals.known(np.arange(len(signals)))
    assert not known_M[answer_M == 0].any()
    # all of it but the mark at its end
    texts = [json.loads(str(text))[-1]["content"] for text, _ in told.heard]
    assert len(texts) > 20
    assert known_M.sum() == sum(len(voice_.encode(text).ids) for text in texts)


def test_a_checkpoint_of_the_students_own_learns_by_adapters_what_an_endpoint_says(tmp_path):
    own = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 160}
    small = student_of(causal.model_of("llama", **own, vocab_size=320), talk.byte_level(297), talk.byte_config())
    (tmp_path / "small").mkdir()
    transformers.write(tmp_path / "small", small)
    changes: dict = {
        "data": {"max_length": 128},
        "teacher": {"logprobs": 2},
        "student": {"model": "small", "size": None, "vocabulary": None},
        "train": {"adapter": {"rank": 4}},
    }
    with serving(spelling(1, 0.8)) as api:
        recipe = write(tmp_path, api.url, **changes)
        checked = run("check", recipe)
        assert checked.exit_code == 0, checked.output
        assert "where the endpoint and the student both cut the text" in " ".join(checked.stderr.split())
        assert not api.bodies
        done = run("build", recipe)
    assert done.exit_code == 0, done.output
    assert "log-probabilities stand beside" in " ".join(done.output.split())
    manifest = json.loads((tmp_path / "kin" / "minikin.json").read_text())
    assert manifest["teacher"]["name"] == "big (its text)"
    assert Path(manifest["base"]["name"]).name == "small"


def test_answers_longer_than_the_context_are_told_by_row_each_time(tmp_path, capsys):
    rows = [{"prompt": p, "completion": GOLD[p] * (1 + i % 2 * 9)} for i, p in enumerate(TRAIN)]
    lines(tmp_path / "people.jsonl", rows)
    values = yaml.safe_load(write(tmp_path, "").read_text()) | {"teacher": None}
    values["data"]["train"] = "people.jsonl"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    build = Build(read(tmp_path / "recipe.yaml"), tmp_path / "kin", RunFolder(tmp_path / "run"), Stages())
    corpus = generate.material.data(build)
    long = sum(row % 2 == 0 for row in corpus.data.train.rows_N)
    voice = generate.material.voice(build, corpus, None)
    for _ in range(2):
        generate.material.rows(build, corpus, voice)
        words = " ".join(capsys.readouterr().err.split())
        assert f"train: {long} rows longer than the context, left out: rows " in words


def test_where_no_example_fits_rows_are_counted_and_not_their_copies(tmp_path):
    lines(tmp_path / "people.jsonl", [{"prompt": p, "completion": GOLD[p]} for p in TRAIN])
    recipe = write(tmp_path, "", data={"train": "people.jsonl", "max_length": 4}, distil={"augment": 4}, teacher=None)
    build = Build(read(recipe), tmp_path / "kin", RunFolder(tmp_path / "run"), Stages(quiet=True))
    corpus = generate.material.data(build)
    with pytest.raises(DataError, match=rf"train: {len(corpus.data.train)} rows longer than the context"):
        generate.material.rows(build, corpus, generate.material.voice(build, corpus, None))
