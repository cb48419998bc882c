"""Arguments and options that several verbs share."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Annotated, Literal

import typer

from minikin.base.errors import UserError

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
Grammar = Annotated[
    Path | None, typer.Option(help="File of a grammar (GBNF) that the text must follow", metavar="FILE")
]
Lora = Annotated[str | None, typer.Option("--lora", help="LoRA adapter (GGUF) to write with", metavar="FILE[:SCALE]")]
Temperature = Annotated[float, typer.Option(help="0: the likeliest token; above: drawn", metavar="T", min=0)]
TopP = Annotated[float, typer.Option(help="Draw from what holds this probability", metavar="P", min=0, max=1)]
TopK = Annotated[int, typer.Option(help="Draw from so many likeliest tokens; 0: all", metavar="K", min=0)]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated", metavar="TEXT")]
Seed = Annotated[int, typer.Option(help="Where the drawing starts", metavar="N", min=0)]
MaxTokens = Annotated[
    int | None, typer.Option(help="Longest answer; absent: as the kin was packaged", metavar="N", min=1)
]
Task = Annotated[Literal["classify", "generate"], typer.Option(help="What the kin does", metavar="classify|generate")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress")]
Texts = Annotated[
    list[str] | None, typer.Option(help="Column of the text or prompt; twice for pairs", metavar="COLUMN")
]
Truths = Annotated[str | None, typer.Option(help="Column of the label or answer", metavar="COLUMN")]
TextColumns = Annotated[list[str] | None, typer.Option(help="Column of the text; twice for pairs", metavar="COLUMN")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the label", metavar="COLUMN")]
Reject = Annotated[
    str | None, typer.Option(help="Label of out-of-scope texts; absent: oos and the like", metavar="LABEL")
]
Keys = Annotated[list[str] | None, typer.Option(help="Column or key of the text; twice for pairs", metavar="NAME")]
Threads = Annotated[int, typer.Option(help="Threads of one computation", metavar="N")]
AsJson = Annotated[bool, typer.Option("--json", help="Tell it as one JSON object")]
Confidence = Annotated[str, typer.Option(help="How sure that is to be", metavar="SHARE")]
RecipePath = Annotated[Path, typer.Argument(help="The recipe")]


def refuse(ctx: typer.Context, names: Set[str], kin: Path, writes: bool) -> None:
    """Raise UserError for those of these parameters that stand on the command line: the other kind of kin has them."""
    typed = (p for p in ctx.command.params if p.name in names and _is_typed(ctx, p.name))
    if foreign := [max(p.opts, key=len) for p in typed]:
        does, other = ("writes", "sorts texts") if writes else ("sorts texts", "writes")
        one = len(foreign) == 1
        raise UserError(
            f"The kin in {kin} {does}: {', '.join(foreign)} {'is' if one else 'are'} for one that {other}. "
            f"Leave {'it' if one else 'them'} out."
        )


def _is_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
