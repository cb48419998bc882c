"""A kin that writes, certified by the command line: by exact match, by verdicts; what it may answer, and the rest."""

import json
import shutil

import numpy as np
import pytest

import causal
from fake_api import serving
from minikin.base import manifest
from minikin.equations.metrics import same
from minikin.package import decoder_kin
from minikin.runtimes.load import load
from minikin.trust.asked import completed
from minikin.trust.handover import HandOver
from minikin.trust.queue import Queue
from minikin.trust.verdicts import parts_of

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")

EVERY = [
    f"{a} the {b} {c}" for a in ("turn", "play", "like", "had") for b in ("lights", "jazz", "dog") for c in range(15)
]
PROMPTS = [EVERY[i] for i in np.random.default_rng(1).permutation(len(EVERY))]  # else the watch sees them drift
RECIPE = "task: generate\ndata: {prompt: asked, completion: told}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A random model: what it writes of itself stands for what is right, but for half of what it is least sure of."""
    folder = tmp_path_factory.mktemp("writes") / "kin"
    folder.mkdir()
    trained_on = np.array([7], np.uint64)
    extra = {"name": "toy"}
    decoder_kin.write(
        folder,
        causal.student(),
        "F16",
        kind="pairs",
        new_tokens=4,
        recipe_yaml=RECIPE,
        extra=extra,
        trained_on=trained_on,
    )
    kin = load(folder)
    found = [completed(kin, prompt) for prompt in PROMPTS]
    unsure = np.argsort([parts_of(one)[0] for one in found])[: len(found) // 3]
    wrong = set(unsure[::2].tolist())
    right = ["something else" if i in wrong else one.text for i, one in enumerate(found)]
    return folder, right, [one.text for one in found], wrong


@pytest.fixture
def kin(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "kin")


def write(path, answers, **more):
    columns = {"asked": PROMPTS, "told": answers, **more}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def certified(say, kin, answers, *more, **columns):
    on = write(kin.parent / "labelled.jsonl", answers, **columns)
    done = say("certify", kin, "--on", on, "--risk", "20%", *more)
    return done.exit_code, " ".join(done.output.split())


def test_what_it_writes_surely_is_covered_and_the_rest_handed_over(say, made, kin):
    _, right, own, wrong = made
    code, told = certified(say, kin, right)
    assert code == 0, told
    value = json.loads((kin / manifest.CERTIFICATE).read_text())
    assert (value["task"], value["labels"]["judged"], value["score"]["parts"][0]) == ("generate", "labels", "mean")
    assert value["bound"] <= 0.2
    assert value["labels"]["training_rows_checked"]
    author = load(kin)
    answers = author(PROMPTS)
    covered = [i for i, one in enumerate(answers) if one.certified]
    assert value["k"] <= len(wrong & set(covered)) <= 0.2 * len(covered)
    assert 0 < len(covered) < len(PROMPTS)
    assert all(one.certified == (one.reason == "") for one in answers)
    line = json.loads(say("run", kin, PROMPTS[0]).stdout)
    assert (line["text"], line["certified"]) == (own[0], answers[0].certified)
    # other settings are not what was certified
    drawn = json.loads(say("run", kin, PROMPTS[covered[0]], "--temperature", "0.7").stdout)
    assert not drawn["certified"]
    assert "otherwise" in drawn["reason"]

    (kin.parent / "handover.yaml").write_text("audit: {share: 0}\n")
    given = say("run", kin, *PROMPTS, "--hand-over", kin.parent / "handover.yaml")
    rows = [json.loads(one) for one in given.stdout.splitlines()]
    assert [not row["handed_over"] for row in rows] == [one.certified for one in answers]
    assert [row["text"] for row in rows] == [
        text if one.certified else None for text, one in zip(own, answers, strict=True)
    ]
    waiting = Queue(kin.parent / "queue.db").items()
    assert {row["text"] for row in waiting} == {PROMPTS[i] for i in range(len(PROMPTS)) if i not in covered}


def test_people_answer_in_their_own_words_and_that_is_exported(say, made, kin):
    certified(say, kin, made[1])
    (kin.parent / "handover.yaml").write_text("audit: {share: 1}\n")
    files = ("--hand-over", kin.parent / "handover.yaml")
    rows = [json.loads(one) for one in say("run", kin, *PROMPTS, *files).stdout.splitlines()]
    tasks = [json.loads(one) for one in say("queue", kin, "next", "-n", "200", *files).stdout.splitlines()]
    right = dict(zip(PROMPTS, made[1], strict=True))
    lines = "".join(json.dumps({"id": task["id"], "label": right[task["text"]]}) + "\n" for task in tasks)
    assert f"{len(PROMPTS)} kept" in say("queue", kin, "answer", *files, input=lines).output
    state = say("audit", kin, *files)
    assert state.exit_code == 0, state.output
    wrong = sum(
        not row["handed_over"] and not same(row["text"], right[p]) for row, p in zip(rows, PROMPTS, strict=True)
    )
    local = sum(not row["handed_over"] for row in rows)
    assert f"{wrong} wrong of {local}" in " ".join(state.output.split())
    out = kin.parent / "sample.jsonl"
    assert say("queue", kin, "export", "--part", "audit", "-o", out, *files).exit_code == 0
    assert {(row["asked"], row["told"]) for row in map(json.loads, out.read_text().splitlines())} == set(right.items())


def test_verdicts_stand_for_labels_but_only_on_its_own_answers(say, made, kin):
    _, _, own, wrong = made
    verdicts = [i not in wrong for i in range(len(own))]
    code, told = certified(say, kin, own, "--verdict", "fine", fine=verdicts)
    assert code == 0, told
    value = json.loads((kin / manifest.CERTIFICATE).read_text())
    assert value["labels"]["judged"] == "verdicts"
    assert "verdict" in " ".join(value["promises"])
    assert {one.certified for one in load(kin)(PROMPTS)} == {True, False}
    (kin.parent / "handover.yaml").write_text("audit: {share: 1}\n")
    refused = say("audit", kin, "--hand-over", kin.parent / "handover.yaml")
    assert refused.exit_code == 2
    assert "verdicts" in refused.output
    code, told = certified(say, kin, ["another answer", *own[1:]], "--verdict", "fine", fine=verdicts)
    assert code == 2
    assert "1 verdict of 180 (the first in row 1) are on answers that this kin does not give" in told


def test_a_larger_kin_and_an_endpoint_write_what_it_may_not(say, made, kin, monkeypatch):
    certified(say, kin, made[1])
    author = load(kin)
    sure = next(p for p, one in zip(PROMPTS, author(PROMPTS), strict=True) if one.certified)
    unsure = next(p for p, one in zip(PROMPTS, author(PROMPTS), strict=True) if not one.certified)
    with serving(lambda body: f"said {body['messages'][-1]['content']}") as api:
        text = f"large: {{url: '{api.url}', model: big, retries: 0}}\negress: {{allow: true}}\naudit: {{share: 0}}\n"
        (kin.parent / "handover.yaml").write_text(text)
        lines = say("run", kin, sure, unsure, "--hand-over", kin.parent / "handover.yaml").stdout.splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["text"] for row in rows] == [author(sure).text, f"said {unsure}"]
        assert api.texts == [unsure]
        assert api.bodies[0]["max_tokens"] == 4
    # a larger kin by hand: this random one mostly comes to no end, and that is no answer
    both = HandOver(author, large=load(made[0]))
    reply = both(unsure)
    alone = completed(load(made[0]), unsure)
    assert (reply.label == alone.text) == (alone.finish == "end")
    assert reply.handed_over
    # a kin that stands above answers only what its own certificate allows
    (kin.parent / "handover.yaml").write_text(f"large: {{kin: {made[0]}}}\n")
    row = json.loads(say("run", kin, unsure, "--hand-over", kin.parent / "handover.yaml").stdout)
    assert row["text"] is None


