"""The command line: one verb per command. Everything heavy is imported inside them, so that `--help` is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from minikin import __version__
from minikin.base.errors import UserError

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
        except OWN_ENDS:
            raise
        except (Exception, KeyboardInterrupt) as error:
            from minikin.commands.failure import tell

            raise typer.Exit(tell(error, ctx.invoked_subcommand, ctx.params.get("debug", False))) from None


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

Tasks = Literal["classify", "generate"]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the kin", metavar="DIR")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override the recipe, e.g. budget.size_mib=1")
]
Folder = Annotated[Path, typer.Argument(metavar="KIN", help="Folder that a build wrote")]
Size = Annotated[float | None, typer.Option(help="Model and tokenizer, in MiB", metavar="MIB")]
P95 = Annotated[float | None, typer.Option("--latency-ms-p95", help="Raw text to answer, in ms", metavar="MS")]
Keep = Annotated[float | None, typer.Option(help="Share of the teacher's accuracy to keep", metavar="SHARE")]
HandOverPath = Annotated[Path, typer.Option("--hand-over", help="The hand-over file", metavar="FILE")]
By = Annotated[str | None, typer.Option(help="Who takes or answers; absent: the user's name", metavar="NAME")]
Most = Annotated[int | None, typer.Option("-n", "--most", min=1, help="At most so many texts", metavar="N")]
Schema = Annotated[
    Path | None, typer.Option("--json-schema", help="File of a JSON Schema that the text must satisfy", metavar="FILE")
]
Temperature = Annotated[float, typer.Option(help="0: the likeliest token; above: drawn", metavar="T", min=0)]
TopP = Annotated[float, typer.Option(help="Draw from what holds this probability", metavar="P", min=0, max=1)]
TopK = Annotated[int, typer.Option(help="Draw from so many likeliest tokens; 0: all", metavar="K", min=0)]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated", metavar="TEXT")]
Seed = Annotated[int, typer.Option(help="Where the drawing starts", metavar="N", min=0)]
MaxTokens = Annotated[
    int | None, typer.Option(help="Longest answer; absent: as the kin was packaged", metavar="N", min=1)
]
Task = Annotated[Tasks, typer.Option(help="What the kin does", metavar="classify|generate")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress")]


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


@app.command(short_help="Look at data and write recipe.yaml")
def new(
    data: Annotated[str, typer.Argument(help="Examples: CSV, TSV, JSONL, Parquet, or hf:owner/name")],
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the text or prompt; twice for pairs", metavar="COLUMN")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the label or answer", metavar="COLUMN")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Folder or Hub name; 'none' for gold labels alone", metavar="NAME")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Test file; absent: a part of the data", metavar="FILE")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="More text, which the teacher will label", metavar="FILE")
    ] = None,
    size_mib: Size = None,
    latency_ms_p95: P95 = None,
    keep: Keep = None,
    name: Annotated[str | None, typer.Option(help="Name of the kin")] = None,
    task: Task = "classify",
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write it", metavar="FILE")] = Path("recipe.yaml"),
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe")] = False,
) -> None:
    """Look at the data, ask what it can't tell, and write recipe.yaml."""
    from minikin.commands import new as command

    wishes = command.Wishes(
        data, tuple(text or ()), label, teacher, test, unlabelled, size_mib, latency_ms_p95, keep, name
    )
    if task == "generate":
        from minikin.commands import new_writing

        new_writing.new(wishes, out, force=force)
        return
    command.new(wishes, out, ask=not yes and sys.stdin.isatty(), force=force)


@app.command(short_help="Recipe, faults, forecast")
def check(
    recipe: Annotated[Path, typer.Argument(help="The recipe")],
    overrides: Overrides = None,
) -> None:
    """Show the resolved recipe, every fault at once, and a forecast of time, memory and size."""
    from minikin.commands import check as command

    command.check(recipe, tuple(overrides or ()))


