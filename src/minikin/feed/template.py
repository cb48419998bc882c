"""Chat templates: messages written as a model reads them, with the place of every message known exactly.

Templates are Jinja programs that come with a model, so they run in Jinja's sandbox. Where a message stands is found
by rendering with a mark in its place, and proven by rendering with the message itself: both must give the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from minikin.base.errors import UserError
from minikin.base.extras import need

PLAIN: Final = (
    "{% if bos_token %}{{ bos_token }}{% endif %}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
)
"""For models that come without a template: what is asked, a line break, the answer, the end token."""

_MARK: Final = re.compile("\ue000([0-9]+)\ue001")


class Piece(NamedTuple):
    """A stretch of rendered text; `message` is the number of the message that it is, or -1 for the template's own."""

    text: str
    message: int


class TemplateError(UserError):
    """A chat template that fails, or that changes what a message says."""


def special(tokenizer_config: Mapping[str, Any], name: str) -> str:
    """The text of `bos_token`, `eos_token` and the like, or ""."""
    value = tokenizer_config.get(name) or ""
    return str(value.get("content", "")) if isinstance(value, Mapping) else str(value)


def source(tokenizer_config: Mapping[str, Any]) -> str:
    """The template that goes with a tokenizer: its own (the default one of several), or `PLAIN`."""
    own = tokenizer_config.get("chat_template")
    if isinstance(own, list):
        named = {entry["name"]: entry["template"] for entry in own}
        own = named.get("default") or next(iter(named.values()), None)
    return str(own or PLAIN)


def render(
    tokenizer_config: Mapping[str, Any], messages: Sequence[Mapping[str, str]], *, prompting: bool = False
) -> str:
    """Write messages as the model reads them; `prompting` ends where the next answer begins.

    Raises TemplateError, naming the reason, when the template fails.
    """
    tokens = {name: special(tokenizer_config, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    try:
        return str(
            _compiled(source(tokenizer_config)).render(
                messages=[dict(m) for m in messages], add_generation_prompt=prompting, **tokens
            )
        )
    except Exception as error:  # a template is a program: it can fail in any way
        raise TemplateError(f"the chat template fails: {type(error).__name__}: {error}") from error


def pieces(tokenizer_config: Mapping[str, Any], messages: Sequence[Mapping[str, str]]) -> list[Piece]:
    """Render messages and return the text in pieces, each known to be the template's or a message's.

    Raises TemplateError when the template fails, leaves a message out, or writes it otherwise than it is (leading
    and trailing white space apart).
    """
    whole = render(tokenizer_config, messages)
    marked = render(tokenizer_config, [{**m, "content": f"\ue000{i}\ue001"} for i, m in enumerate(messages)])
    for trim in (False, True):
        contents = [m["content"].strip() if trim else m["content"] for m in messages]
        found: list[Piece] = []
        for k, text in enumerate(_MARK.split(marked)):
            found.append(Piece(contents[int(text)], int(text)) if k % 2 else Piece(text, -1))
        shown = {piece.message for piece in found}
        if "".join(piece.text for piece in found) == whole and shown >= set(range(len(messages))):
            return [piece for piece in found if piece.text]
    raise TemplateError("the chat template leaves a message out or changes it")


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    sandbox, extension, nodes = (need(f"jinja2.{part}", "gguf") for part in ("sandbox", "ext", "nodes"))

    class Generation(extension.Extension):  # type: ignore[name-defined,misc]
        """Reads `{% generation %}` blocks, by which some templates mark answers, as what they hold."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    # plain JSON: jinja's own filter escapes <, > and & for HTML
    environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def _refuse(words: str) -> None:
    raise TemplateError(words)
