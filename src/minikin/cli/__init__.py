"""The command line: one verb per command. Everything heavy is imported inside them, so that `--help` is instant."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from minikin import __version__
from minikin.cli import ask, judge, make

EPILOG = """\b
Exit codes:
  0    done
  1    something failed inside minikin (--debug shows where)
  2    bad input: a file, an option, a recipe, a text, a full disk
  3    the kin was built and measured, and misses the recipe's floor; everything is kept
  130  stopped with Ctrl-C; the same build goes on where it stopped
"""
OWN_ENDS: tuple[type[BaseException], ...] = (
    typer.Exit,
    typer.Abort,
    *(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"),
)
"""How typer itself ends a command; the class of its usage errors moves from release to release."""


class Verbs(TyperGroup):
    """The commands; turns what they raise into a sentence and an exit code, and takes `--debug` anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move `--debug` to the front, up to a `--`."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(a for i, a in enumerate(args) if a != "--debug" or i > end)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with the code of what it raised."""
        try:
            return super().invoke(ctx)
        except OWN_ENDS as error:
            _hint(error)
            raise
        except (Exception, KeyboardInterrupt) as error:
            from minikin.commands.failure import tell

            raise typer.Exit(tell(error, ctx.invoked_subcommand, ctx.params.get("debug", False))) from None


def _hint(error: Any) -> None:
    """Say of `--set a=1 b=2`, which ends as an argument too many, what to write instead."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    takes_set = any("--set" in p.opts for p in getattr(command, "params", ()))
    if takes_set and "extra argument" in str(error.message) and "=" in str(error.message):
        error.message = f"{error.message}. Each KEY=VALUE needs a --set of its own."


# Plain help: rich's would take as long again as everything else together.
app = typer.Typer(
    cls=Verbs,
    epilog=EPILOG,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

VERBS = (
    (make.new, "Look at data and write recipe.yaml"),
    (make.check, "Recipe, faults, forecast"),
    (make.build, "Make the kin that a recipe describes"),
    (ask.run, "Answer texts, a file, or standard input"),
    (ask.chat, "A conversation with a kin that writes"),
    (ask.queue, "What was handed over: list, next, answer, drop, export"),
    (ask.audit, "How the certificate stands by its blind audit"),
    (judge.bench, "Latency, throughput, cold start, memory"),
    (judge.evaluate, "lm-evaluation-harness on a kin that writes"),
    (judge.compare, "Two kins on the same texts, paired"),
    (judge.certify, "Prove when the kin may answer"),
    (judge.advise, "Is a small model right here?"),
    (make.report, "Write report.html again and name it"),
    (make.export, "As C source, one HTML page, or a web folder"),
    (make.demo, "The main job on the data in the box"),
)

for verb, words in VERBS:
    app.command(short_help=words)(verb)


def main() -> None:
    """Entry point of `minikin`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal of another encoding shows ? instead of failing
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"minikin {__version__}")
        raise typer.Exit


@app.callback()
def everything(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """From a task, some data, a large model and a budget to a small model, proven on the file that ships."""