@app.command(short_help="Make the kin that a recipe describes")
def build(
    recipe: Annotated[Path, typer.Argument(help="The recipe")],
    out: Out = Path("kin"),
    overrides: Overrides = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of finished steps; absent: OUT.run", metavar="DIR")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make the kin that the recipe describes; a build that was stopped goes on where it stopped."""
    from minikin.commands import build as command

    command.build(recipe, out, tuple(overrides or ()), run, quiet)


@app.command(name="run", short_help="Answer texts, a file, or standard input")
def run_kin(
    kin: Folder,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; pairs two by two")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read texts from a file", metavar="FILE")] = None,
    form: Annotated[str, typer.Option("--format", help="lines, jsonl, csv or auto", metavar="FORMAT")] = "auto",
    text_column: Annotated[
        list[str] | None, typer.Option(help="Column or key of the text; twice for pairs", metavar="NAME")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Give the probabilities of all labels")] = False,
    threads: Annotated[int, typer.Option(help="Threads of one computation", metavar="N")] = 1,
    engine: Annotated[
        str | None,
        typer.Option(help="kernel, onnx or torch; one that writes: llama.cpp or torch", metavar="NAME"),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what answered and how fast it was")] = False,
    hand_over: Annotated[
        Path | None,
        typer.Option(help="Hand-over file: answer only what is certified, the rest by whom it names", metavar="FILE"),
    ] = None,
    draft: Annotated[
        Path | None, typer.Option(help="Smaller kin whose guesses save a larger one time", metavar="DIR")
    ] = None,
    schema: Schema = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Completions of each prompt", metavar="N")] = 1,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    stop: Stop = None,
    seed: Seed = 0,
    max_tokens: MaxTokens = None,
) -> None:
    """Answer texts, a file, or standard input: one JSON object per text, in order, as they come.

    A kin that writes takes prompts and the options from --draft on; one that sorts texts takes those before.
    """
    from minikin.commands import write

    columns = tuple(text_column or ())
    if write.writes(kin):
        writing = write.How(
            schema,
            n,
            temperature,
            top_p,
            top_k,
            tuple(stop or ()),
            seed,
            max_tokens,
            threads,
            verbose,
            engine,
            hand_over,
            draft,
        )
        write.run(kin, tuple(texts or ()), file, form, columns, writing)
        return
    if draft is not None:
        raise UserError(f"The kin in {kin} sorts texts: --draft is for one that writes.")
    from minikin.commands import run as command

    how = command.How(everything=everything, threads=threads, engine=engine, verbose=verbose, hand_over=hand_over)
    command.run(kin, tuple(texts or ()), file, form, columns, how)


@app.command(short_help="A conversation with a kin that writes")
def chat(
    kin: Folder,
    system: Annotated[str | None, typer.Option(help="What it is told before anything is said", metavar="TEXT")] = None,
    schema: Schema = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    stop: Stop = None,
    seed: Seed = 0,
    max_tokens: MaxTokens = None,
    threads: Annotated[int, typer.Option(help="Threads of one computation", metavar="N")] = 1,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say at the end how fast it was")] = False,
) -> None:
    """Talk with a kin that writes, in the terminal; answers appear as they are written."""
    from minikin.commands import write

    how = write.How(schema, 1, temperature, top_p, top_k, tuple(stop or ()), seed, max_tokens, threads, verbose)
    write.chat(kin, system, how)


@app.command(short_help="What was handed over: list, next, answer, drop, export")
def queue(
    kin: Folder,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, next, answer, drop or export")],
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID [LABEL]]...", help="answer: ID LABEL, or lines piped in; drop: IDs"),
    ] = None,
    file: HandOverPath = Path("handover.yaml"),
    by: By = None,
    most: Most = None,
    state: Annotated[
        str | None, typer.Option(help="list: only waiting, leased, silver, gold or dropped", metavar="STATE")
    ] = None,
    silver: Annotated[
        bool, typer.Option("--silver", help="next, export: also what only a large model answered")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="answer: change an answer that was given")] = False,
    new_label: Annotated[bool, typer.Option("--new-label", help="answer: take a label that the kin lacks")] = False,
    part: Annotated[
        str, typer.Option(help="export: train (handed over), or audit (the random sample, for certify)", metavar="PART")
    ] = "train",
    none_as: Annotated[
        str | None, typer.Option(help="export: label of texts that no label fits; absent: left out", metavar="LABEL")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="export: CSV or JSONL file", metavar="FILE")] = None,
) -> None:
    """List, take, answer or forget what was handed over, or export the answers as training rows."""
    from minikin.commands import handover as command

    ask = command.Ask(file, by, most, state, silver, replace, new_label, part, none_as, out)
    command.queue(kin, action, tuple(given or ()), ask)


