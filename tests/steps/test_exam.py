"""What the gate asks and says of answers, and how far a shipped file is from the model in training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import causal
from minikin.base.types import UNKNOWN_LABEL, Data, Split
from minikin.data.generate import Corpus
from minikin.feed.causal import model_of
from minikin.measure.memorised import RUN
from minikin.recipe.schema import Recipe
from minikin.steps.generate import exam as exams
from minikin.steps.generate import prove
from minikin.steps.generate.exam import exam, samples, wrong

LONG = "the quick brown fox jumps over the lazy dog and " * 6
PARAGRAPH = " ".join(f"{i} of {i * i}" for i in range(60))
assert len(PARAGRAPH) > RUN


def split(texts) -> Split:
    return Split(texts, np.full(len(texts), UNKNOWN_LABEL), np.arange(len(texts)) + 1)


def corpus(train, test, kind="pairs") -> Corpus:
    empty = split([])
    data = Data(
        train=split(train), validation=empty, calibration=empty, test=split(test), unlabelled=empty,
        labels=(), faults=(), digest="",
    )  # fmt: skip
    return Corpus(data, kind)


def test_answers_are_checked_against_schema_and_training_texts():
    asked = exam(
        corpus([("old", PARAGRAPH)], [("a", "1"), ("b", PARAGRAPH), ("c", "3")]),
        lambda text: None if text.isdigit() else "no number",
    )
    told = asked.quoted(["1", PARAGRAPH, f"so: {PARAGRAPH}"])
    assert told.exact_N.tolist() == [1, 1, 0]
    assert told.scores["schema_valid"].tolist() == [1, 0, 0]
    # what is the reference's too was rightly written
    assert told.scores["memorised"].tolist() == [0, 0, 1]
    references = asked.references()
    assert references.scores.keys() == {"looping", "repeated_4_grams", "memorised", "schema_valid"}
    assert references.scores["memorised"].tolist() == [0, 1, 0]


def test_a_chat_is_shown_by_its_last_message():
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"},
            {"role": "user", "content": "bye"}, {"role": "assistant", "content": "so long"}]  # fmt: skip
    asked = exam(corpus([json.dumps(chat)], [json.dumps(chat)], "chat"), None)
    said = {"teacher": asked.quoted(["so long"]), "student": asked.quoted(["hm"])}
    row = {"text": "bye", "truth": "so long", "teacher": "so long", "student": "hm"}
    assert samples(asked, said, 0) == wrong(asked, said) == [row]


def test_running_text_is_opened_before_a_space():
    texts = ["ab", "x", "one two three four", "w" * 1000, LONG * 3]
    asked = exam(corpus(["t"], texts, "text"), None)
    assert [a + b for a, b in zip(asked.prompts, asked.answers, strict=True)] == texts
    assert [len(a) for a in asked.prompts[:4]] == [1, 1, 7, exams.OPENING]
    assert asked.prompts[4] == LONG[:195]
    assert asked.answers[4].startswith(" quick")
    whole = exam(corpus(["t"], ["y" * 1_000_000], "text"), None)
    assert (len(whole.prompts[0]), len(whole.answers[0])) == (exams.OPENING, exams.REST)
    told = asked.quoted([" and so on" * 5] * 5)
    assert told.summary(0).keys() == {
        f"{name}{end}" for name in ("looping", "repeated_4_grams", "memorised") for end in ("", "_interval")
    }
    assert told.scores["looping"].all()


@pytest.mark.parametrize(("limit", "fails"), [(None, False), (0.5, False), (0.3, True)])
def test_loops_are_told_or_fail_where_the_recipe_sets_a_limit(limit, fails):
    asked = exam(corpus([("t", "t")], [(str(i), "x") for i in range(20)]), None)
    told = asked.quoted(["on and on " * 9 if i % 5 < 2 else "x" for i in range(20)])
    recipe = Recipe(task="generate", teacher=None, data={"train": "t"}, gate={"max_looping": limit})
    found = {"student": prove.Subject(told, {**told.summary(0), "size_mib": 1.0})}
    gate = prove.verdict(recipe, found, {"perplexity_ratio": 1.0, "texts": 1})
    assert gate["passed"] is not fails
    assert [r for r in gate["reasons"] if "40.0% of what it writes ends in a loop (at most 30.0%)" in r] == gate[
        "reasons"
    ]
    notes = prove.flaws(recipe, told, asked.references(), 0)
    assert notes == ([] if limit else ["40.0% of what it writes ends in a loop (0.0% of the test's own texts)."])


def test_the_shipped_files_distributions_are_compared_with_those_of_the_trained_model():
    pytest.importorskip("xllamacpp")
    from minikin.steps.generate.parity import parity
    from minikin.steps.generate.ship import packaged_aside

    student = causal.student("llama")
    found = corpus(["t"], ["turn the hall lights down", "play some jazz in the kitchen please", "a lake"], "text")
    head = student.tensors["lm_head.weight"]
    shaken = head + 0.3 * np.random.default_rng(0).normal(size=head.shape).astype(np.float32)
    other = replace(student, tensors={**student.tensors, "lm_head.weight": shaken})
    with packaged_aside(student, "F16", "text", 8) as kin:
        same, apart = (parity(kin, one, found, 3) for one in (student, other))
        spoken = kin.spoken(found.data.test.texts, "text")
    assert same["same_greedy_tokens"] > 0.97
    assert same["kl_nats"] < 1e-4
    assert same["perplexity_ratio"] == pytest.approx(1.0, abs=1e-3)
    logits = []
    with torch.inference_mode():
        for model in (model_of(other), model_of(student)):
            every = [model(input_ids=torch.tensor(s.ids_T[None].astype(np.int64))).logits[0, :-1] for s in spoken]
            logits.append(torch.cat(every).double().log_softmax(-1))
    log_p, log_q = logits
    assert apart["tokens"] == len(log_p) == sum(len(s.ids_T) - 1 for s in spoken)
    assert apart["kl_nats"] == pytest.approx(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()), rel=1e-2)
    assert apart["kl_nats"] > 0.01
    alike = float((log_p.argmax(-1) == log_q.argmax(-1)).double().mean())
    assert apart["same_greedy_tokens"] == pytest.approx(alike, abs=0.05)
