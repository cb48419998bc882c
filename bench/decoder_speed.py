"""Distilling a decoder at a 32k vocabulary: tokens/s and peak memory of ours, TRL's trainers and a plain loop.

    OMP_NUM_THREADS=1 python bench/decoder_speed.py [--steps 6] [--only ours-cached plain ...]

Same teacher, student, rows, optimiser and schedule; each step takes the same batch, so that every step has a loss to
compare. Every contestant is a process of its own. Tokens are per second of processor time, the median step, the first
left out; memory is the peak while training above what models and data took. TRL's distillation trainer always
learns from its own generations, so its chunked loss is timed in the plain loop. Needs trl (pip install --no-deps trl).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from common import keep, table
from minikin.base.writing import Packed
from minikin.feed.decoder import Asked
from minikin.teachers import token_signals
from minikin.train.loop import Settings, _warm_then_decay
from minikin.train.sequence import distil
from minikin.train.token_objectives import TokenObjective

VOCABULARY, WIDTH, BATCH = 32_000, 256, 8
KL = [TokenObjective("kl")]
Step = Callable[[Any, Any, Tensor], Tensor]


def model(hidden: int, layers: int, seed: int) -> Any:
    """An untrained Llama; its output matrix is scaled up so that it has opinions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, num_attention_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=2, **shape
        )
    )
    with torch.no_grad():
        made.lm_head.weight *= 6.0
    return made


def teacher_and_student() -> tuple[Any, Any]:
    return model(256, 4, 1).eval().requires_grad_(False), model(128, 2, 2)


def data() -> Packed:
    """One batch: full rows of one document each, all learnt but the first token."""
    ids_NT = np.random.default_rng(0).integers(3, VOCABULARY, (BATCH, WIDTH)).astype(np.int32)
    learnt_NT = np.ones(ids_NT.shape, bool)
    learnt_NT[:, 0] = False
    return Packed(ids_NT, np.ones_like(ids_NT), learnt_NT)


def settings(steps: int) -> Settings:
    return Settings(epochs=steps, batch=BATCH, learning_rate=1e-3, weight_decay=0.0)


class Watch:
    """Times the steps, and knows the memory before them and its peak since."""

    def __init__(self) -> None:
        self.before_mib = psutil.Process().memory_info().rss / 2**20
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        self.ends = [time.process_time()]

    def step(self, *_: object) -> None:
        self.ends.append(time.process_time())

    def report(self, losses: list[float], **more: float) -> dict[str, Any]:
        status = Path("/proc/self/status").read_text()
        peak_mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
        return {
            "tokens_per_s": BATCH * WIDTH / statistics.median(np.diff(self.ends)[1:]),
            "memory_mib": peak_mib - self.before_mib,
            "losses": losses,
            **more,
        }


def ours(steps: int, cached: bool) -> dict[str, Any]:
    teacher, student = teacher_and_student()
    packed, more = data(), {}
    source: Any = Asked(teacher)
    with tempfile.TemporaryDirectory() as folder:
        if cached:
            # in a process of its own, so that what the teacher took does not count as the student's memory
            store = Path(folder) / "store"
            started = time.perf_counter()
            subprocess.run([sys.executable, __file__, "--store", str(store)], check=True)
            more["store_s"] = time.perf_counter() - started
            source = token_signals.read(store, packed)
            more["bytes_per_token"] = float(source.shards[0].itemsize)
            del teacher
        watch = Watch()
        history = distil(student, packed, KL, settings(steps), source=source, progress=watch.step)
    return watch.report(history.losses, **more)


def optimiser(student: Any, steps: int) -> tuple[Any, Any]:
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings(steps).learning_rate, weight_decay=0.0, fused=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_then_decay(settings(steps), 1))


def plain(steps: int, loss_of: Step) -> dict[str, Any]:
    """The loop that one writes by hand around transformers."""
    teacher, student = teacher_and_student()
    ids_BT, (optimizer, schedule) = torch.from_numpy(data().ids_NT).long(), optimiser(student, steps)
    student.train()
    watch, losses = Watch(), []
    for _ in range(steps):
        loss = loss_of(teacher, student, ids_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), settings(steps).clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        watch.step()
    return watch.report(losses)


