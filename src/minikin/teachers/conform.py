"""Whether an answer is JSON that satisfies a schema. Nothing is fetched: a schema holds all that it refers to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minikin.base.errors import UserError
from minikin.base.extras import need
from minikin.teachers.answers import Validate

REFERENCES = ("$ref", "$dynamicRef")


def validator(path: str | None) -> Validate | None:
    """What says whether an answer is JSON that satisfies the schema in a file; None for no file.

    Raises UserError for a file that holds no JSON Schema, or one that refers to what is not in it.
    """
    if path is None:
        return None
    jsonschema, referencing = need("jsonschema", "build"), need("referencing", "build")
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
        known = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        known.check_schema(schema)
        checker = known(schema, registry=referencing.Registry())
        lost = _lost(schema, known, referencing)
        if not lost:
            checker.is_valid({})  # one that refers to itself alone never ends
    except (OSError, ValueError, RecursionError, jsonschema.SchemaError) as error:
        reason = getattr(error, "message", None) or error
        raise UserError(f"data.json_schema: {path} holds no JSON Schema ({reason}). Give another file.") from error
    if lost:
        raise UserError(
            f"data.json_schema: {path} refers to {lost}, which is not in it, and nothing is fetched. Write it out "
            "there, under $defs."
        )

    def wrong(text: str) -> str | None:
        try:
            fault = next(checker.iter_errors(json.loads(text)), None)
        except (ValueError, RecursionError):
            return "an answer that is no JSON"
        return None if fault is None else f"an answer against the schema: {str(fault.message)[:100]}"

    return wrong


def _lost(schema: Any, known: Any, referencing: Any) -> str:
    """The first reference in a schema to what it does not hold; "" for none."""
    jsonschema = need("referencing.jsonschema", "build")
    draft = jsonschema.specification_with(known.META_SCHEMA.get("$schema") or known.META_SCHEMA["id"])
    whole = draft.create_resource(schema)
    left = [(whole, referencing.Registry().resolver_with_root(whole))]
    while left:
        part, resolver = left.pop()
        for key in REFERENCES if isinstance(part.contents, dict) else ():
            if isinstance(reference := part.contents.get(key), str):
                try:
                    resolver.lookup(reference)
                except referencing.exceptions.Unresolvable:
                    return reference
        left += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
    return ""
