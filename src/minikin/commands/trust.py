"""`minikin certify` and `minikin advise`: prove on labels when the kin may answer, or say what is missing."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from minikin.base import digest, manifest, tensors
from minikin.base.console import console as progress
from minikin.base.errors import CertificateError, DataError, UserError
from minikin.base.types import UNKNOWN_LABEL, Array, Text
from minikin.commands import show
from minikin.commands.run import usual_columns
from minikin.report import words
from minikin.runtimes import Kin
from minikin.runtimes.author import Author
from minikin.runtimes.load import load

ROWS_SHOWN = 8
METHODS = ("ltt", "crc")


@dataclass(frozen=True)
class Ask:
    """What `certify` was asked: risk and confidence as shares, and how to read the file."""

    risk: float
    confidence: float
    group: str | None = None
    days: int = 90
    reject: str | None = None
    columns: tuple[str, ...] = ()
    label: str | None = None
    labels_checked: bool = False
    engine: str | None = None
    seed: int = 0
    method: str = "ltt"
    sets: float | None = None
    by_class: bool = False
    verdict: str | None = None


@dataclass(frozen=True)
class Table:
    """A labelled file as it was read: texts, label places (−1: unknown to the kin), groups and 1-based rows."""

    texts: list[Text]
    labels_N: Array
    groups_N: Array | None
    rows_N: Array

    @property
    def known(self) -> Any:
        """What the digest of the certificate's labels is made of, beside the texts."""
        return self.labels_N.tolist()

    def take(self, rows: Array) -> Table:
        """The examples at `rows`."""
        groups_N = None if self.groups_N is None else self.groups_N[rows]
        return Table([self.texts[int(i)] for i in rows], self.labels_N[rows], groups_N, self.rows_N[rows])


def share(given: str, what: str) -> float:
    """Read `2%`, `2 %` or `0.02`. Raises UserError for anything that is not a share between 0 and 1."""
    plain = given.strip().replace("\u202f", "").replace(" ", "")
    try:
        value = float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise UserError(f"{what} {given!r}: give a share between 0 % and 100 %, such as 2% or 0.02.")
    return value


def certify(folder: Path, on: str, ask: Ask) -> None:
    """Certify a kin on a labelled file, write certificate.json, and add it to card and report."""
    from minikin.trust import certificate, certify

    if ask.days < 1:
        raise UserError(f"--expires {ask.days}: give at least 1 day.")
    if ask.method not in METHODS:
        raise UserError(f"--method {ask.method}: give one of {', '.join(METHODS)}.")
    if ask.by_class and ask.sets is None:
        raise UserError("--by-class says how --sets are made: give a share with --sets too.")
    kin = load(folder, engine=ask.engine)
    read, answered = _ways(kin, ask)
    every = read(on, kin, ask)
    trained_on = trained(kin)
    kept = certify.unseen(hashes(every.texts), trained_on)
    left_out = len(every.texts) - len(kept)
    if left_out:
        progress.print(f"[yellow]{words.count(left_out, 'text')} left out: the kin was trained on them[/]")
    table = every.take(kept)
    labelled = answered(kin, table)
    method: certify.Method = "crc" if ask.method == "crc" else "ltt"
    try:
        sets = None if ask.sets is None else certify.conformal_sets(labelled, ask.sets, ask.by_class)
        found = certify.certify(
            labelled,
            ask.risk,
            1.0 - ask.confidence,
            seed=ask.seed,
            labels_checked=ask.labels_checked,
            method=method,
            sets=sets,
        )
    except CertificateError:
        if isinstance(kin, Kin):
            _show_suspects(kin, table, labelled, ask)
        raise
    source = certificate.Source(
        digest.of_value([digest.of_texts(every.texts), every.known, kept.tolist()]),
        left_out,
        trained_on is not None,
        Path(on).name,
        "verdicts" if ask.verdict else "labels",
    )
    today = datetime.datetime.now(datetime.UTC).date()
    value = certificate.write(kin.folder, kin.manifest, found, source, engine=kin.engine, today=today, days=ask.days)
    _tell(value, kin.folder)
    _write_report(kin.folder)


