"""The hand-over file: who answers what the kin may not, what may leave the device, and where the rest waits.

Read like a recipe: unknown keys are refused, and all faults are told at once. Called by `handovers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from minikin.base.errors import RecipeError
from minikin.recipe import complain
from minikin.recipe.lines import line_number, parsed, text_of
from minikin.recipe.schema import Section

WHAT = "hand-over file"
Kind = Literal["email", "phone", "card", "iban", "account"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LISTS = ("large",)
"""Keys whose list may be written as its only entry."""


def _listed(value: Any) -> Any:
    return [] if value is None else value if isinstance(value, list) else [value]


class Large(Section):
    """One who is asked when the kin may not answer: an endpoint by `url`, or another kin by `kin`."""

    kin: str | None = Field(default=None, min_length=1, description="Folder of a larger kin; it answers on this device")
    answers: Literal["certified", "all"] = Field(
        default="certified", description="Of a larger kin: what its own certificate allows, or everything"
    )
    url: str | None = Field(default=None, min_length=1, description="Base of an OpenAI-compatible API, up to /v1")
    model: str | None = Field(default=None, min_length=1, description="Name of the model there")
    key_from: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable that holds the key"
    )
    structured: bool = Field(default=True, description="Ask for JSON held to a schema; false: by the prompt alone")
    about: str = Field(default="", description="A sentence for the prompt: what the texts and labels are")
    timeout_s: float = Field(default=20.0, gt=0, le=600, description="Seconds until one attempt is given up")
    retries: int = Field(default=3, ge=0, le=10, description="Attempts after the first")
    longest_wait_s: float = Field(default=30.0, ge=0, le=3600, description="Longest pause before a retry, in seconds")
    concurrency: int = Field(default=4, ge=1, le=256, description="Requests at once")
    price_in: float = Field(default=0.0, ge=0, description="Price of a million tokens sent")
    price_out: float = Field(default=0.0, ge=0, description="Price of a million tokens received")
    cost_per_day: float | None = Field(default=None, ge=0, description="Most to spend a day, in the prices' currency")


class Egress(Section):
    """What may leave the device. Nothing does unless `allow` is true."""

    allow: bool = Field(default=False, description="Whether texts may be sent to an endpoint at all")
    never: list[Kind] = Field(
        default_factory=lambda: list(KINDS), description="Kinds of personal data that never leave"
    )
    fields: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Names of fields whose values never leave, such as password"
    )
    patterns: dict[str, str] = Field(default_factory=dict, description="Name → regular expression that never leaves")
    found: Literal["redact", "keep"] = Field(
        default="redact", description="redact: send with [kind] in its place; keep: the text stays at home"
    )


class Waiting(Section):
    """Where handed-over texts are kept for people."""

    at: str = Field(
        default="queue.db", min_length=1, description="SQLite file, PostgreSQL URL, or env:NAME that holds one"
    )
    lease_s: float = Field(default=900.0, gt=0, description="Seconds that a text is a worker's alone")


class People(Section):
    """What people decide, and what their time costs."""

    labels: list[str] = Field(default_factory=list, description="Critical labels: only people answer these")
    seconds_each: float = Field(default=20.0, ge=0, description="Seconds of work for one answer")
    cost_per_hour: float = Field(default=0.0, ge=0, description="Price of an hour of that work")


class Audit(Section):
    """The blind audit of local answers, and the watch on what comes in."""

    share: float = Field(default=0.01, ge=0, le=1, description="Share of all requests that people label blindly")
    alarm: float = Field(default=0.05, gt=0, lt=1, description="Chance of a false alarm, for each of the two watches")


class HandOverFile(Section):
    """Everything that answering in two needs to know."""

    large: Annotated[list[Large], BeforeValidator(_listed)] = Field(
        default_factory=list, description="Who is asked, one after another; absent: people only"
    )
    egress: Egress = Field(default_factory=Egress, description="What may leave the device")
    queue: Waiting = Field(default_factory=Waiting, description="Where handed-over texts are kept")
    people: People = Field(default_factory=People, description="What people decide")
    audit: Audit = Field(default_factory=Audit, description="The blind audit")

    @model_validator(mode="after")
    def _is_consistent(self) -> HandOverFile:
        if found := list(_contradictions(self)):
            words = "; ".join(f"{path}: {why}" for path, why in found)
            raise PydanticCustomError("contradiction", "{words}", {"words": words, "found": found})
        return self


KNOWN = complain.models(HandOverFile)
SECTIONS = tuple(path[0] for path in KNOWN if len(path) == 1 and path[0] not in LISTS)


def read(path: str | Path) -> HandOverFile:
    """Read a hand-over file; folders of kins and a queue file are resolved against its folder.

    Raises:
        RecipeError: the file can't be read, or has faults; lists all of them with their lines.
    """
    path = Path(path)
    values, lines, faults = parsed(text_of(path, WHAT), path, WHAT)
    for key in LISTS:
        if isinstance(values.get(key), dict):
            for at in [at for at in lines.line_of if at[0] == key]:
                lines.line_of[(key, "0", *at[1:])] = lines.line_of[at]
            values[key] = [values[key]]
    values = {key: {} if value is None and key in SECTIONS else value for key, value in values.items()}
    found, more = complain.validated(HandOverFile, values, lines, KNOWN, _take_out)
    faults = sorted([*faults, *more], key=line_number)
    if faults or found is None:
        raise RecipeError(f"The {WHAT} {path} has faults:", faults)
    return _resolved(found, path.parent.absolute())


def _contradictions(file: HandOverFile) -> Iterator[tuple[str, str]]:
    for i, large in enumerate(file.large):
        at = f"large.{i}"
        if (large.kin is None) == (large.url is None):
            yield f"{at}.kin", "give either the folder of a kin or the url of an endpoint"
            continue
        if large.url is not None and not re.match(r"https?://[^/\s]+", large.url):
            yield f"{at}.url", "must start with http:// or https:// and name a host"
        if large.url is not None and large.model is None:
            yield f"{at}.model", "is missing: the name of the model at that url"
        if large.cost_per_day is not None and not large.price_in + large.price_out:
            yield f"{at}.cost_per_day", "limits nothing without price_in and price_out"
    for name, pattern in file.egress.patterns.items():
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"egress.patterns.{name}", f"is no regular expression ({error})"


def _take_out(values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove what stands at `path`; of a fault in `large`, the whole entry, which can't do without its keys."""
    if path[0] in LISTS and isinstance(values.get(path[0]), list) and len(path) > 1 and path[1].isdigit():
        values[path[0]][int(path[1])] = {"kin": "kin"}
    elif path[0] in LISTS or len(path) == 1 or not isinstance(values.get(path[0]), dict):
        values.pop(path[0], None)
    elif len(path) > 2 and isinstance(inner := values[path[0]].get(path[1]), dict):
        inner.pop(path[2], None)
    else:
        values[path[0]].pop(path[1], None)


def _resolved(file: HandOverFile, folder: Path) -> HandOverFile:
    """Return the file with paths made absolute; URLs and env: stay as they are."""
    large = [
        one if one.kin is None else one.model_copy(update={"kin": str((folder / Path(one.kin).expanduser()).resolve())})
        for one in file.large
    ]
    queue = file.queue
    if "://" not in queue.at and not queue.at.startswith("env:"):
        queue = queue.model_copy(update={"at": str((folder / Path(queue.at).expanduser()).resolve())})
    return file.model_copy(update={"large": large, "queue": queue})
