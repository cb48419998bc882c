"""certificate.json: what was proven of which files, until when. Written by `minikin certify`, read by guard.py."""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minikin.base import atomic, digest, tensors
from minikin.base.errors import KinError
from minikin.base.manifest import CERTIFICATE, SCORER, TRAINED_ON, Manifest
from minikin.base.types import Array
from minikin.equations import drift
from minikin.trust import held
from minikin.trust.certify import Certified, Method
from minikin.trust.scores import FAMILIAR, Scorer
from minikin.trust.verdicts import WritingScorer

SCHEMA_VERSION = 2
EXPIRES_DAYS = 90
WATCHED = (2.0, 5.0)
"""Risks, as multiples of α, whose expected detection delay stands on the certificate."""

TEMPLATES = ((), ("tokenizer_config.json",))
"""What else decides how a prompt is read: of kins that sort texts nothing, of those that write the chat template."""


@dataclass(frozen=True)
class Source:
    """Where the labels came from: digest of the rows, how many were left out as trained on, and what was checked.

    `judged` is who said what is wrong: `labels`, or the `verdicts` of people on each answer.
    """

    calibration_sha256: str
    left_out: int
    checked_training_rows: bool
    name: str = ""
    judged: Literal["labels", "verdicts"] = "labels"


def write(
    folder: Path,
    manifest: Manifest,
    found: Certified,
    source: Source,
    *,
    engine: str,
    today: datetime.date,
    days: int = EXPIRES_DAYS,
) -> dict[str, Any]:
    """Write scorer and certificate into the kin's folder, the certificate last and whole; return it.

    A kill between the two leaves a scorer that no certificate names, and the old certificate void.
    """
    arrays = scorer_arrays(found)
    if found.scorer.familiar:
        arrays["bits_B"] = tensors.read(folder / TRAINED_ON)[0]["bits_B"]
    blob = tensors.save(arrays)
    value: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": manifest.task,
        "method": found.method,
        "alpha": found.alpha,
        "delta": found.delta,
        "confidence": 1.0 - found.delta,
        **_bounds(found),
        "coverage": found.coverage,
        "labels": {
            "fitted_score": found.fitted,
            "certified": found.certified,
            "left_out": source.left_out,
            "training_rows_checked": source.checked_training_rows,
            "share_that_looks_wrong": None if found.errors is None else found.errors.share,
            "judged": source.judged,
            "file": source.name,
        },
        "valid": {"from": today.isoformat(), "until": (today + datetime.timedelta(days=days)).isoformat()},
        "engine": engine.split(" ", 1)[0],
        "reject": manifest.labels[found.scorer.reject] if found.scorer.reject >= 0 else None,
        "sets": _sets(found),
        "score": {"parts": list(found.scorer.names), "weights": found.scorer.weights_K.tolist()},
        "intercept": found.scorer.intercept,
        "sha256": {
            **hashes(folder, manifest),
            "grid": digest.of_arrays({"grid_J": found.grid_J}),
            "calibration": source.calibration_sha256,
            "scorer": hashlib.sha256(blob).hexdigest(),
        },
        "audit": delays(found.alpha, found.delta) if auditable(found.method, source.judged) else [],
        "promises": promises(found, source, today + datetime.timedelta(days=days)),
        "does_not_promise": [*NOT_PROMISED, *NOT_BY_METHOD[found.method]],
        "evidence": found.evidence,
    }
    value["sha256_of_this"] = digest.of_value(value)
    atomic.write_bytes(folder / SCORER, blob)
    atomic.write_json(folder / CERTIFICATE, value)
    return value


def hashes(folder: Path, manifest: Manifest) -> dict[str, str]:
    """SHA-256 of what decides the answers, as the files are now: weights, tokenizer, preprocessing.

    Raises KinError when one can't be read.
    """
    weights = [manifest.model, *([manifest.kernel] if manifest.kernel else [])]
    try:
        names = (*weights, "tokenizer.json", "config.json", *TEMPLATES[manifest.task == "generate"])
        files = {name: digest.of_file(folder / name) for name in names}
    except OSError as error:
        raise KinError(f"Can't read {error.filename}: {error.strerror}. Copy the kin again.") from error
    plain = [manifest.task, list(manifest.labels), manifest.max_length, manifest.pair, files["config.json"]]
    if manifest.task == "generate":
        raw = manifest.raw
        plain += [raw.get("kind"), raw.get("new_tokens"), files["tokenizer_config.json"]]
    return {
        "weights": digest.of_value([files[name] for name in weights]),
        "tokenizer": files["tokenizer.json"],
        "preprocessing": digest.of_value(plain),
    }


def delays(alpha: float, delta: float) -> list[dict[str, float]]:
    """Audited answers until a risk above α is caught, with the best bet, for twice and five times α."""
    rows = []
    for times in WATCHED:
        if times * alpha < 1.0:
            answers = math.ceil(drift.expected_delay(alpha, times * alpha, delta))
            rows.append({"risk": times * alpha, "expected_answers": answers})
    return rows