def _ways(kin: Kin | Author, ask: Ask) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How a file is read, and how it is answered: by a kin that sorts, or by one that writes."""
    from minikin.commands import trust_writing as writing

    if isinstance(kin, Author):
        return writing.read, writing.judged
    if ask.verdict:
        raise UserError("--verdict is for kins that write; this one sorts texts, and their labels say what is right.")
    reject = _reject(kin.labels, ask)
    return read, lambda kin, t: labelled_by(kin, t.texts, t.labels_N, reject, t.groups_N)


def read(source: str, kin: Kin, ask: Ask) -> Table:
    """Read texts, labels and the group column. Raises DataError with every fault when the file can't be used."""
    from minikin.commands.measure import _label_of
    from minikin.data.clean import tidy
    from minikin.data.faults import Bag
    from minikin.data.formats import batches

    pair = kin.manifest.pair
    columns = ask.columns or usual_columns(kin.folder)
    if len(columns) != 1 + pair:
        raise UserError(f"This kin answers to {'pairs' if pair else 'single texts'}: give --text {1 + pair} time(s).")
    wanted = (*columns, ask.label or _label_of(kin.folder), *([ask.group] if ask.group else []))
    bag, places = Bag(), {name: i for i, name in enumerate(kin.labels)}
    texts: list[Text] = []
    rows: list[tuple[int, str, int]] = []
    for batch in batches(source, wanted, "certify", bag):
        for row, *values in zip(batch.rows, *batch.columns, strict=True):
            parts = [tidy("" if v is None else str(v))[0] for v in values]
            label = parts[len(columns)]
            if not label:
                bag.row("missing-label", "certify", row)
                continue
            texts.append((parts[0], parts[1]) if pair else parts[0])
            rows.append((places.get(label, UNKNOWN_LABEL), parts[-1] if ask.group else "", row))
    bag.raise_if_fatal()
    for fault in bag.faults():
        progress.print(f"[yellow]{escape(fault.message)}[/]")
    if not texts:
        raise DataError(f"{source} holds no labelled text to certify on.")
    labels, groups, numbers = zip(*rows, strict=True)
    return Table(texts, np.array(labels), np.array(groups) if ask.group else None, np.array(numbers))


def labelled_by(kin: Kin, texts: Sequence[Text], labels_N: Array, reject: int, groups_N: Array | None = None) -> Any:
    """Ask the kin about all texts: what `certify` and `prospects` take."""
    from minikin.trust import held
    from minikin.trust.certify import Labelled

    probabilities_NC, pooled_NF = kin.both(texts)
    familiar_N2 = familiar_to(kin, texts, probabilities_NC)
    kept = held.read(_of_training(kin), kin.labels, reject)
    return Labelled(probabilities_NC, pooled_NF, labels_N, reject, groups_N, familiar_N2, kept)


def familiar_to(kin: Kin, texts: Sequence[Text], probabilities_NC: Array) -> Array | None:
    """The shares (N, 2) of each text's words that are familiar; None for a kin without such a table."""
    from minikin.trust.words import shares

    bits_B = _of_training(kin).get("bits_B")
    return None if bits_B is None else shares(bits_B, texts, probabilities_NC)


def hashes(texts: Sequence[Text]) -> Array:
    """The 64-bit hashes under which the kin remembers its training rows."""
    from minikin.data.clean import hash64

    return np.array([hash64(text) for text in texts], np.uint64)


def trained(kin: Kin | Author) -> Array | None:
    """The sorted hashes of the rows that the kin was trained on; None for a kin that doesn't carry them."""
    return _of_training(kin).get("rows")


def _of_training(kin: Kin | Author) -> Mapping[str, Array]:
    """What the kin carries of its training rows: hashes, the table of their words, and answers to held-out ones."""
    return tensors.read(kin.folder / manifest.TRAINED_ON)[0] if manifest.TRAINED_ON in kin.manifest.files else {}


def advise(target: Path, on: str | None, ask: Ask) -> None:
    """Say whether a small model is right here: for a kin from its labels, for a recipe from a quick stand-in."""
    from minikin.trust.advise import RISKS, prospects, verdict

    if target.is_dir():
        kin = load(target, engine=ask.engine)
        read, answered = _ways(kin, ask)
        source = on or _test_of(kin.folder)
        table = read(source, kin, ask)
        trained_on = trained(kin)
        fresh_N = np.ones(len(table.texts), bool) if trained_on is None else ~np.isin(hashes(table.texts), trained_on)
        labelled = answered(kin, table.take(np.flatnonzero(fresh_N)))
        who = f"this kin on {words.count(len(labelled), 'label')} of {source}"
    else:
        labelled, who = _stand_in(target, ask)
    rows = prospects(labelled, 1.0 - ask.confidence, ask.seed, tuple(sorted({*RISKS, ask.risk})))
    cells = [
        (
            words.share(row.alpha),
            words.percent(row.coverage) if row.coverage is not None else "not certifiable",
            words.percent(row.ceiling),
            words.NONE if row.missing == 0 else "none would do" if row.missing is None else f"{row.missing:,}",
        )
        for row in rows
    ]
    out = show.out()
    out.print(f"What is within reach at {words.share(ask.confidence)} confidence, by {escape(who)}:")
    out.print(show.table(("risk", "kept local", "at best", "labels missing"), cells))
    out.print(verdict(rows, ask.risk)[1])