def dense_kl(teacher: Any, student: Any, ids_BT: Tensor) -> Tensor:
    log_q = F.log_softmax(student(input_ids=ids_BT).logits[:, :-1].flatten(0, 1), -1)
    with torch.no_grad():
        log_p = F.log_softmax(teacher(input_ids=ids_BT).logits[:, :-1].flatten(0, 1), -1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def trl_chunked(teacher: Any, student: Any, ids_BT: Tensor) -> Tensor:
    """What TRL's distillation trainer computes after it has generated."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    ours_BTH = student.model(input_ids=ids_BT, use_cache=False).last_hidden_state[:, :-1]
    with torch.no_grad():
        theirs_BTH = teacher.model(input_ids=ids_BT, use_cache=False).last_hidden_state[:, :-1]
    weights = student.lm_head.weight, teacher.lm_head.weight
    loss: Tensor = _chunked_divergence_loss(ours_BTH, theirs_BTH, *weights, torch.ones_like(ids_BT[:, 1:]), 0.0)[0]
    return loss


def trl_gkd(steps: int) -> dict[str, Any]:
    """TRL's GKD trainer, never on its own generations (lmbda 0), with forward KL (beta 0)."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from torch.utils.data import SequentialSampler
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    class InOrder(GKDTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: object) -> Any:
            return SequentialSampler(self.train_dataset)

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: object, **__: object) -> None:
            watches.append(Watch())

        def on_step_end(self, *_: object, **__: object) -> None:
            watches[0].step()

    watches: list[Watch] = []
    teacher, student = teacher_and_student()
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w1", eos_token="w2")
    rows = np.tile(data().ids_NT, (steps, 1))

    def collate(items: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids_BT = torch.tensor([item["input_ids"] for item in items])
        labels_BT = ids_BT.clone()
        labels_BT[:, 0] = -100  # nothing predicts it, and it would count in the mean
        return {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT), "labels": labels_BT}

    with tempfile.TemporaryDirectory() as folder:
        trainer = InOrder(
            model=student,
            teacher_model=teacher,
            args=GKDConfig(
                output_dir=folder,
                lmbda=0.0,
                beta=0.0,
                temperature=1.0,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            data_collator=collate,
            train_dataset=Dataset.from_dict({"input_ids": rows.tolist()}),
            processing_class=tokenizer,
            optimizers=optimiser(student, steps),
            callbacks=[Steps()],
        )
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return watches[0].report(losses)


CONTESTANTS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "ours-cached": ("minikin, stored top-28 and tail", lambda steps: ours(steps, cached=True)),
    "ours-live": ("minikin, live teacher", lambda steps: ours(steps, cached=False)),
    "plain": ("plain transformers loop", lambda steps: plain(steps, dense_kl)),
    "trl-gkd": ("TRL GKD trainer, λ = 0", trl_gkd),
    "trl-chunked": ("plain loop, TRL's chunked loss", lambda steps: plain(steps, trl_chunked)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--one", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.store:
        token_signals.collect(Asked(teacher_and_student()[0]), data(), args.store)
    elif args.one:
        print("result", json.dumps(CONTESTANTS[args.one][1](args.steps)))
    else:
        print(measured(args.only, args.steps))


def measured(names: list[str], steps: int) -> str:
    """Run each contestant in a process of its own, keep the figures, and give the table."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        command = [sys.executable, __file__, "--one", name, "--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("result ")]
        if done.returncode or not lines:
            print(f"{name} did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        found[name] = json.loads(lines[-1].removeprefix("result "))
        print(name, found[name], file=sys.stderr, flush=True)
    keep("decoder_speed", {"steps": steps, "threads": torch.get_num_threads(), **found})
    first, reference = found.get("ours-cached"), found.get("plain")
    rows = []
    for name, row in found.items():
        speed = f"{first['tokens_per_s'] / row['tokens_per_s']:.2f}" if first else "–"
        memory = f"{row['memory_mib'] / first['memory_mib']:.2f}" if first else "–"
        apart = "–"
        if reference and name != "ours-cached":
            pairs = zip(row["losses"], reference["losses"], strict=True)
            apart = f"{max(abs(mine / its - 1) for mine, its in pairs):.0e}"
        figures = f"{row['tokens_per_s']:.0f}", speed, f"{row['memory_mib']:.0f}", memory
        rows.append((CONTESTANTS[name][0], *figures, f"{row['losses'][0]:.4f} → {row['losses'][-1]:.4f}", apart))
    columns = (
        "contestant",
        "tokens/CPU-s",
        "first is faster",
        "peak MiB",
        "× first's memory",
        "loss, first → last step",
        "largest difference of a step's loss from the plain loop's",
    )
    return table(columns, rows)


if __name__ == "__main__":
    main()
