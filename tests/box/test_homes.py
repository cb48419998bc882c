"""The commands in the box: enough of every call, all under the schema, nothing twice, and not to be looked up."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from typing import Any

import pytest

from minikin.data.clean import normal
from minikin.data.near import THRESHOLD, pairs

BOX = resources.files("minikin") / "box" / "homes"
ORDER = ("device", "action", "room", "value", "time", "about", "reason")
KINDS = {"object": dict, "integer": int, "string": str}
WORDS = {"$ref", "additionalProperties", "const", "description", "enum", "maximum", "minimum", "oneOf", "pattern"}
WORDS |= {"$schema", "$defs", "properties", "required", "title", "type"}
SPLIT_ALIKE = 8238
"""The first so many rows of training were split off together with the test file; those behind were written later."""
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    return [json.loads(line) for line in (BOX / name).read_text(encoding="utf-8").splitlines()]


def calls(chosen: list[Row]) -> list[dict[str, Any]]:
    return [json.loads(row["completion"]) for row in chosen]


def pair(call: Mapping[str, Any]) -> tuple[str, str]:
    return call["action"], str(call.get("device") or call.get("about") or call.get("reason"))


@pytest.fixture(scope="module")
def train() -> list[Row]:
    return rows("train.jsonl")


@pytest.fixture(scope="module")
def test() -> list[Row]:
    return rows("test.jsonl")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BOX / "schema.json").read_text(encoding="utf-8"))
    return found


def valid(value: Any, rule: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether `value` meets `rule`, for the keywords in `WORDS` only; `test_the_checker...` holds it to them."""
    if "$ref" in rule:
        return valid(value, root["$defs"][rule["$ref"].removeprefix("#/$defs/")], root)
    if "oneOf" in rule and sum(valid(value, each, root) for each in rule["oneOf"]) != 1:
        return False
    if "type" in rule and (not isinstance(value, KINDS[rule["type"]]) or isinstance(value, bool)):
        return False
    if isinstance(value, dict):
        known = rule.get("properties", {})
        closed = rule.get("additionalProperties", True) or set(value) <= set(known)
        inside = all(valid(value[key], known[key], root) for key in set(value) & set(known))
        return closed and inside and set(rule.get("required", ())) <= set(value)
    return (
        ("const" not in rule or value == rule["const"])
        and ("enum" not in rule or value in rule["enum"])
        and ("pattern" not in rule or re.search(rule["pattern"], value) is not None)
        and ("minimum" not in rule or value >= rule["minimum"])
        and ("maximum" not in rule or value <= rule["maximum"])
    )


def test_there_is_enough_of_every_call(train: list[Row], test: list[Row]) -> None:
    assert len(train) >= 1200
    assert len(test) >= 300
    learned, held_out = Counter(map(pair, calls(train))), Counter(map(pair, calls(test)))
    assert set(learned) == set(held_out)
    assert min(learned.values()) >= 7
    assert len({call["device"] for call in calls(train) if "device" in call}) == 17


def test_both_files_are_made_alike(train: list[Row], test: list[Row]) -> None:
    alike = train[:SPLIT_ALIKE]
    learned, held_out = Counter(map(pair, calls(alike))), Counter(map(pair, calls(test)))
    share = len(test) / (len(alike) + len(test))
    for key, count in held_out.items():
        assert abs(count - share * (count + learned[key])) <= 2, key


def test_some_are_refused_and_some_asked_back(train: list[Row], test: list[Row]) -> None:
    for split in (train, test):
        actions = Counter(call["action"] for call in calls(split))
        assert actions["refuse"] + actions["ask"] >= 0.08 * len(split)
        assert min(actions["refuse"], actions["ask"]) >= 0.04 * len(split)


def test_every_call_is_canonical_and_under_the_schema(
    train: list[Row], test: list[Row], schema: dict[str, Any]
) -> None:
    for row in [*train, *test]:
        call = json.loads(row["completion"])
        assert row["completion"] == json.dumps(call, separators=(",", ":"))
        assert list(call) == sorted(call, key=ORDER.index)
        assert valid(call, schema, schema), row


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"device": "light"},
        {"device": "light", "action": "explode"},
        {"device": "light", "action": "on", "room": "attic"},
        {"device": "light", "action": "set"},
        {"device": "light", "action": "set", "value": 101},
        {"device": "heating", "action": "set", "value": 45},
        {"device": "heating", "action": "set", "value": "20"},
        {"device": "lock", "action": "lock"},
        {"device": "wake", "action": "set", "time": "7:00"},
        {"device": "wake", "action": "set", "time": "24:00"},
        {"device": "timer", "action": "start", "value": 5, "room": "kitchen"},
        {"action": "refuse"},
        {"action": "ask", "about": "weather"},
        {"device": "oven", "action": "ask", "about": "value"},
    ],
)
def test_the_schema_refuses_what_no_device_can_do(call: dict[str, Any], schema: dict[str, Any]) -> None:
    assert not valid(call, schema, schema)


def test_the_checker_knows_every_word_of_the_schema(schema: dict[str, Any]) -> None:
    def words(rule: Any) -> set[str]:
        if not isinstance(rule, dict):
            return set().union(*map(words, rule)) if isinstance(rule, list) else set()
        named = {word for key in ("properties", "$defs") for each in rule.get(key, {}).values() for word in words(each)}
        return (
            named
            | set(rule)
            | {w for key, each in rule.items() if key not in ("properties", "$defs") for w in words(each)}
        )

    rules = {key: each for key, each in schema.items() if key != "x-guidance"}  # how llama.cpp spaces it
    assert words(rules) == WORDS
    used = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert used == set(schema["$defs"])


def test_nothing_stands_twice_or_nearly_twice(train: list[Row], test: list[Row]) -> None:
    prompts = [row["prompt"] for row in [*train, *test]]
    assert len({normal(prompt) for prompt in prompts}) == len(prompts)
    near = pairs(prompts, threshold=0.6)
    assert [(prompts[a], prompts[b]) for a, b in near.tolist()] == []
    # Readers compare prompt and completion as one text, and would drop what is near in both.
    whole = [f"{row['prompt']}\n{row['completion']}" for row in [*train, *test]]
    assert len(pairs(whole, threshold=THRESHOLD)) == 0


def test_rows_are_clean(train: list[Row], test: list[Row]) -> None:
    for row in [*train, *test]:
        assert list(row) == ["prompt", "completion"]
        assert row["prompt"] == " ".join(row["prompt"].split()).lower()
        assert row["prompt"].isascii()
        assert 3 <= len(row["prompt"]) <= 160


def test_nothing_is_tested_that_was_never_taught(train: list[Row], test: list[Row]) -> None:
    taught = {item for call in calls(train) for item in call.items()}
    assert {item for call in calls(test) for item in call.items()} <= taught


def test_the_nearest_neighbour_does_not_know_the_call(train: list[Row], test: list[Row]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))
    known_NF = words.fit_transform([row["prompt"] for row in train])
    near_M = (words.transform([row["prompt"] for row in test]) @ known_NF.T).toarray().argmax(1)
    exact = sum(train[i]["completion"] == row["completion"] for i, row in zip(near_M, test, strict=True)) / len(test)
    assert 0.05 < exact < 0.6
