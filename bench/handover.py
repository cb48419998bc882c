"""How much of clinc150 a certified kin keeps local: `python bench/handover.py --kin KIN` after `bench/data.py` and
`minikin build bench/recipes/clinc150_oos.yaml -o KIN`.

Validation and test with their out-of-scope texts (8,600) are pooled and halved again and again: one half certifies
(10 % of it fits the score, beside texts that the build held out), the other is the traffic. Any out-of-scope text that
is answered counts as wrong.

The other half's risk is itself an estimate, from other texts of one pool: where it chances to be high, that of the
certifying half is low, so more halvings lie above α than certificates are wrong. Therefore there is a *known risk* too:
the certifying texts are drawn, with replacement, from all that did not fit the score, whose risk is then exactly known.

The last line is a JSON object: `violations`, the share of halvings with a risk above α on the other half,
`violations_known`, that with the known risk, and `local_share`, the mean share of the other half kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import keep, table
from data import prepare
from minikin import load
from minikin.base.errors import CertificateError
from minikin.base.types import Text
from minikin.commands.trust import labelled_by
from minikin.equations import risk
from minikin.trust import evidence
from minikin.trust.certify import Labelled, fit_scorer, reject_place, split, walk_of
from minikin.trust.scores import REJECTED

FIXED = 0.9
SOME = 100
"""Halves for what takes long: a space of vectors that is fitted anew in each."""

KNOWN = "minikin, known risk"
Chosen = tuple[np.ndarray, float, np.ndarray]
"""The score of every text, the threshold that a method chose (infinite: nothing is answered), the traffic's rows."""


def answers(folder: Path) -> Labelled:
    """What the kin says to the pooled texts, asked once."""
    kin = load(folder)
    with prepare("clinc150_oos")["pool"].open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    places = {label: i for i, label in enumerate(kin.labels)}
    labels_N = np.array([places.get(row["label"], -1) for row in rows])
    started = time.perf_counter()
    texts: list[Text] = [row["text"] for row in rows]
    found = labelled_by(kin, texts, labels_N, reject_place(kin.labels))
    print(f"{kin!r}, {kin.engine}: {len(rows):,} texts in {time.perf_counter() - started:.1f} s")
    for what, there in (("table of words", found.familiar_N2), ("answers to held-out texts", found.held)):
        print(f"{what}: {'none' if there is None else 'yes'}")
    return found


def hoeffding(
    scores_N: np.ndarray, wrong_N: np.ndarray, grid_J: np.ndarray, start: int, ask: tuple[float, float]
) -> float:
    """The same walk with Hoeffding's bound exp(−2n(α − k/n)²) in place of the exact tail."""
    alpha, delta = ask
    errors_J, answered_J = risk.counts(scores_N, wrong_N, grid_J)
    chosen = math.inf
    for threshold, k, n in list(zip(grid_J, errors_J, answered_J, strict=True))[start:]:
        gap = alpha - k / n if n else 0.0
        if gap <= 0 or math.exp(-2 * n * gap**2) > delta:
            break
        chosen = float(threshold)
    return chosen


def tuned(scores_N: np.ndarray, wrong_N: np.ndarray, alpha: float) -> float:
    """The loosest threshold whose share of errors on the labels is at most α, as is done without a bound."""
    grid_J = np.sort(scores_N[scores_N > REJECTED])[::-1]
    errors_J, answered_J = risk.counts(scores_N, wrong_N, grid_J)
    fits = np.flatnonzero(errors_J <= alpha * answered_J)
    return float(grid_J[fits[-1]]) if len(fits) else math.inf


def mapie(scores_N: np.ndarray, wrong_N: np.ndarray, grid_J: np.ndarray, ask: tuple[float, float]) -> float:
    """MAPIE's controller of precision (its default correction) over the same thresholds and scores."""
    from mapie.risk_control import BinaryClassificationController

    chance_J = np.sort(evidence.chance(grid_J))
    controller = BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="precision",
        target_level=1.0 - ask[0],
        confidence_level=1.0 - ask[1],
        list_predict_params=chance_J,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where nothing is valid, which is counted here
        controller.calibrate(evidence.chance(scores_N)[:, None], (~wrong_N).astype(int))
    valid = controller.valid_predict_params
    return float(grid_J[len(grid_J) - 1 - int(np.searchsorted(chance_J, np.min(valid)))]) if len(valid) else math.inf


