"""What happens when traffic changes under a certificate: how soon it is noticed, how often falsely, and what is silent.

python bench/drift.py [--kin DIR] [--repeats 60] [--only "no drift"]
python bench/drift.py --simulate 1000

CLINC150: traffic is in-scope test and validation texts with 5 % out of scope, of which half certifies (α = 2 %,
δ = 5 %) and half is replayed. After 1,000 texts it changes: more out of scope (25 %), an unseen domain (half of it
banking77), typos in every text, another model behind the same certificate; or nothing changes. Of all requests 5 % go
to the blind audit. A stream fails silently if the answers given are wrong more often than α and nobody is told within
2,900 texts. No text comes twice before the change: drawn with replacement from one half, traffic would not be
exchangeable with the other, and the watch would see that. Identity (hashes) would notice the other model at once; here
it is left out, to see what the rest notices.
Without `--kin` TF-IDF with logistic regression stands in for the small model.

`--simulate` has no model: as many streams of independent scores, each with a calibration set of its own, as long as the
replayed ones; how many alarm is how often the watch on scores is wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import keep, table
from data import source
from minikin.base.errors import UserError
from minikin.base.types import Array, Runtime, Split
from minikin.commands.trust import familiar_to, labelled_by
from minikin.data.typo import with_one_typo
from minikin.equations.drift import martingale, martingale_start
from minikin.measure.baselines import tfidf
from minikin.runtimes import Kin
from minikin.runtimes import open as open_kin
from minikin.trust.certify import Certified, Labelled, certify, reject_place
from minikin.trust.drift import CERTIFIED, SUSPECT, Watch
from minikin.trust.scores import REJECTED

ALPHA, DELTA, ALARM = 0.02, 0.05, 0.025
AUDIT_SHARE, OUTSIDE_SHARE = 0.05, 0.05
BEFORE, AFTER, LOOK_EVERY = 1000, 2900, 50
SCENARIOS = ("no drift", "out of scope 5 → 25 %", "unseen domain", "typos", "another model")


def answers(model: Runtime, texts: list[str], labels_N: Array) -> Labelled:
    """What a model says, with its pooled vectors where it has any."""
    reject = reject_place(model.labels)
    if isinstance(model, Kin):
        return labelled_by(model, texts, labels_N, reject)
    return Labelled(np.asarray(model.probabilities(texts)), None, labels_N, reject)


def pools(folder: Path | None) -> dict[str, Labelled]:
    """Answers to everything that can come: in scope, outside, with typos, of another domain, by another model."""
    sets = json.loads((source("clinc150") / "data_full.json").read_text(encoding="utf-8"))
    train = [tuple(row) for row in sets["train"]]
    labels = tuple(sorted({label for _, label in train}))
    model: Runtime = open_kin(folder) if folder else lexical(train, labels, 1.0)
    places = {label: i for i, label in enumerate(model.labels)}
    inside = [tuple(row) for row in sets["val"] + sets["test"]]
    texts, labels_N = [text for text, _ in inside], np.array([places.get(label, -1) for _, label in inside])
    outside = [text for text, _ in sets["oos_val"] + sets["oos_test"]]
    with (source("banking77") / "test.csv").open(encoding="utf-8", newline="") as handle:
        foreign = [row["text"] for row in csv.DictReader(handle)]
    rng = np.random.default_rng(0)
    worse = lexical(train, model.labels, 0.1)
    return {
        "inside": answers(model, texts, labels_N),
        "outside": answers(model, outside, np.full(len(outside), -1)),
        "foreign": answers(model, foreign, np.full(len(foreign), -1)),
        "typos": answers(model, [with_one_typo(text, rng) for text in texts], labels_N),
        "worse": answers(worse, texts, labels_N) if folder is None else _without(worse, model, texts, labels_N),
    }


def _without(worse: Runtime, model: Any, texts: list[str], labels_N: Array) -> Labelled:
    """The other model's answers beside the first one's vectors: a head that was replaced."""
    p_NC = np.asarray(worse.probabilities(texts))
    return Labelled(
        p_NC,
        model.both(texts)[1],
        labels_N,
        reject_place(model.labels),
        familiar_N2=familiar_to(model, texts, p_NC),
    )


def lexical(train: list[tuple[str, str]], labels: tuple[str, ...], share: float) -> Runtime:
    """TF-IDF with logistic regression on a share of the training texts."""
    rows = train[:: round(1 / share)]
    places = {label: i for i, label in enumerate(labels)}
    labels_N = np.array([places[label] for _, label in rows])
    return tfidf(Split([text for text, _ in rows], labels_N, np.arange(len(rows))), labels)


def joined(parts: list[Labelled], order: Array) -> Labelled:
    """Several answers as one, in another order."""
    pooled = None
    if all(part.pooled_NF is not None for part in parts):
        pooled = np.concatenate([np.asarray(part.pooled_NF) for part in parts])[order]
    familiar_N2 = None
    if all(part.familiar_N2 is not None for part in parts):
        familiar_N2 = np.concatenate([np.asarray(part.familiar_N2) for part in parts])[order]
    p_NC = np.concatenate([part.probabilities_NC for part in parts])[order]
    labels_N = np.concatenate([part.labels_N for part in parts])[order]
    return Labelled(p_NC, pooled, labels_N, parts[0].reject, familiar_N2=familiar_N2, held=parts[0].held)


def traffic(
    held: dict[str, Labelled], scenario: str, n: int, rng: np.random.Generator, came: dict[str, int]
) -> Labelled:
    """`n` texts as they come in a scenario ("no drift" before the change); `came` counts those that came already."""
    outside = rng.binomial(n, 0.25 if scenario.startswith("out of scope") else OUTSIDE_SHARE)
    foreign = rng.binomial(n, 0.5) if scenario == "unseen domain" else 0
    kind = {"typos": "typos", "another model": "worse"}.get(scenario, "inside")
    counts = {"outside": outside, "foreign": foreign, kind: max(0, n - outside - foreign)}
    parts = []
    for name, count in counts.items():
        first = came.get(name, 0)
        came[name] = first + count
        parts.append(held[name].take(np.arange(first, first + count) % len(held[name])))
    order = rng.permutation(sum(map(len, parts)))[:n]
    return joined(parts, order)


def replay(found: Certified, held: dict[str, Labelled], scenario: str, rng: np.random.Generator) -> dict[str, Any]:
    """Replay one stream until the watch stops it: what it noticed, after how many texts, and what was wrong."""
    threshold = found.chosen[""].threshold  # type: ignore[union-attr]
    came: dict[str, int] = {}
    held = {name: pool.take(rng.permutation(len(pool))) for name, pool in held.items()}
    stream = [traffic(held, now, n, rng, came) for now, n in (("no drift", BEFORE), (scenario, AFTER))]
    both = joined(stream, np.arange(BEFORE + AFTER))
    scores_N = found.scorer.scores(*both.given)
    local_N, wrong_N = scores_N >= threshold, both.wrong_N
    audited_N = rng.random(len(scores_N)) < AUDIT_SHARE
    watch = Watch("bench", ALPHA, {"scores": found.scores_N}, alarm=ALARM, together=1, chance=rng.random)
    said: list[tuple[str, str]] = []
    stopped = None
    for start in range(0, len(scores_N), LOOK_EVERY):
        rows = slice(start, start + LOOK_EVERY)
        watch.seen(scores=scores_N[rows])
        said += [("a", "b" if wrong else "a") for wrong in wrong_N[rows][local_N[rows] & audited_N[rows]]]
        watch.audited(said)
        if watch.state != CERTIFIED:
            stopped = start + LOOK_EVERY
            break
    after = local_N[BEFORE:]
    risk = float(wrong_N[BEFORE:][after].mean()) if after.any() else 0.0
    given = local_N[BEFORE : max(stopped or len(local_N), BEFORE)]
    return {
        "stopped": stopped,
        "early": stopped is not None and stopped <= BEFORE,
        "by": None if stopped is None else ("scores" if watch.state == SUSPECT else "audit"),
        "risk": risk,
        "wrong_given": int(wrong_N[BEFORE : BEFORE + len(given)][given].sum()),
        "local_before": float(local_N[:BEFORE].mean()),
        "local_after": float(after.mean()),
    }


def repeat(held: dict[str, Labelled], seed: int, wanted: Sequence[str]) -> dict[str, dict[str, Any]] | None:
    """One random half certifies, the other is replayed in each scenario; None where nothing can be certified."""
    rng = np.random.default_rng(seed)
    halves = {name: np.array_split(rng.permutation(len(pool)), 2) for name, pool in held.items()}
    # typos and the other model answer the same texts as the first: keep their certifying halves out too
    for name in ("typos", "worse"):
        halves[name] = halves["inside"]
    ours = {name: pool.take(halves[name][0]) for name, pool in held.items()}
    theirs = {name: pool.take(halves[name][1]) for name, pool in held.items()}
    outside = round(len(ours["inside"]) * OUTSIDE_SHARE / (1 - OUTSIDE_SHARE))
    parts = [ours["inside"], ours["outside"].take(np.arange(min(outside, len(ours["outside"]))))]
    labelled = joined(parts, rng.permutation(sum(map(len, parts))))
    try:
        found = certify(labelled, ALPHA, DELTA, seed=seed, labels_checked=True)
    except UserError:
        return None
    return {scenario: replay(found, theirs, scenario, rng) for scenario in wanted}


def simulated(streams: int, calibration: int = 2763, length: int = BEFORE + AFTER, rejected: float = 0.08) -> int:
    """How many streams of scores that come as the calibration scores did raise an alarm; some scores are all alike."""
    alarms = 0
    for seed in range(streams):
        rng = np.random.default_rng([seed, 7])
        scores_N = rng.normal(size=calibration + length)
        scores_N[rng.random(len(scores_N)) < rejected] = REJECTED
        state = martingale_start(scores_N[:calibration].tolist())
        for score, chance in zip(scores_N[calibration:].tolist(), rng.random(length).tolist(), strict=True):
            state = martingale(state, score, chance)
            if state.log_e >= -math.log(ALARM):
                alarms += 1
                break
    return alarms


def row_of(scenario: str, runs: list[dict[str, Any]]) -> list[str]:
    """A line of the table, also kept in bench/runs."""
    noticed = [run for run in runs if run["stopped"] and not run["early"]]
    delays = [run["stopped"] - BEFORE for run in noticed]
    silent = sum(run["risk"] > ALPHA and run["stopped"] is None for run in runs)
    alarms = [run["by"] for run in runs if run["early"] or (run["stopped"] and scenario == "no drift")]
    false = len(alarms)
    quarter = [float(q) for q in np.percentile(delays, [50, 90])] if delays else None
    measured = {
        "scenario": scenario,
        "runs": len(runs),
        "risk": float(np.mean([run["risk"] for run in runs])),
        "local_before": float(np.mean([run["local_before"] for run in runs])),
        "local_after": float(np.mean([run["local_after"] for run in runs])),
        "noticed": len(noticed),
        "by_scores": sum(run["by"] == "scores" for run in noticed),
        "delay_p50_p90": quarter,
        "false": false,
        "false_by_scores": alarms.count("scores"),
        "over_alpha": sum(run["risk"] > ALPHA for run in runs),
        "silent": silent,
        "wrong_given": float(np.mean([run["wrong_given"] for run in runs])),
    }
    keep("drift", measured)
    share = [f"{100 * float(measured[key]):.1f}" for key in ("local_before", "local_after", "risk")]  # type: ignore[arg-type]
    delay = "–" if quarter is None or scenario == "no drift" else f"{quarter[0]:,.0f} / {quarter[1]:,.0f}"
    noted = "–" if scenario == "no drift" else f"{len(noticed)} of {len(runs)} ({measured['by_scores']} by scores)"
    return [
        scenario,
        *share,
        noted,
        delay,
        f"{measured['wrong_given']:.1f}",
        str(silent),
        f"{false} of {len(runs)} ({alarms.count('scores')} by scores)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kin", type=Path, help="a kin of CLINC150's labels, with or without out-of-scope texts; absent: TF-IDF"
    )
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario instead of all")
    parser.add_argument("--simulate", type=int, metavar="STREAMS", help="only count false alarms on made-up scores")
    args = parser.parse_args()
    if args.simulate:
        alarms = simulated(args.simulate)
        keep("drift", {"scenario": "simulated", "streams": args.simulate, "alarms": alarms})
        print(f"{alarms:,} of {args.simulate:,} streams without drift raised an alarm; {ALARM:.1%} are allowed")
        return
    held, wanted = pools(args.kin), (args.only,) if args.only else SCENARIOS
    found = [runs for seed in range(args.repeats) if (runs := repeat(held, seed, wanted)) is not None]
    print(f"{len(found)} of {args.repeats} halves could be certified.")
    if found:
        rows = [row_of(scenario, [runs[scenario] for runs in found]) for scenario in wanted]
        columns = ("scenario", "local before", "local after", "risk after", "noticed", "delay p50 / p90, texts",
                   "wrong until then", "over α, unnoticed", "false alarms")  # fmt: skip
        print(table(columns, rows))


if __name__ == "__main__":
    main()
