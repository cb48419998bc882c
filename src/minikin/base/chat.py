"""Chat templates: a conversation as the text that a model was trained on. Templates run in Jinja's sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from minikin.base.errors import UserError
from minikin.base.extras import need


def render(
    template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str], *, prompt: bool = False
) -> str:
    """Return a conversation as text; with `prompt`, up to where the assistant begins to write.

    `messages` have a `role` and `content`; `tokens` are special tokens by name, such as `bos_token`. Raises UserError
    for a template that fails, or that refuses the conversation, with what it says.
    """
    jinja2 = need("jinja2", "gguf")
    sandbox = need("jinja2.sandbox", "gguf")

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        made = environment.from_string(template).render(messages=messages, add_generation_prompt=prompt, **tokens)
    except Exception as error:  # a template can raise whatever Python can
        raise UserError(f"The chat template failed: {error}. Correct the conversation or the template.") from error
    return str(made)


def special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that a tokenizer_config.json names, by their names."""
    named = {name: value for name, value in settings.items() if name.endswith("_token") and value}
    return {name: str(value["content"] if isinstance(value, Mapping) else value) for name, value in named.items()}