def spoil(name):
    def do(kin):
        path = kin / name
        path.write_bytes(path.read_bytes() + b" ")
        held = json.loads((kin / manifest.NAME).read_text())
        held["files"].pop(name)  # as one would who wants it to load all the same
        (kin / manifest.NAME).write_text(json.dumps(held))

    return do


def more_tokens(kin):
    held = json.loads((kin / manifest.NAME).read_text())
    (kin / manifest.NAME).write_text(json.dumps({**held, "new_tokens": 9}))


@pytest.mark.parametrize("change", [spoil("tokenizer_config.json"), more_tokens], ids=["template", "length"])
def test_whatever_decides_what_is_written_voids_it(say, made, kin, change):
    certified(say, kin, made[1])
    change(kin)
    one = load(kin)(PROMPTS[0])
    assert not one.certified
    assert "configuration changed" in one.reason


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--sets", "90%"), "--sets is for kins that sort"),
        (("--reject", "none"), "--reject is for kins that sort"),
        (("--verdict", "told"), "true or false"),
        (("--risk", "0.1%"), "too few"),
        (("--label", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_told(say, made, kin, more, words):
    code, told = certified(say, kin, made[1], *more)
    assert code == 2, told
    assert words in told
    assert not (kin / manifest.CERTIFICATE).exists()


def test_options_of_writing_do_not_go_with_hand_over(say, made, kin):
    (kin.parent / "handover.yaml").write_text("{}\n")
    done = say("run", kin, PROMPTS[0], "--hand-over", kin.parent / "handover.yaml", "--temperature", "1")
    assert done.exit_code == 2
    assert "as it was certified" in done.output


def test_advise_says_what_the_answers_prove(say, made, kin):
    on = write(kin.parent / "labelled.jsonl", made[1])
    done = say("advise", kin, "--on", on, "--risk", "20%")
    assert done.exit_code == 0, done.output
    assert "A small model is right here" in " ".join(done.output.split())
