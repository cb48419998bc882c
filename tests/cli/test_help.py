from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SOURCE

VERBS = ("new", "check", "build", "run", "bench", "compare", "evaluate", "report", "export", "demo")
HEAVY = ("torch", "transformers", "numpy", "onnxruntime", "pydantic", "yaml", "rich", "sklearn", "pyarrow")
ROOT = Path(__file__).resolve().parents[2]


def test_help_imports_nothing_heavy() -> None:
    program = (
        f"import sys; sys.path.insert(0, {SOURCE!r}); sys.argv = ['minikin', '--help']\n"
        "from minikin.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in done.stdout
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(say, verb: str) -> None:
    found = say(verb, "--help")
    assert found.exit_code == 0
    assert "Usage" in found.stdout


def test_exit_codes_are_in_the_help(say) -> None:
    out = say("--help").stdout
    assert all(f"\n    {code} " in out for code in (0, 1, 2, 3, 130))


def test_version(say) -> None:
    assert say("--version").stdout.startswith("minikin 0.")


@pytest.mark.parametrize("args", [("fly",), ("run", "--nope"), ("compare", "a", "b"), ("run",), ("build",)])
def test_what_typer_refuses_is_bad_input(say, args: tuple[str, ...]) -> None:
    found = say(*args)
    assert found.exit_code == 2
    assert "Traceback" not in found.output


def test_the_page_of_commands_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.page(), "run `make cli-docs`"
