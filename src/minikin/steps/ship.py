"""How the weights ship: each scheme that fits is packaged, and the smallest that keeps the answers is chosen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minikin.base.joined import Joined, evenly
from minikin.base.types import Data, Scheme, Student
from minikin.compress.quantize import BITS, MOMENT_TEXTS, quantize
from minikin.measure.quality import quality
from minikin.package import kin as package
from minikin.runtimes import Kin
from minikin.runtimes import open as open_kin
from minikin.steps.context import Build
from minikin.steps.teach import threads
from minikin.students import encoder, module
from minikin.students.module import TorchRuntime


def rounded(build: Build, student: Student, scheme: Scheme, data: Data) -> Student:
    """The student as it ships; 4-bit layers of an encoder are rounded by what goes through them on training texts."""
    if student.family != "encoder" or BITS.get(scheme, (8, 8))[1] == 8:
        return quantize(student, scheme)
    with threads(build.threads):
        seen = encoder.moments(student, module.tokens(student, evenly(data.train.texts, MOMENT_TEXTS)))
    return quantize(student, scheme, moments=seen)


@contextmanager
def packaged_aside(student: Student | None, pair: bool) -> Iterator[tuple[Kin, float] | None]:
    """A rounded student packaged like the kin into a temporary folder and loaded, with its size; None stays None."""
    if student is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as temporary:
        package.write(Path(temporary), student, recipe_yaml="", extra={"pair": pair})
        kin = open_kin(Path(temporary), threads=1, verify=False)
        yield kin, kin.manifest.size_mib


def scheme_for(
    build: Build, student: Student, schemes: Sequence[Scheme], data: Data
) -> tuple[Scheme, list[dict[str, Any]]]:
    """Choose how to store the weights: the smallest scheme that keeps the trained model's answers.

    That is: within half a point of the best accuracy on validation, and (where any scheme is) well within the
    gate's share of flipped answers on the held-out texts, against the model in float32.
    """
    held_out = Joined([data.validation.texts, data.calibration.texts])
    trained_N = TorchRuntime(student).probabilities(held_out).argmax(1)
    tried: list[dict[str, Any]] = []
    for scheme in schemes:
        with packaged_aside(rounded(build, student, scheme, data), data.pair) as packaged:
            assert packaged is not None
            kin, size = packaged
            flips = float((kin.probabilities(held_out).argmax(1) != trained_N).mean())
            accuracy = quality(kin, data.validation, resamples=1).accuracy
            tried.append({"scheme": scheme, "accuracy": accuracy, "size_mib": size, "flips": flips})
    faithful = [t for t in tried if t["flips"] <= 0.25 * build.recipe.gate.max_flips]
    kept = faithful or [min(tried, key=lambda t: float(t["flips"]))]
    best = max(t["accuracy"] for t in kept)
    close = [t for t in kept if t["accuracy"] >= best - 0.005]
    smallest: Scheme = min(close, key=lambda t: float(t["size_mib"]))["scheme"]
    return smallest, tried
