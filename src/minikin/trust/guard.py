"""The guard: says of each answer whether the certificate covers it; void, aloud, when anything does not fit."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from minikin.base import digest, tensors
from minikin.base import manifest as manifests
from minikin.base.errors import KinError
from minikin.base.extras import extension
from minikin.base.manifest import CERTIFICATE, SCORER, Manifest
from minikin.base.types import Array, Text
from minikin.base.writing import Completion
from minikin.equations.risk import prediction_sets
from minikin.trust import certificate
from minikin.trust.scores import NOTHING, REJECTED, Quick, Scorer
from minikin.trust.verdicts import parts_of
from minikin.trust.words import shares

BELOW = "its score is below the certified threshold"
NAMELESS = "the certificate is by group, and no group was given"
MISSING = "there is no certificate; make one with: minikin certify"
DAY_S = 86_400.0
WHAT = {"weights": "the weights", "tokenizer": "the tokenizer", "preprocessing": "labels, length or configuration"}


def not_standing(state: str, reason: str) -> str:
    """That no certificate covers an answer, in words: there is none, or it is `void` or `suspect`."""
    return reason if reason == MISSING else f"the certificate is {state}: {reason}"


class Guard:
    """A certificate as it is asked: `state` is `certified` or `void`, and `reason` says why it is void."""

    def __init__(self, folder: Path, value: Mapping[str, Any], scorer: Scorer | None, reason: str) -> None:
        self.folder, self.value, self.scorer = folder, value, scorer
        self.reason = reason
        self.calibration_scores_N: Array = np.zeros(0)
        self._expires_s, self._one = 0.0, float("inf")
        self._quick: Quick | None = None
        self._bits_B = NOTHING
        self._sets_C: Array | None = None
        self._labels: tuple[str, ...] = ()
        self._reject_reason = ""

    @property
    def state(self) -> Literal["certified", "void"]:
        """Whether the certificate holds now."""
        if not self.reason and time.time() >= self._expires_s:
            self.reason = f"it expired on {self.value['valid']['until']}; certify again"
        return "void" if self.reason else "certified"

    @property
    def alpha(self) -> float:
        """The risk that is promised among answers."""
        return float(self.value.get("alpha", 0.0))

    @property
    def delta(self) -> float:
        """The chance that the promise is wrong."""
        return float(self.value.get("delta", 1.0))

    @property
    def unaudited(self) -> str:
        """Why people's answers can't test the promise; '' when they can."""
        if self.value.get("method") == "crc":
            return "it bounds wrong answers among all texts in expectation, which an audit of answers does not test"
        if self.value.get("labels", {}).get("judged") == "verdicts":
            return "it rests on verdicts: an answer that is not the person's may be right all the same"
        return ""

    @classmethod
    def of(cls, folder: str | Path, today: datetime.date | None = None, engine: str | None = None) -> Guard:
        """Load the certificate of a kin and check it against the files; never raises for a bad certificate.

        `today` stands for the date now; `engine` is the name of what answers, compared with what was certified.
        Raises KinError when the folder is no kin.
        """
        path = Path(folder)
        manifest = manifests.read(path)
        if not (path / CERTIFICATE).is_file():
            return cls(path, {}, None, MISSING)
        try:
            value, arrays = _read(path)
            reason = _mismatch(path, manifest, value, today, engine)
            scorer = certificate.scorer_of(value, arrays, manifest.labels)
            guard = cls(path, value, scorer, reason)
            guard._ready(arrays, manifest.labels, today)
        except (KinError, KeyError, ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
            why = str(error) if isinstance(error, _Void) else f"it is damaged ({error})"
            return cls(path, {}, None, f"{why}; certify again")
        return guard

    def decide(
        self,
        probabilities_NC: Array,
        pooled_NF: Array | None,
        texts: Sequence[Text],
        groups: Sequence[str] | None = None,
    ) -> tuple[Array, Array]:
        """Scores (N,), NaN while void, and which answers (N,) to the texts the certificate covers.

        `groups` names the group of each text, where the certificate is by group.
        """
        if self.scorer is None or self.state == "void":
            return np.full(len(probabilities_NC), np.nan), np.zeros(len(probabilities_NC), bool)
        p_NC = np.asarray(probabilities_NC)
        familiar_N2 = shares(self._bits_B, texts, p_NC) if self.scorer.familiar else None
        scores_N = self.scorer.scores(p_NC, pooled_NF, familiar_N2)
        accept_N = scores_N >= self.thresholds(len(scores_N), groups)
        return scores_N, accept_N & (scores_N > REJECTED)

    def thresholds(self, n: int, groups: Sequence[str] | None) -> Array:
        """The threshold of each text (N,): infinite for a group that is handed over whole, unknown or not named."""
        rows = self.value["groups"]
        if rows is None:
            return np.full(n, self.value["lambda"])
        if groups is None:
            return np.full(n, np.inf)
        of = {name: np.inf if row is None else row["lambda"] for name, row in rows.items()}
        return np.array([of.get(str(group), np.inf) for group in groups], np.float64)

    def one(self, row_C: Array, pooled_F: Array | None, best: int, top: float, text: str) -> str:
        """Why the certificate does not cover one answer (label `best`, probability `top`); '' when it does.

        `text` is what was asked, a pair as `words.joined`.
        """
        if self.reason or self._quick is None or time.time() >= self._expires_s:
            return not_standing(self.state, self.reason)
        score = self._quick.score(row_C, pooled_F, best, top, text)
        if score >= self._one:
            return ""
        if score == REJECTED:
            return self._reject_reason
        return NAMELESS if self.value["groups"] is not None else BELOW

    def written(self, completion: Completion) -> str:
        """Why the certificate does not cover what was written; '' when it does."""
        scores_N, accept_N = self.decide(np.array([parts_of(completion)]), None, [""])
        return "" if accept_N[0] else self.why(float(scores_N[0]))

    def candidates(self, row_C: Array) -> tuple[str, ...]:
        """Labels of a row's conformal set, likeliest first; none without sets, or while void."""
        if self._sets_C is None or self.state == "void":
            return ()
        inside = np.flatnonzero(prediction_sets(row_C, self._sets_C))
        return tuple(self._labels[i] for i in inside[np.argsort(-row_C[inside], kind="stable")])

    def why(self, score: float, group: str | None = None) -> str:
        """Why an answer of this score (and group) is not covered, in words; '' when it is."""
        if self.state == "void":
            return not_standing(self.state, self.reason)
        rows = self.value["groups"]
        if score == REJECTED:
            return self._reject_reason
        if rows is not None and group is None:
            return NAMELESS
        if rows is not None and rows.get(str(group)) is None:
            known = "is handed over whole" if str(group) in rows else "is not on the certificate"
            return f"the group '{group}' {known}"
        threshold = float(self.thresholds(1, None if group is None else [group])[0])
        return "" if score >= threshold else BELOW

    def _ready(self, arrays: Mapping[str, Array], labels: tuple[str, ...], today: datetime.date | None) -> None:
        """Everything that an answer needs, worked out once."""
        assert self.scorer is not None
        self.calibration_scores_N = np.asarray(arrays["scores_N"])
        if self.scorer.familiar:
            self._bits_B = arrays["bits_B"]
            shares(self._bits_B, [], np.zeros((0, 2)))  # refuses what is no table
        if self.value["task"] == "classify":
            self._quick = Quick(self.scorer, len(labels), extension(), self._bits_B)
        if (sets := self.value.get("sets")) is not None:
            self._sets_C = np.array([np.inf if q is None else q for q in sets["quantiles"]], np.float64)
            if self._sets_C.shape != (len(labels),):
                raise ValueError("its sets don't fit the labels")
            self._labels = labels
        self._one = float(self.thresholds(1, None)[0])
        if np.isnan(self._one) or self._one <= REJECTED:
            raise ValueError("its threshold is no score")
        until = datetime.date.fromisoformat(self.value["valid"]["until"])
        midnight = datetime.datetime.combine(until, datetime.time(), datetime.UTC).timestamp()
        # `today` may differ from the clock (it is a test's, or a device's without one): then time runs on from there
        now = time.time()
        start = now if today is None else datetime.datetime.combine(today, datetime.time(), datetime.UTC).timestamp()
        self._expires_s = midnight + DAY_S + (now - start)
        reject = self.value["reject"]
        self._reject_reason = f"the class '{reject}' is never answered" if reject is not None else BELOW


