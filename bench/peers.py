"""A kin beside what else one could do with the same encoder, on the same splits and machine, in one table.

    OMP_NUM_THREADS=2 python bench/peers.py banking77 --kin bench/runs/banking77/seed-0

SetFit-style: the encoder as it came, mean-pooled and normalised, with logistic regression. model2vec: distilled, then
its own classifier (skipped, with the pip command, when it is not installed). Teacher: tuned by minikin; in PyTorch,
and exported by torch.onnx, quantized dynamically to int8 and run by ONNX Runtime behind transformers' tokenizer.
Latency: from raw text at batch 1 on one thread, in turns. Build seconds of teacher and kin are those of the kin's own
build: take the kin of a build that tuned its teacher.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

import model2vec_peer
from common import binding, data_of, keep, name_of, recipe_of, run_of, table, tuned_teacher
from minikin.base.types import Array, Data, Runtime, Text
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.measure.footprint import teacher_size_mib
from minikin.runtimes import open as open_kin
from minikin.steps import prove, teach
from minikin.steps.context import Build
from minikin.teachers.local import LocalTeacher
from teacher_ort import OrtTeacher
from timing import interleaved

STRENGTHS = (1.0, 10.0, 100.0)


class FrozenHead:
    """SetFit's second half: the encoder's normalised sentence vectors and logistic regression. Meets `Runtime`."""

    def __init__(self, encoder: LocalTeacher, data: Data) -> None:
        started = time.perf_counter()
        self.encoder, self.labels = encoder, data.labels
        train_NH, held_out_MH = self.vectors(data.train.texts), self.vectors(data.validation.texts)
        heads = [LogisticRegression(C=c, max_iter=1000).fit(train_NH, data.train.labels_N) for c in STRENGTHS]
        self.head = max(heads, key=lambda h: float(h.score(held_out_MH, data.validation.labels_N)))
        self.build_s = time.perf_counter() - started
        weights = self.head.coef_.size + self.head.intercept_.size
        self.size_mib = teacher_size_mib(encoder.checkpoint.folder) + weights * 4 / 2**20

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Text]) -> Array:
        """Sentence vectors (N, H) of length 1."""
        encoded = self.encoder.encode(texts)
        out_NH = np.zeros((len(encoded), int(self.encoder.config.hidden_size)), np.float32)
        for rows_B in in_order(encoded.ids.lengths_N, 32):
            out_NH[rows_B] = self.encoder.module(*padded(encoded, rows_B)).pooled_BH.numpy()
        return np.asarray(out_NH / np.linalg.norm(out_NH, axis=1, keepdims=True).clip(1e-9))

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Class probabilities (N, C)."""
        out_NC = np.zeros((len(texts), len(self.labels)))
        out_NC[:, self.head.classes_] = self.head.predict_proba(self.vectors(texts))
        return out_NC


@dataclass
class Peer:
    """One row: what answers, its size, and what it cost to make."""

    name: str
    runtime: Runtime
    size_mib: float
    build_s: float | None


def peers(build: Build, data: Data, kin_folder: Path, scratch: Path, epochs: int) -> list[Peer]:
    """Make everything that is compared; the teacher is tuned already, or is tuned now."""
    seconds = json.loads((kin_folder / "report.json").read_text(encoding="utf-8"))["seconds"]
    kin = open_kin(kin_folder, threads=1)
    print("SetFit-style: embedding the training texts", flush=True)
    frozen = FrozenHead(teach.found(build, data), data)
    print("the tuned teacher", flush=True)
    teacher = tuned_teacher(build, data)
    exported = OrtTeacher(teacher, scratch)
    tuning = seconds.get("tune", 0.0) + seconds.get("teacher", 0.0)
    size = teacher_size_mib(teacher.checkpoint.folder)
    found = [
        Peer("teacher, PyTorch float32", teacher, size, tuning),
        Peer("teacher, ONNX Runtime int8", exported, exported.size_mib, tuning + exported.build_s),
        Peer("SetFit-style head", frozen, frozen.size_mib, frozen.build_s),
    ]
    print("model2vec: distilling and training", flush=True)
    try:
        static = model2vec_peer.Model2Vec(teacher.checkpoint.folder, data, build.recipe.seed, epochs)
        found.append(Peer("model2vec, fine-tuned", static, static.size_mib, static.build_s))
    except ImportError as error:
        print(f"model2vec is left out ({error}). Install it with: {model2vec_peer.INSTALL}")
    return [*found, Peer("minikin", kin, kin.manifest.size_mib, sum(seconds.values()))]


def rows_of(found: Sequence[Peer], data: Data, seed: int, rounds: int) -> list[dict[str, Any]]:
    """Measure everything: quality and throughput one by one, latency in turns."""
    mistyped = prove.typos(data.test, seed)
    subjects = []
    for peer in found:
        print(f"measuring {peer.name}", flush=True)
        subjects.append(prove.measure(peer.runtime, data.test, mistyped, peer.size_mib, seed, None, calls=30))
    texts = [data.test.texts[i] for i in range(min(256, len(data.test)))]
    took = interleaved({p.name: p.runtime for p in found}, texts, rounds)
    return [
        {
            "name": peer.name,
            **subject.row(),
            "latency_ms_p50": took[peer.name].latency_ms_p50,
            "latency_ms_p95": took[peer.name].latency_ms_p95,
            "kin_is_faster": took[found[-1].name].times_faster_than(took[peer.name]),
            "build_s": peer.build_s,
        }
        for peer, subject in zip(found, subjects, strict=True)
    ]


CELLS: dict[str, Callable[[dict[str, Any]], str]] = {
    "": lambda r: str(r["name"]),
    "accuracy": lambda r: f"{100 * r['accuracy']:.2f}",
    "95 % interval": lambda r: f"{100 * r['accuracy_interval'][0]:.1f}–{100 * r['accuracy_interval'][1]:.1f}",
    "typo test": lambda r: f"{100 * r['typo_accuracy']:.2f}",
    "MiB": lambda r: f"{r['size_mib']:.3f}",
    "p50 ms": lambda r: f"{r['latency_ms_p50']:.3f}",
    "p95 ms": lambda r: f"{r['latency_ms_p95']:.3f}",
    "texts/s": lambda r: f"{r['throughput_per_s']:,.0f}",
    "kin is faster": lambda r: f"{r['kin_is_faster']:.1f}×",
    "build s": lambda r: f"{r['build_s']:.0f}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--kin", type=Path, required=True)
    parser.add_argument("--teacher-run", type=Path, help="run folder of its build; default: bench/runs/DATASET/run")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model2vec-epochs", type=int, default=-1, help="-1: until it stops by itself")
    args = parser.parse_args()
    build = binding(recipe_of(args.dataset, args.overrides), args.teacher_run or run_of(args.dataset))
    data = data_of(build, "peers")
    if data.pair or build.recipe.teacher is None:
        raise SystemExit("The peers classify single texts, and need a teacher. Choose another set.")
    with tempfile.TemporaryDirectory() as scratch:
        found = peers(build, data, args.kin, Path(scratch), args.model2vec_epochs)
        rows = rows_of(found, data, build.recipe.seed, args.rounds)
    for row in rows:
        keep("peers", {"dataset": name_of(args.dataset), "kin": str(args.kin), **row})
    print(f"\n{name_of(args.dataset)}, {len(data.train):,} training texts, {len(data.test):,} test texts\n")
    print(table(list(CELLS), [[cell(row) for cell in CELLS.values()] for row in rows]))


if __name__ == "__main__":
    main()