@app.command(short_help="How the certificate stands by its blind audit")
def audit(
    kin: Folder,
    action: Annotated[
        str, typer.Argument(metavar="[ACTION]", help="state, or next: take texts of the sample")
    ] = "state",
    file: HandOverPath = Path("handover.yaml"),
    by: By = None,
    most: Most = None,
) -> None:
    """Show how the certificate stands by what comes in and by its blind audit, or take texts of the audit."""
    from minikin.commands import handover as command

    command.audit(kin, action, command.Ask(file, by, most))


@app.command(short_help="Latency, throughput, cold start, memory")
def bench(
    kin: Folder,
    teacher: Annotated[
        str | None, typer.Option(help="Measure this teacher (folder or Hub name) here and now too", metavar="NAME")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="File of texts; absent: the test texts of its recipe", metavar="FILE")
    ] = None,
    text_column: Annotated[
        list[str] | None, typer.Option(help="Column or key of the text; twice for pairs", metavar="NAME")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of one computation", metavar="N")] = 1,
    engines: Annotated[
        str,
        typer.Option(help="kernel, onnx, torch, llama.cpp or all; absent: what would answer", metavar="NAME"),
    ] = "",
    prompt_tokens: Annotated[int, typer.Option(help="A kin that writes: tokens to read", min=1, metavar="N")] = 256,
    new_tokens: Annotated[int, typer.Option(help="A kin that writes: tokens to write", min=2, metavar="N")] = 128,
    as_json: Annotated[bool, typer.Option("--json", help="Tell it as one JSON object")] = False,
) -> None:
    """Measure latency, throughput, cold start and memory on this machine, beside the teacher's figures.

    Of a kin that writes: prefill and decode tokens a second, time to the first token, cold start and memory.
    """
    from minikin.commands import measure, measure_writing, write

    ask = measure.Ask(
        teacher, on, tuple(text_column or ()), threads, engines, prompt_tokens, new_tokens, as_json=as_json
    )
    (measure_writing if write.writes(kin) else measure).bench(kin, ask)


@app.command(short_help="lm-evaluation-harness on a kin that writes")
def evaluate(
    kin: Folder,
    tasks: Annotated[str, typer.Option(help="Names of tasks, separated by commas", metavar="NAMES")],
    include: Annotated[
        Path | None, typer.Option(help="Folder of YAML tasks of your own, on local files", metavar="FOLDER")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Examples before each; absent: the task's", min=0, metavar="N")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many of each task", min=1, metavar="N")] = None,
    threads: Annotated[int, typer.Option(help="Threads of one computation", metavar="N")] = 1,
    engine: Annotated[str | None, typer.Option(help="llama.cpp or torch", metavar="NAME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell it as one JSON object")] = False,
) -> None:
    """Score a kin that writes on tasks of lm-evaluation-harness, by the file and the runtime that ship.

    Stays offline: data comes from the Hub's cache on this machine, or from files. HF_HUB_OFFLINE=0 lets it be fetched.
    """
    from minikin.commands import evaluate as command

    command.evaluate(kin, tasks, include, shots, limit, threads, engine, as_json)


@app.command(short_help="Two kins on the same texts, paired")
def compare(
    a: Annotated[Path, typer.Argument(metavar="KIN_A", help="One kin")],
    b: Annotated[Path, typer.Argument(metavar="KIN_B", help="Another kin")],
    on: Annotated[str, typer.Option(help="Labelled test file", metavar="FILE")],
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the text or prompt; twice for pairs", metavar="COLUMN")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the label or answer", metavar="COLUMN")] = None,
    examples: Annotated[int, typer.Option(help="How many changed examples to show", min=0, metavar="N")] = 20,
) -> None:
    """Compare two kins on the same texts: paired difference with interval, McNemar, and what changed."""
    from minikin.commands import measure, measure_writing, write

    kinds = {write.writes(a), write.writes(b)}
    if len(kinds) == 2:
        raise UserError(f"Of {a} and {b} one sorts texts, the other writes. They can't be compared.")
    (measure_writing if True in kinds else measure).compare(a, b, on, tuple(text or ()), label, examples)