def _reject(labels: Sequence[str], ask: Ask) -> int:
    from minikin.trust.certify import reject_place

    return reject_place(labels, ask.reject)


def _test_of(folder: Path) -> str:
    from minikin.commands.measure import _test_of

    found = _test_of(folder)
    if found is None or not Path(found).is_file():
        raise UserError(f"Which labels? {folder} names no test file that is here. Give one with --on.")
    return found


def _stand_in(recipe: Path, ask: Ask) -> tuple[Any, str]:
    """Before anything is built: TF-IDF with logistic regression on the recipe's data, certified on its test split."""
    import tempfile

    from minikin.commands.build import need_build
    from minikin.trust.certify import Labelled

    need_build()
    from minikin.base.types import no_progress
    from minikin.measure import baselines
    from minikin.recipe.read import read as read_recipe
    from minikin.steps import material

    found = read_recipe(recipe)
    with tempfile.TemporaryDirectory(prefix="minikin-") as cache:
        data = material.read(found, Path(cache) / "data", no_progress)
        model = baselines.tfidf(data.train, data.labels, found.seed, validation=data.validation)
        rows_NC = np.asarray(model.probabilities(list(data.test.texts)))
        labelled = Labelled(rows_NC, None, np.asarray(data.test.labels_N), _reject(data.labels, ask))
    who = f"a stand-in (TF-IDF with logistic regression) on {words.count(len(labelled), 'test label')}"
    return labelled, who


def _show_suspects(kin: Kin, table: Table, labelled: Any, ask: Ask) -> None:
    """Show the labels that look most wrong, worst first."""
    from minikin.trust.labels import label_errors

    inside = np.flatnonzero((labelled.labels_N >= 0) & (labelled.labels_N != labelled.reject))
    if ask.labels_checked or len(inside) < 2 or not np.isfinite(labelled.probabilities_NC).all():
        return
    found = label_errors(labelled.probabilities_NC[inside], labelled.labels_N[inside])
    if found.share < ask.risk:
        return
    for i in inside[list(found.suspects[:ROWS_SHOWN])]:
        text = table.texts[int(i)]
        shown = " ".join((text if isinstance(text, str) else " | ".join(text)).split())[:90]
        given = kin.labels[int(labelled.labels_N[i])]
        likely = kin.labels[int(labelled.probabilities_NC[i].argmax())]
        progress.print(
            f"row {table.rows_N[i]}: {escape(shown)}  [dim]labelled {escape(given)}, rather {escape(likely)}?[/]"
        )


def _tell(value: dict[str, Any], folder: Path) -> None:
    out = show.out()
    groups = value["groups"] or {"all texts": value}
    rows = [
        (
            escape(name or "(empty)"),
            *(
                ("handed over whole", words.NONE, words.NONE, words.NONE)
                if row is None
                else (
                    f"score ≥ {row['lambda']:.3f}",
                    f"{row['k']:,} of {row['n']:,}",
                    words.percent(row["bound"], 2),
                    words.percent(row["n"] / max(1, value["labels"]["certified"])),
                )
            ),
        )
        for name, row in groups.items()
    ]
    out.print(show.table(("", "answers", "wrong", "bound", "kept local"), rows))
    risk, sure = words.share(value["alpha"]), words.share(value["confidence"])
    until = f"until {value['valid']['until']}"
    if value["method"] == "crc":
        out.print(f"Certified: of all texts at most {risk} answered wrongly, in expectation, {until}.")
    else:
        out.print(f"Certified at a risk of {risk} with {sure} confidence, {until}.")
    if (sets := value["sets"]) is not None:
        out.print(
            f"Candidates: {sets['mean_size']:.1f} labels on average hold the true one in {words.share(sets['share'])} "
            f"of all cases{' of each class' if sets['by_class'] else ''}; {words.percent(sets['single'])} have one."
        )
    for row in value["audit"]:
        out.print(
            f"[dim]A risk of {words.share(row['risk'])} would be caught after about {row['expected_answers']:,} "
            "audited answers.[/]"
        )
    print(folder / manifest.CERTIFICATE)


def _write_report(folder: Path) -> None:
    """Card and report again, with the certificate, where the build left its story."""
    from minikin.report import files

    if not (folder / "report.json").is_file():
        progress.print("[dim]card and report are left as they were: the kin carries no report.json[/]")
        return
    files.write(folder, manifest.read(folder))