class _Void(ValueError):
    """A certificate that does not hold, and why."""


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Certificate and arrays, each compared with its hash."""
    value = json.loads((path / CERTIFICATE).read_bytes())
    if not isinstance(value, dict):
        raise _Void("it is no certificate")
    told = value.get("sha256_of_this")
    if told != digest.of_value({key: item for key, item in value.items() if key != "sha256_of_this"}):
        raise _Void("it was edited: its own SHA-256 differs")
    if value["schema_version"] != certificate.SCHEMA_VERSION:
        raise _Void(f"its schema version {value['schema_version']} is not the one this minikin reads")
    if not (path / SCORER).is_file():
        raise _Void(f"{SCORER} is missing")
    if hashlib.sha256((path / SCORER).read_bytes()).hexdigest() != value["sha256"]["scorer"]:
        raise _Void(f"{SCORER} was changed")
    arrays, _ = tensors.read(path / SCORER)
    if digest.of_arrays({"grid_J": arrays["grid_J"]}) != value["sha256"]["grid"]:
        raise _Void("its grid was changed")
    return value, arrays


def _mismatch(
    path: Path, manifest: Manifest, value: Mapping[str, Any], today: datetime.date | None, engine: str | None
) -> str:
    """What does not fit the certificate, in words; '' when everything does."""
    found = certificate.hashes(path, manifest)
    changed = [WHAT[name] for name in WHAT if found[name] != value["sha256"][name]]
    if changed:
        return f"{', '.join(changed)} changed since it was made; certify again"
    if engine is not None and engine.split(" ", 1)[0] != value["engine"]:
        return f"it was made with the engine {value['engine']}, and {engine} answers here; use that, or certify again"
    day = today or datetime.datetime.now(datetime.UTC).date()
    if day < datetime.date.fromisoformat(value["valid"]["from"]):
        return f"it begins on {value['valid']['from']}, and the clock says {day.isoformat()}"
    if day > datetime.date.fromisoformat(value["valid"]["until"]):
        return f"it expired on {value['valid']['until']}; certify again"
    return ""
