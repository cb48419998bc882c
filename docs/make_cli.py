"""Writes docs/cli.md from the commands themselves: `make cli-docs`. A test says when the file is out of date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from minikin.cli import app

PATH = Path(__file__).with_name("cli.md")
HEAD = """# The command line

*Written by `make cli-docs` from the commands themselves; don't edit it here.*

`--debug` works with every command and shows the traceback of an error.

| exit code | meaning |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    group: Any = typer.main.get_command(app)
    parts = [HEAD + "".join(_codes(group.epilog or ""))]
    parts += [_command(name, command) for name, command in group.commands.items()]
    return "\n".join(parts)


def _codes(epilog: str) -> list[str]:
    rows = (line.split(None, 1) for line in epilog.splitlines() if line.strip()[:1].isdigit())
    return [f"| {code} | {meaning} |\n" for code, meaning in rows]


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["minikin", name, *(_place(p) for p in arguments), "[OPTIONS]"])
    rows = [f"| {_shown(p)} | {_text(p)} |" for p in command.params if p.name != "help"]
    table = "\n".join(["| | |", "|---|---|", *rows])
    return f"## {name}\n\n{command.help}\n\n```\n{usage}\n```\n\n{table}\n"


def _place(argument: Any) -> str:
    name = _name(argument)
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_name(parameter)}`"
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    if getattr(parameter, "is_flag", False):
        return names
    return f"{names} `{_name(parameter)}`"


def _text(parameter: Any) -> str:
    words = [parameter.help or ""]
    default = parameter.default
    if default not in (None, False, (), []) and not callable(default):
        words.append(f"Default: `{default}`.")
    if parameter.multiple and "twice" not in words[0]:
        words.append("Can be given several times.")
    return " ".join(f"{word.rstrip('.')}." for word in words if word)


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
    print(PATH)
