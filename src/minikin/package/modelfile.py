"""What Ollama needs beside a GGUF file: a Modelfile with the context, the stop string and the prompt template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minikin.base import atomic
from minikin.base.errors import UserError
from minikin.feed.template import render, special
from minikin.package import gguf
from minikin.package.gguf_families import Shape
from minikin.package.gguf_spec import frame

SYSTEM, USER, ASSISTANT, LATER, ANSWER = "①s①", "①u①", "①a①", "①l①", "①w①"
"""Messages that no template has in it."""


def write(folder: Path, model: str = "model.gguf", new_tokens: int = 0) -> bool:
    """Write `Modelfile` into a transformers folder with the GGUF file `model`, for `ollama create NAME -f Modelfile`.

    It says to write as the gate measured: the likeliest token, and with `new_tokens` at most so many.

    Returns whether the chat template, if there is one, could be said in Ollama's language: a beginning, and then a
    block for each message. Where it could not, prompts are passed on as they are. Raises UserError for a folder
    that lacks a file.
    """
    config, settings, tokenizer_json = gguf.read(folder)
    source = gguf.chat_template(folder, settings)
    template = _translated({**settings, "chat_template": source}) if source else None
    if template and frame(tokenizer_json) not in (None, (None, None)):
        template = template.removeprefix(special(settings, "bos_token"))  # Ollama puts it there too
    lines = [f"FROM ./{model}", f'TEMPLATE """{template or "{{ .Prompt }}"}"""']
    lines.append(f"PARAMETER num_ctx {Shape.of(config).context}")
    if end := special(settings, "eos_token"):
        lines.append(f"PARAMETER stop {json.dumps(end, ensure_ascii=False)}")
    lines.append("PARAMETER temperature 0")
    if new_tokens:
        lines.append(f"PARAMETER num_predict {new_tokens}")
    atomic.write_text(folder / "Modelfile", "\n".join(lines) + "\n")
    return template is not None or not source


def _translated(settings: Mapping[str, Any]) -> str | None:
    """Return a chat template in Ollama's language, found from what it makes of known messages, or None."""

    def made(*contents: str, prompt: bool = False) -> str:
        roles: dict[str, Any] = {SYSTEM: "system", USER: "user", LATER: "user"}
        messages = [{"role": roles.get(text, "assistant"), "content": text} for text in contents]
        return render(settings, messages, prompting=prompt)

    try:
        asked, question = made(USER, prompt=True), made(USER)
        turn, turns = made(USER, ASSISTANT), made(USER, ASSISTANT, LATER, ANSWER)
        before_user, rest = turns.removeprefix(turn).split(LATER)
        between, after_assistant = rest.split(ANSWER)
        start, after_user = question.split(USER)
        opening = start.removesuffix(before_user)
        before_assistant = between.removeprefix(after_user)
        prompt = asked.removeprefix(question)
        block = f"{before_user}{USER}{after_user}{before_assistant}{ASSISTANT}{after_assistant}"
        if turn != opening + block or made(USER, prompt=True) != question + prompt:
            return None
        system = _system(made(SYSTEM, USER, ASSISTANT), opening, block)
    except (UserError, ValueError):
        return None
    parts = [system, ("user", before_user, after_user), ("assistant", before_assistant, after_assistant)]
    blocks = "".join(
        f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}{{{{ end }}}}'
        for role, before, after in filter(None, parts)
    )
    return f"{opening}{{{{ range .Messages }}}}{blocks}{{{{ end }}}}{prompt}"


def _system(whole: str, opening: str, block: str) -> tuple[str, str, str] | None:
    """Return the block of a system message. Raises ValueError where it is no block of its own."""
    before, after = whole.removesuffix(block).split(SYSTEM)
    if not whole.endswith(block) or not before.startswith(opening):
        raise ValueError("the system message stands inside another")
    return "system", before.removeprefix(opening), after
