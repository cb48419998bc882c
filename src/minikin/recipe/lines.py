"""YAML with its line numbers: where every key of a file stands, and which stand there twice.

Used by `read` for recipes and by `handover` for hand-over files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from minikin.base.errors import RecipeError

Path_ = tuple[str, ...]
"""Keys from the top of the file downwards; places in lists as digits."""

WRITER = " `minikin new data.csv` writes one."
EXAMPLES = {"recipe": "task: classify", "hand-over file": "queue: {at: requests.db}"}
"""What minikin reads, and a line of it."""


class Lines:
    """Remembers on which line each key stands, or that it came from `--set`."""

    def __init__(self) -> None:
        self.line_of: dict[Path_, int] = {}
        self._overrides: set[Path_] = set()

    def override(self, path: Path_) -> None:
        """Note that the value at `path` came from `--set`."""
        self._overrides.add(path)

    def say(self, path: Path_, why: str) -> str:
        """Return the fault as people read it: 'line 7: budget.size_mb: …'."""
        name = ".".join(path) or "recipe"
        for end in range(len(path), 0, -1):
            if path[:end] in self._overrides:
                return f"--set {name}: {why}"
            if path[:end] in self.line_of:
                return f"line {self.line_of[path[:end]]}: {name}: {why}"
        return f"{name}: {why}"


def line_number(fault: str) -> int:
    """Return the line a fault names, so that faults read from the top of the file; those without come last."""
    return int(fault.split(":")[0].removeprefix("line ")) if fault.startswith("line ") else 1 << 30


def text_of(path: Path, what: str = "recipe") -> str:
    """Return what a file holds; `what` says in messages what it is. Raises RecipeError when it can't be read."""
    if path.is_dir():
        usual = f", usually {path / 'recipe.yaml'}" if what == "recipe" else ""
        raise RecipeError(f"{path} is a folder; name the {what} in it{usual}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"There is no {what} {path}.{WRITER if what == 'recipe' else ''}") from None
    except OSError as error:
        raise RecipeError(f"The {what} {path} can't be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"The {what} {path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error


def parsed(text: str, path: Path, what: str = "recipe") -> tuple[dict[str, Any], Lines, list[str]]:
    """Return the values of a YAML mapping, the lines of its keys, and what is wrong with the keys.

    Raises:
        RecipeError: the text is empty, no YAML, or no mapping.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines, faults = Lines(), list[str]()
        if node is not None:
            _walk(node, (), lines, faults, frozenset())
        values = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"The {what} {path} is not valid YAML:", [_where(error)]) from error
    if values is None:
        raise RecipeError(f"The {what} {path} is empty.{WRITER if what == 'recipe' else ''}")
    if not isinstance(values, dict):
        kind = "list" if isinstance(values, list) else "single value"
        raise RecipeError(f"The {what} {path} is a {kind}; it must be keys with values, such as '{EXAMPLES[what]}'.")
    return {str(key): value for key, value in values.items()}, lines, faults


def parsed_value(text: str) -> Any:
    """Return the YAML value of `text`, as `--set` reads it."""
    return yaml.safe_load(text)


def _walk(node: yaml.Node, path: Path_, lines: Lines, faults: list[str], above: frozenset[int]) -> None:
    """Note the lines below `node`, duplicate keys, and anchors that hold themselves."""
    if id(node) in above:
        raise ValueError(f"line {node.start_mark.line + 1}: a value that contains itself")
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here, line = (*path, str(key.value)), key.start_mark.line + 1
            if here in lines.line_of:
                faults.append(f"line {line}: {'.'.join(here)}: stands on line {lines.line_of[here]} already")
                # YAML keeps the later value, so the keys below the earlier one are gone.
                lines.line_of = {at: n for at, n in lines.line_of.items() if at[: len(here)] != here}
            lines.line_of[here] = line
            _walk(value, here, lines, faults, above)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            here = (*path, str(i))
            lines.line_of[here] = value.start_mark.line + 1
            _walk(value, here, lines, faults, above)


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}{error.problem or error.context}"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return str(error).splitlines()[0]
