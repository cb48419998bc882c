"""The whole line of `generate`, by the command line: build, resume, run, chat, and other tools on the same folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import minikin
from minikin.base.errors import KinError, RecipeError
from minikin.cli import app

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")

ROOMS = ("kitchen", "hall", "attic", "office", "cellar", "porch", "garage", "den")
THINGS = ("lamp", "fan", "heater", "radio", "blind")
WAYS = {
    "on": ("turn on the {t} in the {r}", "{r} {t} on", "please switch the {r} {t} on"),
    "off": ("turn off the {t} in the {r}", "{r} {t} off", "please switch the {r} {t} off"),
}
RECIPE = """\
task: generate
data: {{train: {train}, test: {test}, max_length: 48, json_schema: schema.json}}
teacher: {{size: nano, epochs: 4, batch: 16}}
student: {{size: pico, vocabulary: 320}}
distil: {{epochs: 6, augment: 0}}
train: {{threads: 1, batch: 8}}
gate: {{new_tokens: 24, parity_texts: 20}}
budget: {{size_mib: 2}}
"""


def rows() -> list[dict[str, str]]:
    found = []
    for action, ways in WAYS.items():
        for room in ROOMS:
            for thing in THINGS:
                call = json.dumps({"do": action, "what": thing, "where": room}, separators=(",", ":"))
                found += [{"prompt": way.format(t=thing, r=room), "completion": call} for way in ways]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def write_recipe(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    every = rows()
    (folder / "schema.json").write_text(json.dumps({"properties": {"do": {"enum": list(WAYS)}}, "required": ["what"]}))
    for name, part in (("train", every[:200]), ("test", every[200:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(train="train.jsonl", test="test.jsonl"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writes")
    done = CliRunner().invoke(app, ["build", str(write_recipe(folder)), "-o", str(folder / "kin"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert "perplexity" in done.output
    return folder / "kin"


def test_the_folder_says_what_it_is_and_what_was_measured(built):
    manifest = json.loads((built / "minikin.json").read_text())
    assert (manifest["task"], manifest["family"], manifest["runtime"]) == ("generate", "decoder", "llama_cpp")
    measured = manifest["measurements"]
    assert measured.keys() == {"teacher", "student", "student_without_teacher", "tfidf"}
    # it has learnt: uniform over 320 pieces would be a perplexity of 320
    assert 1 <= measured["student"]["perplexity"] < 30
    assert measured["teacher"]["perplexity"] < 30
    assert measured["student"]["size_mib"] <= 2
    assert measured["student"]["core_share"] > 0
    assert manifest["gate"]["passed"]
    story = json.loads((built / "report.json").read_text())
    assert 0.9 < story["parity"]["perplexity_ratio"] < 1.1
    assert story["parity"]["same_greedy_tokens"] > 0.9
    assert 0 < story["parity"]["kl_nats"] < 0.05
    page = (built / "report.html").read_text(encoding="utf-8")
    assert "https://" not in page
    assert "src=" not in page
    assert (built / "Modelfile").read_text().startswith("FROM ./model.gguf")


def test_every_figure_stands_beside_the_teachers_and_the_controls(built):
    measured = json.loads((built / "minikin.json").read_text())["measurements"]
    student, shares = measured["student"], ("accuracy", "rouge_l", "chrf", "schema_valid", "looping", "memorised")
    for who in ("teacher", "student", "student_without_teacher", "tfidf"):
        for name in shares:
            low, high = measured[who][f"{name}_interval"]
            assert 0 <= low <= measured[who][name] <= high <= 1
    assert measured["tfidf"]["schema_valid"] == student["references"]["schema_valid"] == 1.0
    assert "rouge_l" not in student["references"]
    for who in ("teacher", "student_without_teacher", "tfidf"):
        for name in (*shares, "bits_per_byte") if who != "tfidf" else shares:
            pair = student["minus"][who][name]
            assert pair["difference"] == pytest.approx(student[name] - measured[who][name])
            assert pair["interval"][0] <= pair["difference"] <= pair["interval"][1]
    # a token of this tokenizer is at least a byte, and an end of none follows each answer
    assert 0 < student["bits_per_byte"] < 1.5 * np.log2(student["perplexity"])


def test_samples_are_of_everyone_and_chosen_by_no_outcome(built):
    story, kin = json.loads((built / "report.json").read_text()), minikin.load(built)
    assert len(story["samples"]) == 8
    gold = {row["prompt"]: row["completion"] for row in rows()}
    for row in story["samples"]:
        assert row.keys() == {"text", "truth", "teacher", "student", "student_without_teacher", "tfidf"}
        assert row["truth"] == gold[row["text"]]
        assert row["student"] == kin(row["text"]).text
    chosen = np.sort(np.random.default_rng(0).permutation(40)[:8])
    assert [row["text"] for row in story["samples"]] == [rows()[200 + i]["prompt"] for i in chosen]
    page = (built / "report.html").read_text(encoding="utf-8").replace("&#34;", '"')
    for words in ("Samples", "chrF", "Bits per byte", "Less teacher’s", story["samples"][0]["truth"]):
        assert words in page


def test_transformers_writes_the_same(built):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kin = minikin.load(built)
    model = AutoModelForCausalLM.from_pretrained(built, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(built, local_files_only=True)
    import torch

    ids = kin.ids("kitchen lamp on")
    assert tokenizer.decode(ids).strip() == "kitchen lamp on"
    theirs = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :].tolist()
    ours = kin("kitchen lamp on")
    same = sum(a == b for a, b in zip(ours.tokens, theirs, strict=False))
    # the file is quantized: a near-tie may fall the other way, rarely
    assert same >= min(len(ours.tokens), len(theirs)) - 2


def test_run_answers_lines_in_order(built, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("hall fan off\n\nattic heater on\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["run", str(built), "--file", str(prompts), "--format", "lines", "-v"])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 2
    assert [sorted(line) for line in lines] == [
        ["finish", "text", "tokens", "truncated"],
        ["error", "line"],
        ["finish", "text", "tokens", "truncated"],
    ]
    assert lines[1]["line"] == 2
    kin = minikin.load(built)
    assert lines[0]["text"] == kin("hall fan off").text


def test_a_schema_binds_what_is_written(built, tmp_path):
    schema = {
        "type": "object",
        "properties": {"do": {"enum": ["on", "off"]}, "where": {"enum": list(ROOMS)}},
        "required": ["do", "where"],
        "additionalProperties": False,
    }
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    arguments = ["run", str(built), "anything at all", "--json-schema", str(path), "--temperature", "1.5", "--n", "4"]
    done = CliRunner().invoke(app, [*arguments, "--max-tokens", "40", "--seed", "3"])
    assert done.exit_code == 0, done.output
    completions = json.loads(done.stdout)["completions"]
    said = [json.loads(c["text"]) for c in completions if c["finish"] == "end"]
    assert said
    assert all(s["do"] in ("on", "off") and s["where"] in ROOMS for s in said)
    again = CliRunner().invoke(app, [*arguments, "--max-tokens", "40", "--seed", "3"])
    assert again.stdout == done.stdout


def test_both_engines_write_the_same(built):
    prompts = ["hall fan off", "den blind on"]
    ours, theirs = minikin.load(built), minikin.load(built, engine="torch")
    assert theirs.engine != ours.engine
    # the file is quantized: a near-tie may fall the other way, rarely
    for a, b in zip(ours(prompts), theirs(prompts), strict=True):
        assert sum(x == y for x, y in zip(a.tokens, b.tokens, strict=False)) >= min(len(a.tokens), len(b.tokens)) - 2


def test_chat_ends_with_an_empty_line(built):
    done = CliRunner().invoke(app, ["chat", str(built)], input="porch radio on\n\n")
    assert done.exit_code == 0, done.output
    assert minikin.load(built)("porch radio on").text in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "KIN", "x", "--json-schema", "missing.json"], "missing.json"),
        (["run", "KIN", "x", "--n", "0"], "at least one"),
        (["run", "KIN", " "], "is empty"),
        (["compare", "KIN", "KIN", "--on", "x.csv"], "there is no file x.csv"),
        (["export", "KIN", "--to", "c", "-o", "out"], "writes"),
    ],
)
def test_bad_input_is_told(built, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(built) if a == "KIN" else a for a in arguments])
    assert done.exit_code == 2, done.output
    assert words in done.output


def test_nothing_is_certified_on_training_prompts(built):
    done = CliRunner().invoke(app, ["certify", str(built), "--on", str(built.parent / "train.jsonl"), "--risk", "50%"])
    assert done.exit_code == 2
    assert "was trained on" in " ".join(done.output.split())


def test_a_changed_file_is_refused_by_name(built, tmp_path):
    import shutil

    copy = tmp_path / "kin"
    shutil.copytree(built, copy)
    raw = bytearray((copy / "model.gguf").read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / "model.gguf").write_bytes(bytes(raw))
    with pytest.raises(KinError, match=r"model\.gguf"):
        minikin.load(copy)


def test_a_killed_build_ends_as_an_uninterrupted_one(built, tmp_path):
    recipe = write_recipe(tmp_path)
    # in a folder of another name, which no file that answers may depend on
    command = [sys.executable, "-m", "minikin", "build", str(recipe), "-o", str(tmp_path / "again"), "--quiet"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for stage in ("teacher-", "student-"):
        killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # kill it as soon as the stage has begun
            while killed.poll() is None and not list((tmp_path / "again.run").glob(f"{stage}*")):
                try:
                    killed.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            killed.kill()
            killed.wait()
    assert CliRunner().invoke(app, command[3:]).exit_code == 0
    ours, theirs = (json.loads((k / "minikin.json").read_text())["files"] for k in (tmp_path / "again", built))
    changed = {name for name in theirs if ours[name]["sha256"] != theirs[name]["sha256"]}
    assert changed <= {"recipe.yaml"}  # it holds the paths of the data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("teacher.size=hugs", "sizes are"),
        ("teacher.layers=2", "is of an encoder"),
        ("quantize=int8", "which the task generate has"),
        ("quantize=q2k", "did you mean 'q2_k'"),
        ("teacher.label_smoothing=0.2", "is of the task classify"),
        ("data.messages=talk", "is of data.kind: chat, and here it is pairs"),
        ("student.family=encoder", "the task generate has"),
        ("distil.objectives=[{name: pooled}]", "the task generate has"),
        ("teacher.model=somewhere/else", "give one of them"),
    ],
)
def test_recipes_of_the_other_task_are_refused(tmp_path, change, words):
    recipe = write_recipe(tmp_path)
    with pytest.raises(RecipeError) as error:
        minikin.build(recipe, tmp_path / "kin", overrides=[change], quiet=True)
    assert words in str(error.value) + " ".join(error.value.faults)
    assert not (tmp_path / "kin").exists()


def test_a_file_that_is_no_schema_is_refused_before_training(tmp_path):
    recipe = write_recipe(tmp_path)
    (tmp_path / "schema.json").write_text('{"type": "no such type"}')
    for command in (["check", str(recipe)], ["build", str(recipe), "-o", str(tmp_path / "kin"), "--quiet"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2, done.output
        assert "holds no JSON Schema" in " ".join(done.output.split())
    assert not (tmp_path / "kin.run").exists()


def test_a_vocabulary_without_a_merge_is_refused_with_the_least_that_works(tmp_path):
    recipe = write_recipe(tmp_path)
    arguments = ["check", str(recipe), "--set", "student.vocabulary="]
    least = 256 + 1 + 1 + 3  # bytes, the end of a text, a merge, and three keys of the answers
    for few in (64, least - 1):
        done = CliRunner().invoke(app, [*arguments[:-1], f"{arguments[-1]}{few}"])
        assert done.exit_code == 2
        assert f"student.vocabulary: {few} pieces" in " ".join(done.output.split())
        assert f"Give at least {least}." in " ".join(done.output.split())
    done = CliRunner().invoke(app, [*arguments[:-1], f"{arguments[-1]}{least}"])
    assert done.exit_code == 0, done.output


def test_too_small_a_budget_names_the_nearest(tmp_path):
    recipe = write_recipe(tmp_path)
    done = CliRunner().invoke(
        app, ["build", str(recipe), "-o", str(tmp_path / "kin"), "--quiet", "--set", "budget.size_mib=0.01"]
    )
    assert done.exit_code == 2
    assert "No decoder fits" in done.output
    assert not (tmp_path / "kin").exists()


def test_new_and_check(tmp_path):
    write_recipe(tmp_path)
    train, out = tmp_path / "train.jsonl", tmp_path / "mine.yaml"
    done = CliRunner().invoke(app, ["new", str(train), "--task", "generate", "-o", str(out), "--yes"])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert "kind: pairs" in text
    assert "completion: completion" in text
    checked = CliRunner().invoke(app, ["check", str(out)])
    assert checked.exit_code == 0, checked.output
    assert "task: generate" in checked.output
    assert "tokens to learn" in checked.output
    for step in ("tune", "signals", "distil", "control", "quantize", "gate", "together", "memory", "disk"):
        assert f"\n {step} " in checked.output
    assert "expect it within a factor of two" in " ".join(checked.output.split())
    alone = CliRunner().invoke(app, ["check", str(out), "--set", "teacher=null"]).output
    assert "\n distil " in alone
    assert not any(f"\n {step} " in alone for step in ("tune", "signals", "control", "disk"))


def test_a_checkpoint_is_trimmed_tuned_and_cut(tmp_path):
    import causal

    recipe = write_recipe(tmp_path)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    from minikin.package import transformers

    transformers.write(
        folder, causal.student("llama", hidden_size=64, intermediate_size=96, max_position_embeddings=160)
    )
    text = recipe.read_text().replace("{size: nano, epochs: 4, batch: 16}", "{model: checkpoint, epochs: 1}")
    text = text.replace("{size: pico, vocabulary: 320}", "{start: cut}").replace("max_length: 48", "max_length: 128")
    recipe.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["build", str(recipe), "-o", str(tmp_path / "kin"), "--quiet"])
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "kin" / "config.json").read_text())
    assert config["num_hidden_layers"] == 3
    assert config["intermediate_size"] < 96
    manifest = json.loads((tmp_path / "kin" / "minikin.json").read_text())
    assert manifest["teacher"]["name"]
    assert minikin.load(tmp_path / "kin")("kitchen lamp on").text is not None


def test_running_text_a_budget_of_tokens_and_a_cut(tmp_path):
    said = [f"{row['prompt']}: {row['completion']}" for row in rows()]
    for name, part in (("train", said[:200]), ("test", said[200:])):
        (tmp_path / f"{name}.txt").write_text("\n<|endoftext|>\n".join(part), encoding="utf-8")
    recipe = write_recipe(tmp_path)
    text = RECIPE.format(train="train.txt", test="test.txt").replace("data: {", "data: {kind: text, ")
    text = text.replace(", json_schema: schema.json", "")
    text = text.replace("epochs: 6, augment: 0", "tokens: 2000").replace("student: {size: pico,", "student: {CUT,")
    cut = "start: cut, layers: 2, hidden: 96, heads: 3, kv_heads: 1, feed_forward: 128"
    recipe.write_text(text.replace("CUT", cut), encoding="utf-8")
    done = CliRunner().invoke(app, ["build", str(recipe), "-o", str(tmp_path / "kin"), "--quiet"])
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "kin" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (2, 128)
    measured = json.loads((tmp_path / "kin" / "minikin.json").read_text())["measurements"]
    student = measured["student"]
    assert 1 <= student["perplexity"] < 160
    assert 0 < student["bits_per_byte"] < 8
    assert student.keys() >= {"looping", "repeated_4_grams", "memorised", "references"}
    assert not student.keys() & {"accuracy", "rouge_l", "latency_ms_p50"}
    story = json.loads((tmp_path / "kin" / "report.json").read_text())
    assert len(story["samples"]) == 8
    for row in story["samples"]:
        assert row.keys() == {"text", "truth", "teacher", "student", "student_without_teacher"}
        assert row["text"] + row["truth"] in said[200:]
    assert "bits" in (tmp_path / "kin" / "README.md").read_text(encoding="utf-8")
    (step,) = (tmp_path / "kin.run").glob("student-*/step.json")
    settings = next(p for p in json.loads(step.read_text())["inputs"]["parts"] if isinstance(p, dict) and "epochs" in p)
    assert settings["epochs"] == 1