NOT_PROMISED: Sequence[str] = (
    "It is not about any single answer: it bounds the share of wrong ones among those given without handing over.",
    "It holds for traffic like the labelled texts (exchangeable with them). New topics, other users or another season "
    "are not covered; the audit and the watch on the scores are there to notice them.",
    "It is not a defence against people who choose their texts to deceive the model.",
    "It is as right as the labels: it bounds disagreement with them.",
    "It does not bound the risk within a group that was not named when it was made.",
)


NOT_BY_METHOD: Mapping[Method, Sequence[str]] = {
    "ltt": (),
    "crc": (
        "It holds in expectation, over labelled texts and traffic together: with these very labels the share may lie "
        "above. It counts wrong answers among all texts, so among those answered here the share is larger.",
    ),
}


def auditable(method: Method, judged: str) -> bool:
    """Whether an audit of local answers can test the promise: a risk among answers, judged by comparing with labels."""
    return method == "ltt" and judged == "labels"


def promises(found: Certified, source: Source, until: datetime.date) -> list[str]:
    """What the certificate says, in words."""
    risk, sure = f"{100 * found.alpha:.4g} %", f"{100 * (1 - found.delta):.4g} %"
    groups = sum(1 for _ in found.chosen)
    each = f" in each of {groups} groups" if groups > 1 else ""
    by_method: Mapping[Method, str] = {
        "ltt": (
            f"Among the texts answered here, at most {risk} are answered wrongly{each}: the procedure that chose the "
            f"threshold goes wrong in at most {100 * found.delta:.4g} of 100 repetitions with other labelled texts "
            f"({sure} confidence)."
        ),
        "crc": f"Of all texts that come{each}, at most {risk} are answered here and wrongly, in expectation.",
    }
    wrong = "A text that is out of scope and answered all the same counts as answered wrongly."
    if isinstance(found.scorer, WritingScorer):
        exact = "An answer is wrong when it is not the labelled one (as JSON values, or but for white space)."
        wrong = exact if source.judged == "labels" else "An answer is wrong when the verdict on it says so."
        wrong += " It is the likeliest answer, written as the kin is packaged to: other settings are not covered."
    lines = [by_method[found.method], wrong]
    if (sets := found.sets) is not None:
        which = "each class that the kin knows" if sets.by_class else "texts whose label the kin knows"
        lines.append(
            f"Of {which}, the candidates hold the true label in at least {100 * sets.share:.4g} % of all cases, in "
            "expectation. A single candidate is no certified answer."
        )
    lines.append(f"Until {until.isoformat()}, for exactly the files named by their SHA-256.")
    if not source.checked_training_rows:
        lines.append(
            "The kin holds no record of its training rows: whether any of them is among the labelled texts was not "
            "checked."
        )
    return lines


def _sets(found: Certified) -> dict[str, Any] | None:
    """Thresholds of the conformal sets, one for each class; None for a class that every set holds."""
    if (sets := found.sets) is None:
        return None
    return {
        "share": sets.share,
        "by_class": sets.by_class,
        "quantiles": [None if math.isinf(q) else q for q in sets.quantiles_C.tolist()],
        "labels": sets.n,
        "mean_size": sets.mean_size,
        "single": sets.single,
    }


def scorer_arrays(found: Certified) -> dict[str, Array]:
    """The arrays beside the certificate: the grid, the scores that certified, and where labelled examples lie."""
    arrays: dict[str, Array] = {"grid_J": found.grid_J, "scores_N": np.sort(found.scores_N).astype(np.float32)}
    return arrays if found.scorer.space is None else {**arrays, **held.arrays_of(found.scorer.space)}


def scorer_of(value: Mapping[str, Any], arrays: Mapping[str, Array], labels: Sequence[str]) -> Scorer:
    """The scorer that `write` wrote. Raises KeyError, ValueError or TypeError when the two don't fit."""
    weights_K, intercept = np.array(value["score"]["weights"], np.float64), float(value["intercept"])
    space = held.space_of(arrays) if "neighbour" in value["score"]["parts"] else None
    reject = -1 if value["reject"] is None else list(labels).index(value["reject"])
    kind = WritingScorer if value["task"] == "generate" else Scorer
    scorer = kind(weights_K, intercept, reject, space, FAMILIAR[0] in value["score"]["parts"])
    if scorer.weights_K.shape != (len(scorer.names),):
        raise ValueError("the weights don't fit the parts of the score")
    return scorer


def _bounds(found: Certified) -> dict[str, Any]:
    """λ, n, k and U, for all or by group; a group without them is handed over whole."""
    rows = {
        name: None
        if chosen is None
        else {"lambda": chosen.threshold, "n": chosen.answered, "k": chosen.errors, "bound": chosen.bound}
        for name, chosen in found.chosen.items()
    }
    if list(rows) == [""]:
        return {**(rows[""] or {}), "groups": None}
    return {"lambda": None, "n": None, "k": None, "bound": None, "groups": rows}
