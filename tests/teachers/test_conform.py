"""JSON Schemas that answers are checked by: what can't be checked without the network is refused when it is read."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from minikin.base.errors import UserError
from minikin.teachers.conform import validator

pytest.importorskip("jsonschema")


def schema(folder: Path, value: Any) -> str:
    path = folder / "schema.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("somebody wanted the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.mark.parametrize(
    "value",
    [
        {"$defs": {"n": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/n"}}},
        {
            "$id": "https://example.org/me",
            "$defs": {"n": {"$anchor": "n", "type": "integer"}},
            "properties": {"x": {"$ref": "#n"}, "y": {"$ref": "https://example.org/me#/$defs/n"}},
        },
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"n": {"type": "integer"}},
            "properties": {"x": {"$ref": "#/definitions/n"}, "$ref": {"type": "string"}},
        },
    ],
)
def test_references_inside_are_followed(tmp_path, value):
    wrong = validator(schema(tmp_path, value))
    assert wrong('{"x": 1}') is None
    assert "'a' is not of type 'integer'" in wrong('{"x": "a"}')
    assert wrong("{") == "an answer that is no JSON"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"$ref": "https://example.org/a.json"}, "refers to https://example.org/a.json"),
        ({"properties": {"x": {"items": {"$ref": "other.json"}}}}, "refers to other.json"),
        ({"properties": {"x": {"$ref": "#/$defs/none"}}}, "refers to #/\\$defs/none"),
        ({"$dynamicRef": "#none"}, "refers to #none"),
        ({"$ref": "#"}, "holds no JSON Schema"),
        ({"type": "strong"}, "holds no JSON Schema"),
        ([1], "holds no JSON Schema"),
    ],
)
def test_what_refers_elsewhere_or_is_none_is_refused(tmp_path, value, words):
    with pytest.raises(UserError, match=words):
        validator(schema(tmp_path, value))