@app.command(short_help="Prove when the kin may answer")
def certify(
    kin: Folder,
    on: Annotated[str, typer.Option(help="Labelled file that no build has read", metavar="FILE")],
    risk: Annotated[
        str, typer.Option(help="Share of wrong answers among those given, at most", metavar="SHARE")
    ] = "2%",
    confidence: Annotated[str, typer.Option(help="How sure that is to be", metavar="SHARE")] = "95%",
    method: Annotated[
        str,
        typer.Option(
            help="ltt: risk among answers, with that confidence; crc: wrong answers among all texts, in expectation",
            metavar="METHOD",
        ),
    ] = "ltt",
    sets: Annotated[
        str | None, typer.Option(help="Also give candidates that hold the true label so often", metavar="SHARE")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="--sets: so often within each class")] = False,
    verdict: Annotated[
        str | None,
        typer.Option(help="A kin that writes: column of true or false on its own answers", metavar="COLUMN"),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column: a bound for each of its values", metavar="COLUMN")] = None,
    expires: Annotated[int, typer.Option(help="Days until the certificate is void", metavar="DAYS")] = 90,
    reject: Annotated[
        str | None, typer.Option(help="Label of out-of-scope texts; absent: oos and the like", metavar="LABEL")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the text; twice for pairs", metavar="COLUMN")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the label", metavar="COLUMN")] = None,
    labels_checked: Annotated[
        bool, typer.Option("--labels-checked", help="A person looked at the labels that look wrong")
    ] = False,
    engine: Annotated[
        str | None, typer.Option(help="kernel or onnx; absent: the one that will answer", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split of the labels", metavar="N")] = 0,
) -> None:
    """Find when the kin may answer by itself, prove it on labelled texts, and write certificate.json.

    A kin that writes is compared with the answers in the file, or judged by --verdict.
    """
    from minikin.commands import trust as command

    ask = command.Ask(
        command.share(risk, "--risk"),
        command.share(confidence, "--confidence"),
        group,
        expires,
        reject,
        tuple(text or ()),
        label,
        labels_checked,
        engine,
        seed,
        method,
        command.share(sets, "--sets") if sets else None,
        by_class,
        verdict,
    )
    command.certify(kin, on, ask)


@app.command(short_help="Is a small model right here?")
def advise(
    target: Annotated[Path, typer.Argument(metavar="RECIPE|KIN", help="A recipe, or a folder that a build wrote")],
    on: Annotated[
        str | None, typer.Option(help="Labelled file; absent: the test file of its recipe", metavar="FILE")
    ] = None,
    risk: Annotated[str, typer.Option(help="Risk that would be asked for", metavar="SHARE")] = "2%",
    confidence: Annotated[str, typer.Option(help="How sure that is to be", metavar="SHARE")] = "95%",
    reject: Annotated[
        str | None, typer.Option(help="Label of out-of-scope texts; absent: oos and the like", metavar="LABEL")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Column of the text; twice for pairs", metavar="COLUMN")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the label", metavar="COLUMN")] = None,
) -> None:
    """Say what the labels at hand can prove: the risk in reach, the share kept local, the labels missing."""
    from minikin.commands import trust as command

    columns = tuple(text or ())
    ask = command.Ask(
        command.share(risk, "--risk"),
        command.share(confidence, "--confidence"),
        reject=reject,
        columns=columns,
        label=label,
    )
    command.advise(target, on, ask)


@app.command(short_help="Write report.html again and name it")
def report(kin: Folder) -> None:
    """Write report.html and the model card again from what the build measured, and name the file."""
    from minikin.commands import build as command

    command.report(kin)


@app.command(short_help="As C source, one HTML page, or a web folder")
def export(
    kin: Folder,
    to: Annotated[str, typer.Option("--to", help="c, html or web", metavar="FORM")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or the file of --to html", metavar="PATH")],
) -> None:
    """Write the kin as C99 without dependencies, as one HTML page that works offline, or as a folder for a server."""
    from minikin.commands import export as command

    command.export(kin, to, out)


@app.command(short_help="The main job on the data in the box")
def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for data, recipe, run and kin", metavar="DIR")
    ] = Path("demo"),
    size_mib: Size = None,
    latency_ms_p95: P95 = None,
    keep: Keep = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    task: Task = "classify",
) -> None:
    """Do the main job on the data in the box, without any network.

    helpdesk has 24 intents of messages to sort; homes, with --task generate, has commands to turn into calls.
    """
    from minikin.commands import build as command

    budget = {"size_mib": size_mib, "latency_ms_p95": latency_ms_p95, "keep": keep}
    given = tuple(f"budget.{key}={value}" for key, value in budget.items() if value is not None)
    command.demo(out, given + tuple(overrides or ()), quiet, task)
