"""What helps a small student, on a part of the training texts: with and without a teacher, each objective, more text.

    OMP_NUM_THREADS=2 python bench/ablation.py --data helpdesk banking77 clinc150 --texts 2000 --epochs 20 --seeds 0 1 2

The teacher is tuned on the whole training split, once (the run folder is main_job's), and asked once about the part.
Objectives that say nothing about the answer, trained alone, get their head afterwards: logistic regression on the
student's own sentence vectors; "nothing" is that head on the untrained student, the floor of those rows. Every row is
printed and kept as it is known; rows that are there are not run again.
"""

from __future__ import annotations

import argparse
import fnmatch
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import RUNS, binding, data_of, keep, kept, mean_sd, name_of, recipe_of, run_of, table
from minikin.base import digest
from minikin.base.types import Array, Data, Encoded, Signals, Split, Student
from minikin.data.augment import augment
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.measure.quality import answers
from minikin.plan.candidates import Candidate
from minikin.recipe import ladder
from minikin.recipe.schema import Objective as Spec
from minikin.steps import learn, origins, prove, teach
from minikin.steps.context import Build
from minikin.students import module
from minikin.teachers import signals as store
from minikin.train.distil import distil, logits
from minikin.train.loop import Settings
from minikin.train.objectives import INSIDE, Objective

FEATURES = ("pooled", "hidden", "attention", "relations", "rkd_distance", "rkd_angle")
ANSWERS = ("kl", "mse", "gold")


@dataclass(frozen=True)
class Row:
    """One way to train. `copies` says that changed copies are learned from too; `long` keeps the epochs then."""

    name: str
    terms: tuple[str, ...]
    tuned: bool = True
    copies: bool = False
    long: bool = False

    @property
    def blind(self) -> bool:
        """Whether nothing trains the head."""
        return not set(self.terms) & set(ANSWERS)


def rows_of() -> list[Row]:
    """All rows: without the teacher, each objective alone, beside the logits, all together, with more text."""
    rows = [Row("without teacher", ("gold",), tuned=False), Row("gold, inherited weights", ("gold",))]
    rows += [Row("nothing", ())]
    rows += [Row(name, (name,)) for name in ("kl", "mse", *FEATURES)]
    rows += [Row(f"kl + {name}", ("kl", name)) for name in ("gold", *FEATURES)]
    rows += [Row(f"kl + pooled + {name}", ("kl", "pooled", name)) for name in ("gold", *FEATURES[1:])]
    rows += [Row("kl + all features", ("kl", *FEATURES))]
    rows += [Row("kl, copies, same steps", ("kl",), copies=True)]
    rows += [Row("kl + pooled, copies, same steps", ("kl", "pooled"), copies=True)]
    rows += [Row("kl + pooled, copies, same epochs", ("kl", "pooled"), copies=True, long=True)]
    return rows


