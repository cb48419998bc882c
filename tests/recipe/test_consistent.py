from typing import Any

import pytest

from minikin.base.errors import RecipeError
from minikin.recipe.read import of_values


def _faults(**sections: Any) -> list[str]:
    try:
        of_values({"data": {"train": "a.csv"}, "teacher": "t", **sections})
    except RecipeError as error:
        return error.faults
    return []


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"data": {"train": "a.csv", "test": "a.csv"}}, "data.test: is the same as data.train"),
        ({"data": {"train": "a", "test": "b", "validation": "b"}}, "data.test: is the same as data.validation"),
        ({"data": {"train": "a.csv", "text": "label"}}, "data.text: names a column twice"),
        ({"data": {"train": "a.csv", "text": ["a", "a"]}}, "data.text: names a column twice"),
        ({"teacher": None, "budget": {"keep": 0.9}}, "budget.keep: is a share of the teacher's"),
        ({"teacher": None, "student": {"start": "cut"}}, "student.start: a cut student is made from the teacher"),
        ({"teacher": None, "distil": {"objectives": [{"name": "kl"}]}}, "objectives.0.name: 'kl' needs a teacher"),
        ({"distil": {"objectives": [{"name": "kl"}, {"name": "kl"}]}}, "objectives.1.name: 'kl' stands here twice"),
        (
            {"student": {"family": "static"}, "distil": {"objectives": [{"name": "attention"}]}},
            "'attention' compares layers",
        ),
        ({"distil": {"objectives": [{"name": "kl", "layers": {0: 0}}]}}, "'kl' compares no layers"),
        ({"distil": {"objectives": [{"name": "hidden", "layers": {-1: 0}}]}}, "0 is the embeddings"),
        ({"distil": {"objectives": [{"name": "hidden", "layers": {}}]}}, "0 is the embeddings"),
        (
            {"student": {"layers": 2}, "distil": {"objectives": [{"name": "hidden", "layers": {3: 0}}]}},
            "the student has only layers 1 to 2",
        ),
        ({"student": {"hidden": 64, "heads": 5}}, "student.heads: hidden 64 can't be divided among 5 heads"),
        ({"student": {"size": "slim", "hidden": 128}}, "student.hidden: hidden 128 can't be divided among 3 heads"),
        ({"student": {"family": "static", "layers": 2}}, "student.layers: a static student has none"),
        ({"student": {"family": "static", "embedding": 64}}, "student.embedding: a static student has none"),
        ({"student": {"hidden": 128, "embedding": 128}}, "student.embedding: a factorised table is narrower"),
        ({"student": {"layers": 2, "embedding": 192}}, "narrower than the student, which is 128 wide"),
        ({"task": "generate", "student": {"embedding": 64}}, "student.embedding: is the width of an encoder's"),
        ({"student": {"family": "static", "hidden": 512}}, "student.hidden: a static student is 32 to 256 wide"),
        ({"student": {"family": "static", "start": "cut"}}, "student.start: a static student is never cut"),
        ({"student": {"family": "static"}, "prune": {"keep": 0.5}}, "prune.keep: a static student has no neurons"),
        ({"distil": {"tokens": 1000}}, "distil.tokens: bounds the task generate"),
        ({"task": "generate", "distil": {"tokens": 9, "epochs": 2}}, "distil.tokens: says the same as epochs"),
        ({"task": "generate", "distil": {"tokens": 9}, "train": {"epochs": 2}}, "says the same as epochs"),
    ],
)
def test_contradictions_are_refused(sections: dict[str, Any], words: str) -> None:
    assert any(words in fault for fault in _faults(**sections))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"teacher": None, "distil": {"objectives": [{"name": "gold"}]}},
        {"teacher": None, "student": {"start": "grown"}},
        {"student": {"family": "encoder", "size": "tiny", "hidden": 192}},
        {"student": {"family": "static", "size": "pico", "hidden": 256}},
        {"student": {"size": "mini", "embedding": 96}},
        {"student": {"embedding": 96}},
        {"student": {"layers": 2}, "distil": {"objectives": [{"name": "relations", "layers": {1: 5}}]}},
        {"data": {"train": "a.csv", "text": ["a", "b"], "label": "c"}},
    ],
)
def test_what_fits_together_passes(sections: dict[str, Any]) -> None:
    assert _faults(**sections) == []