def methods(
    halves: tuple[np.ndarray, np.ndarray], everything: Labelled, ask: tuple[float, float], seed: int, with_mapie: bool
) -> dict[str, Chosen]:
    """Every method on the rows of one half: its score, the threshold it chooses there, and the rows that judge it."""
    half, other = halves
    alpha, delta = ask

    def parts(known: Labelled) -> tuple[np.ndarray, np.ndarray]:
        """Rows that fit the score, and rows that certify."""
        fits, certifies = (half[rows] for rows in split(known.labels_N[half], seed, known.fit_share))
        return fits, certifies

    def walked(known: Labelled) -> tuple[np.ndarray, np.ndarray, int, float]:
        """Score everything by what is fitted on the one part, and certify on the other."""
        fits, certifies = parts(known)
        fitting = known.take(fits)
        scorer = fit_scorer(fitting)
        scores_N = scorer.scores(*known.given)
        grid_J, start = walk_of(scorer, fitting, alpha)
        found = risk.learn_then_test(scores_N[certifies], known.wrong_N[certifies], grid_J, alpha, delta, start=start)
        return scores_N, grid_J, start, found.threshold if found else math.inf

    all_N, grid_J, start, threshold = walked(everything)
    wordless_N, _, _, wordless_threshold = walked(replace(everything, familiar_N2=None))
    plain_N, _, _, plain_threshold = walked(replace(everything, pooled_NF=None, familiar_N2=None))
    _, certifies = parts(everything)
    wrong_N = everything.wrong_N[certifies]
    given_N = everything.probabilities_NC.argmax(1) != everything.reject
    top_N = np.where(given_N, everything.probabilities_NC.max(1), REJECTED)
    scores_N = all_N[certifies]
    population = np.concatenate([certifies, other])
    drawn = np.random.default_rng([seed, 9]).choice(population, len(certifies))
    known = risk.learn_then_test(all_N[drawn], everything.wrong_N[drawn], grid_J, alpha, delta, start=start)
    chosen = {
        "minikin": (all_N, threshold, other),
        KNOWN: (all_N, known.threshold if known else math.inf, population),
        "minikin, without familiar words": (wordless_N, wordless_threshold, other),
        "minikin, probabilities alone": (plain_N, plain_threshold, other),
        "Hoeffding, same walk": (all_N, hoeffding(scores_N, wrong_N, grid_J, start, ask), other),
        "tuned threshold, same score": (all_N, tuned(scores_N, wrong_N, alpha), other),
        "fixed: probability ≥ 0.9": (top_N, FIXED, other),
    }
    if seed < SOME:
        alone_N, _, _, alone_threshold = walked(replace(everything, held=None))
        chosen["minikin, without held-out texts"] = (alone_N, alone_threshold, other)
    if with_mapie:
        chosen["MAPIE, same score"] = (all_N, mapie(scores_N, wrong_N, grid_J, ask), other)
    return chosen


def halvings(
    everything: Labelled, ask: tuple[float, float], halves: int, mapies: int, labels: int
) -> dict[str, np.ndarray]:
    """Share kept local and risk among answers on the other half, (halves, 2), by method."""
    wrong_N, n = everything.wrong_N, len(everything)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(halves):
        shuffled_N = np.random.default_rng([seed, 1]).permutation(n)
        one, other = shuffled_N[:labels], shuffled_N[labels:]
        try:
            chosen = methods((one, other), everything, ask, seed, seed < mapies)
        except CertificateError as error:
            raise SystemExit(f"The kin can't be scored: {error}") from error
        for name, (scores_N, threshold, traffic) in chosen.items():
            given_N = scores_N[traffic] >= threshold
            wrong = float(wrong_N[traffic][given_N].mean()) if given_N.any() else 0.0
            found.setdefault(name, []).append((float(given_N.mean()), wrong))
    return {name: np.array(rows) for name, rows in found.items()}


def about(everything: Labelled) -> None:
    """Print what the kin is like, and how well each score separates, on one halving."""
    inside_N = (everything.labels_N >= 0) & (everything.labels_N != everything.reject)
    answers_N = everything.probabilities_NC.argmax(1)
    print(
        f"in scope {inside_N.mean():.1%} of all; accuracy there "
        f"{(answers_N == everything.labels_N)[inside_N].mean():.1%}; "
        f"out of scope recognised {(answers_N == everything.reject)[~inside_N].mean():.1%}"
    )
    fitting, rest = (everything.take(rows) for rows in split(everything.labels_N, 0, everything.fit_share))
    scorer = fit_scorer(fitting)
    scores_N = scorer.scores(*rest.given)
    rows = [
        (name, *("–" if x is None else f"{x:.4f}" for x in (row["wrong"], row["out_of_scope"])))
        for name, row in evidence.separation(scorer, rest, scores_N).items()
    ]
    print("\n" + table(("AUROC", "wrong answers", "out of scope"), rows) + "\n")
    print("ECE: " + ", ".join(f"{k} {v:.4f}" for k, v in evidence.calibrations(scorer, fitting, rest).items()) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kin", type=Path, required=True, help="folder that a build of clinc150_oos.yaml wrote")
    parser.add_argument("--halves", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=None, help="how many certify, in place of half of all")
    parser.add_argument("--mapie-halves", type=int, default=None, help="fewer for MAPIE; 0: without it")
    parser.add_argument("--alpha", type=float, default=0.02)
    parser.add_argument("--delta", type=float, default=0.05)
    asked = parser.parse_args()
    everything, ask = answers(asked.kin), (asked.alpha, asked.delta)
    about(everything)
    mapies = asked.halves if asked.mapie_halves is None else asked.mapie_halves
    found = halvings(everything, ask, asked.halves, mapies, asked.labels or len(everything) // 2)
    rows = [
        (
            name,
            f"{len(held):,}",
            f"{(held[:, 1] > ask[0]).mean():.1%}",
            f"{held[:, 1].mean():.2%}",
            f"{held[:, 0].mean():.1%}",
            f"{np.quantile(held[:, 0], 0.05):.1%}",
        )
        for name, held in found.items()
    ]
    columns = ("", "halvings", f"risk above {ask[0]:.0%}", "mean risk", "kept local", "in the worst 5 %")
    print(table(columns, rows) + "\n")
    ours = found["minikin"]
    result = {
        "violations": float((ours[:, 1] > ask[0]).mean()),
        "violations_known": float((found[KNOWN][:, 1] > ask[0]).mean()),
        "local_share": float(ours[:, 0].mean()),
    }
    keep(
        "handover",
        {"part": "clinc150", "kin": str(asked.kin), "halves": asked.halves, "labels": asked.labels, **result},
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