def candidates(shape: tuple[int, int, int, int] | None, wanted: Sequence[str]) -> dict[str, Candidate]:
    """The fixed students: grown tiny, cut slim (both smaller where the teacher is), and a static one if asked for."""
    tiny = ladder.shape("tiny")
    found = {
        "grown": Candidate("encoder", "grown", tiny.hidden, tiny.layers, tiny.heads, tiny.feed_forward),
        "static": Candidate("static", "grown", 128, window=3),
    }
    if shape is not None:
        layers, hidden, heads, neurons = shape
        width = min(192, hidden)
        found["cut"] = Candidate("encoder", "cut", width, min(2, layers), width // (hidden // heads), min(384, neurons))
    return {name: found[name] for name in wanted if name in found}


@dataclass
class Study:
    """One set, ready: two roots (from the tuned teacher, and from the checkpoint as it was found), and the signals."""

    dataset: str
    build: Build
    data: Data
    part: Split
    mistyped: Split
    teacher_digest: str
    bases: dict[bool, origins.Roots]
    inside: Signals
    wide: Signals
    students: dict[tuple[Any, ...], Student] = field(default_factory=dict)
    encoded: dict[tuple[Any, ...], Encoded] = field(default_factory=dict)

    def student(self, candidate: Candidate, tuned: bool, seed: int) -> Student:
        """An untrained student, made once; a cut one is the same for every seed."""
        key = (candidate, tuned, 0 if candidate.start == "cut" else seed)
        if key not in self.students:
            self.students[key] = origins.make(candidate, self.bases[tuned], seed)
        return self.students[key]

    def tokens(self, student: Student, role: str) -> Encoded:
        """Ids of the `part`, `wide`, `validation`, `test` or `mistyped` texts, made once for each tokenizer."""
        key = (role, student.family, digest.of_value(student.tokenizer_json))
        if key not in self.encoded:
            texts = {
                "part": self.part.texts,
                "wide": self.wide.texts,
                "validation": self.data.validation.texts,
                "test": self.data.test.texts,
                "mistyped": self.mistyped.texts,
            }[role]
            self.encoded[key] = module.tokens(student, texts)
        return self.encoded[key]


def study(dataset: str, run: Path, overrides: Sequence[str], texts: int, copies: int, wanted: Sequence[str]) -> Study:
    """Tune the teacher (or take it from the run folder) and ask it about the part; both are kept."""
    build = binding(recipe_of(dataset, overrides), run, quiet=False)
    data = data_of(build, "ablation")
    teacher = teach.found(build, data)
    near = teach.neighbours(build, data, teacher)
    kept_pieces = origins.pieces(build, data, teacher)
    untuned = origins.roots(build, data, kept_pieces, teacher)
    teacher = teach.tuned(build, data, teacher)
    tuned = origins.roots(build, data, kept_pieces, teacher)
    rng = np.random.default_rng(build.recipe.seed)
    part = data.train.take(np.sort(rng.permutation(len(data.train))[:texts]))
    more = augment(part.texts, copies, build.recipe.seed, near)
    layers = sorted({t for c in candidates(tuned.teacher_shape, wanted).values() for t in _layers(c, tuned)})
    key = digest.of_value([teacher.digest, digest.of_texts(part.texts), digest.of_texts(more), layers])
    folder = RUNS / name_of(dataset) / f"ablation-{key[:16]}"
    asked: list[tuple[str, list[Any], list[str]]] = [
        ("inside", list(part.texts), ["logits", "pooled", *INSIDE]),
        ("wide", [*part.texts, *more], ["logits", "pooled"]),
    ]
    found = []
    with teach.threads(build.threads):
        for name, all_texts, wants in asked:
            if not (folder / name / store.META).is_file():
                print(f"{dataset}: asking the teacher about {len(all_texts):,} texts", flush=True)
                store.collect(teacher, all_texts, folder / name, keep=wants, layers=layers)
            gold_N = np.concatenate([part.labels_N, np.full(len(all_texts) - len(part), -1)])
            found.append(store.read(folder / name, all_texts, gold_N))
        mistyped = prove.typos(data.test, build.recipe.seed)
        made = Study(
            dataset, build, data, part, mistyped, teacher.digest, {True: tuned, False: untuned}, found[0], found[1]
        )
        _note_teacher(made, teacher)
    return made


def _layers(candidate: Candidate, base: origins.Roots) -> set[int]:
    theirs = base.teacher_shape[0] if base.teacher_shape else 0
    named = learn.objectives_of([Spec(name="hidden"), Spec(name="attention")], candidate, theirs)
    return {layer for objective in named for layer in objective.layers.values()}


def _note_teacher(made: Study, teacher: Any) -> None:
    """Keep the teacher's own accuracy as a row, once."""
    key = {"dataset": name_of(made.dataset), "teacher": made.teacher_digest, "row": "teacher"}
    if any(all(row.get(k) == v for k, v in key.items()) for row in kept("ablation")):
        return
    accuracy, typo = (
        float((answers(teacher, s).argmax(1) == s.labels_N).mean()) for s in (made.data.test, made.mistyped)
    )
    keep("ablation", {**key, "accuracy": accuracy, "typo_accuracy": typo})


def trained(made: Study, candidate: Candidate, row: Row, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one student one way; return its accuracy on the test split, clean and mistyped."""
    signals, role = (made.wide, "wide") if row.copies else (made.inside, "part")
    student = made.student(candidate, row.tuned, seed)
    base = made.bases[row.tuned]
    theirs = base.teacher_shape[0] if base.teacher_shape else 0
    terms = []
    for name in row.terms:
        term = (
            Objective(name) if name == "mse" else learn.objectives_of([Spec(name=name)], candidate, theirs)[0]  # type: ignore[arg-type]
        )
        terms.append(replace(term, weight=args.weight.get(name, 1.0)))
    shorter = 1 if row.long or not row.copies else len(made.part) / len(signals)
    settings = Settings(
        epochs=max(1, round(args.epochs * shorter)),
        batch=args.batch,
        learning_rate=learn.LEARNING_RATES["static" if candidate.family == "static" else candidate.start],
        seed=seed,
    )
    net = module.to_module(student, inside=any(t.name in INSIDE for t in terms))
    validation = (made.tokens(student, "validation"), made.data.validation.labels_N)
    started = time.perf_counter()
    with teach.threads(made.build.threads):
        if terms:
            distil(
                net,
                candidate.family,
                made.tokens(student, role),
                signals,
                terms,
                settings,
                validation=None if row.blind else validation,
                widths=module.widths(student),
            )
        # looking inside costs time, and nobody looks any more
        net = module.to_module(net.to_student(student))
        answer = _probe(made, net, student) if row.blind else lambda role: logits(net, made.tokens(student, role))
        truth_N = made.data.test.labels_N
        accuracy, typo = (float((answer(role).argmax(1) == truth_N).mean()) for role in ("test", "mistyped"))
    return {"accuracy": accuracy, "typo_accuracy": typo, "epochs": settings.epochs, "s": time.perf_counter() - started}


def _probe(made: Study, net: torch.nn.Module, student: Student) -> Any:
    """Logistic regression on the student's sentence vectors of the part; a function from a role to scores."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    head.fit(_pooled(net, made.tokens(student, "part")), made.part.labels_N)

    def answer(role: str) -> Array:
        out_NC = np.zeros((len(made.data.test), len(made.data.labels)))
        out_NC[:, head.classes_] = head.predict_proba(_pooled(net, made.tokens(student, role)))
        return out_NC

    return answer


@torch.no_grad()
def _pooled(net: torch.nn.Module, encoded: Encoded) -> Array:
    net.eval()
    parts = [
        (rows_B, net(*padded(encoded, rows_B)).pooled_BH.numpy()) for rows_B in in_order(encoded.ids.lengths_N, 64)
    ]
    order_N = np.concatenate([rows_B for rows_B, _ in parts])
    return np.asarray(np.concatenate([x for _, x in parts])[np.argsort(order_N, kind="stable")])


def ablate(dataset: str, args: argparse.Namespace) -> None:
    """Run what is missing of one set, and print its table."""
    made = study(dataset, args.run or run_of(dataset), args.overrides, args.texts, args.copies, args.students)
    chosen = candidates(made.bases[True].teacher_shape, args.students)
    rows = [r for r in rows_of() if not args.only or any(fnmatch.fnmatch(r.name, o) for o in args.only)]
    common = {
        "dataset": name_of(dataset),
        "teacher": made.teacher_digest,
        "texts": len(made.part),
        "epochs_asked": args.epochs,
        "batch": args.batch,
        "copies": args.copies,
        "weights": args.weight,
    }
    there = {_key(row): row for row in kept("ablation")}
    work = [
        (seed, name, candidate, row)
        for seed in args.seeds
        for row in rows
        for name, candidate in chosen.items()
        if not (candidate.family == "static" and set(row.terms) & set(INSIDE))
    ]
    for done, (seed, name, candidate, row) in enumerate(work, 1):
        values = {**common, "student": name, "candidate": candidate.name, "row": row.name, "seed": seed}
        if _key(values) in there:
            continue
        found = {**values, **trained(made, candidate, row, seed, args)}
        keep("ablation", {**found, "terms": asdict(row)})
        there[_key(found)] = found
        print(
            f"{done:>4}/{len(work)} {name_of(dataset):<10} {name:<6} seed {seed} {row.name:<34} "
            f"{100 * found['accuracy']:6.2f} typo {100 * found['typo_accuracy']:6.2f} {found['s']:6.1f} s",
            flush=True,
        )
    print(_table(made, common, chosen, rows, there, args.seeds))


SETTINGS = ("dataset", "teacher", "texts", "epochs_asked", "batch", "copies", "weights")
KEYS = (*SETTINGS, "student", "candidate", "row", "seed")


def _key(row: dict[str, Any]) -> str:
    return digest.of_value([row.get(k) for k in KEYS])


def _table(
    made: Study,
    common: dict[str, Any],
    chosen: dict[str, Candidate],
    rows: Sequence[Row],
    there: dict[str, dict[str, Any]],
    seeds: Sequence[int],
) -> str:
    lines = []
    for row in rows:
        cells = [row.name + (" *" if row.blind else "")]
        for name, candidate in chosen.items():
            wanted = [
                {**common, "student": name, "candidate": candidate.name, "row": row.name, "seed": seed}
                for seed in seeds
            ]
            found = [there[_key(w)] for w in wanted if _key(w) in there]
            cells += [mean_sd([f[key] for f in found], factor=100) for key in ("accuracy", "typo_accuracy")]
        lines.append(cells)
    teacher = next(r for r in kept("ablation") if r["row"] == "teacher" and r["teacher"] == made.teacher_digest)
    columns = [column for c in chosen.values() for column in (c.name, f"{c.name}, typos")]
    return (
        f"\n{name_of(made.dataset)}: {common['texts']:,} training texts, {common['epochs_asked']} epochs, "
        f"{common['copies']} copies, seeds {', '.join(map(str, seeds))}; the teacher (tuned on all "
        f"{len(made.data.train):,}) reaches {100 * teacher['accuracy']:.2f}, with typos "
        f"{100 * teacher['typo_accuracy']:.2f}\n\n"
        + table(["objectives", *columns], lines)
        + "\n\n\\* head fitted afterwards by logistic regression on the student's sentence vectors\n"
    )


def _weight(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in (*FEATURES, *ANSWERS):
        raise argparse.ArgumentTypeError(f"there is no objective '{name}'")
    return name, float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["helpdesk", "banking77", "clinc150"])
    parser.add_argument("--texts", type=int, default=2000, help="training texts to learn from")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--copies", type=int, default=4, help="changed copies of each text, in the last rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--students", nargs="+", default=["grown", "cut"], choices=("grown", "cut", "static"))
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="rows by name, like 'kl*'")
    parser.add_argument("--weight", nargs="+", type=_weight, default=[], metavar="OBJECTIVE=FACTOR")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--run", type=Path, help="run folder; default: bench/runs/DATASET/run")
    args = parser.parse_args()
    args.weight = dict(args.weight)
    for dataset in args.data:
        ablate(dataset, args)


if __name__ == "__main__":
    main()