GROWN = {"task": "generate", "teacher": {"size": "nano"}}
FOUND = {"task": "generate"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"student": {"model": "m"}}, "student.model: is of the task generate"),
        ({"distil": {"on_policy": 0.5}}, "distil.on_policy: is of the task generate"),
        ({"distil": {"signals": "sampled"}}, "distil.signals: is of the task generate"),
        ({"train": {"adapter": {}}}, "train.adapter: is of the task generate"),
        ({"train": {"checkpointing": True}}, "train.checkpointing: is of the task generate"),
        ({"data": {"train": "t", "json_schema": "s.json"}}, "data.json_schema: is of the task generate"),
        ({"gate": {"max_looping": 0.0}}, "gate.max_looping: is of the task generate"),
        ({"gate": {"max_memorised": 0.1}}, "gate.max_memorised: is of the task generate"),
        (FOUND | {"data": {"train": "t", "json_schema": "s.json", "kind": "text"}}, "data.json_schema: is of answers"),
        ({"student": {"kv_heads": 2}}, "student.kv_heads: is of the task generate"),
        ({"prune": {"layers": 2}}, "prune.layers: is of the task generate"),
        ({"gate": {"new_tokens": 9}}, "gate.new_tokens: is of the task generate"),
        ({"data": {"train": "a.csv", "prompt": "q"}}, "data.prompt: is of the task generate"),
        (FOUND | {"data": {"train": "a", "label": "l"}}, "data.label: is of the task classify"),
        (FOUND | {"teacher": {"model": "t", "freeze_embeddings": False}}, "teacher.freeze_embeddings: is of the task"),
        (FOUND | {"data": {"train": "a", "text": "t"}}, "data.text: is of data.kind: text, and here it is pairs"),
        (FOUND | {"data": {"train": "a", "kind": "chat"}, "distil": {"augment": 2}}, "distil.augment: changes the"),
        (FOUND | {"data": {"train": "a", "kind": "text"}, "budget": {"latency_ms_p95": 9}}, "is of whole answers"),
        (FOUND | {"teacher": {"size": "nano", "fit": False}}, "teacher.fit: a teacher that is grown"),
        (FOUND | {"prune": {"recovery_epochs": 5}}, "prune.recovery_epochs: are passes after a cut"),
        (FOUND | {"quantize": "int4"}, "'int4' is none of auto, f16, q8_0"),
        ({"quantize": "iq2_xs"}, "'iq2_xs' is none of auto, fp32, int8, int4, int4-int8, which the task classify has"),
        (FOUND | {"student": {"model": "m", "start": "grown"}}, "student.start: a grown student has new weights"),
        (FOUND | {"student": {"model": "m", "layers": 2}}, "student.layers: student.model has its own"),
        (GROWN | {"train": {"adapter": {}}}, "train.adapter: learns beside trained weights"),
        (FOUND | {"student": {"start": "grown"}, "train": {"adapter": {}}}, "train.adapter: learns beside trained"),
        (FOUND | {"teacher": None, "distil": {"on_policy": 1}}, "distil.on_policy: needs a teacher that is in memory"),
        (FOUND | {"distil": {"on_policy": 1, "objectives": [{"name": "gold"}]}}, "needs an objective beside gold"),
        (FOUND | {"distil": {"on_policy": 1, "signals": "sampled"}}, "estimates kl alone"),
        (FOUND | {"distil": {"signals": "sampled", "objectives": [{"name": "js"}]}}, "and not js; use top"),
        (FOUND | {"distil": {"signals": "sampled", "objectives": [{"name": "gold"}]}}, "and not gold; use top"),
        (FOUND | {"teacher": {"model": "t", "parameters": {"seed": None}}}, "is of a teacher.endpoint"),
        (GROWN | {"teacher": {"size": "nano", "beams": 2}}, "teacher.beams: is of a teacher.endpoint"),
        (FOUND | {"distil": {"on_policy": 1, "objectives": [{"name": "uld"}]}}, "'uld' is for one with another"),
        (FOUND | {"distil": {"objectives": [{"name": "uld"}, {"name": "hidden"}]}}, "objectives.1.name: needs a"),
    ],
)
def test_what_decoders_cannot_combine_is_refused(sections: dict[str, Any], words: str) -> None:
    assert any(words in fault for fault in _faults(**sections)), _faults(**sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"student": {"model": "m"}, "train": {"adapter": {"kind": "dora", "rank": 4}}},
        {"student": {"model": "m", "start": "cut", "layers": 2}, "teacher": None},
        {"train": {"adapter": {}}},
        {"distil": {"on_policy": 0.5, "objectives": [{"name": "kl", "temperature": 1}, {"name": "hidden"}]}},
        GROWN | {"distil": {"on_policy": 1}},
        {"data": {"train": "t", "json_schema": "s.json"}, "gate": {"max_looping": 0.0, "max_memorised": 0.01}},
        {"prune": {"keep": 0.5, "layers": 2, "hidden": 64, "kv_heads": 1, "recovery_epochs": 5}},
        {"quantize": "iq2_xs"},
        {"data": {"train": "a", "kind": "text", "text": "t"}, "distil": {"augment": 0}},
        {"student": {"model": "m"}, "distil": {"objectives": [{"name": "uld"}, {"name": "gold"}]}},
    ],
)
def test_what_decoders_can_combine_passes(sections: dict[str, Any]) -> None:
    assert _faults(**(FOUND | sections)) == []
