"""THE optimisation loop. Tuning, distilling and recovering differ only in the loss that they hand to it."""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from minikin.base.types import Array, Progress, no_progress
from minikin.feed.buckets import bucketed
from minikin.train.precision import bfloat16_products

LossOfBatch = Callable[[nn.Module, Array], Tensor]
Evaluate = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Settings:
    """How to optimise: AdamW, linear warm-up, linear decay to zero.

    `tolerance` is what a later epoch's validation score may fall short of the best one and still be kept: the
    rate has decayed further, and small validation splits are noisy. `bfloat16` computes the matrix products of
    the forward and backward pass in bfloat16; weights, losses and the optimiser stay in float32. `average` keeps and
    scores a running mean of the weights instead of the last ones, in which late steps count most (`Averaged`).
    """

    epochs: int
    batch: int = 32
    learning_rate: float = 2e-4
    head_ratio: float = 1.0
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    patience: int | None = None
    tolerance: float = 0.0
    bfloat16: bool = False
    average: bool = False
    seed: int = 0


@dataclass
class History:
    """What happened: mean loss and validation score of each epoch, and the epoch that was kept."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_epoch: int = -1


def optimise(
    module: nn.Module,
    lengths_N: Array,
    loss_of_batch: LossOfBatch,
    settings: Settings,
    *,
    heads: tuple[str, ...] = (),
    weights_N: Array | None = None,
    evaluate: Evaluate | None = None,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> History:
    """Train `module` in place on `loss_of_batch(module, rows)` over N examples of the given token lengths.

    Launched as several processes, each takes a share of the same batches, and the weights come out as those of one:
    a loss is a mean, in which an example counts `weights_N` (by default 1; for token losses, its learnt tokens).
    Losses between examples (relations) are then within a share.

    Parameters whose name begins with one of `heads` learn at `head_ratio` times the rate. With `evaluate`
    (larger is better) the best epoch's weights are kept (the latest within `tolerance`), and training stops
    after `patience` epochs without a better one. With `scratch`, each finished epoch is saved there and a killed
    run goes on from it, to the same result. Only local random state is used: the caller's is restored.
    """
    _keep_freed_memory()
    per_epoch = max(1, len(bucketed(lengths_N, settings.batch, settings.seed, 0)))
    steps = _Steps(module, settings, heads, per_epoch, np.ones(len(lengths_N)) if weights_N is None else weights_N)
    state = _State(module, steps.optimizer, steps.schedule, settings, scratch)
    with (
        torch.random.fork_rng(devices=[]),
        # not accelerate's own mixed precision: that is one for the whole process, and a student is trained otherwise
        bfloat16_products(module, steps.accelerator.device, settings.bfloat16) as precision,
    ):
        torch.manual_seed(settings.seed)
        start = state.load()
        prepared = steps.prepare(module)
        for epoch in range(start, settings.epochs):
            if _out_of_patience(state.history, settings):
                break
            prepared.train()
            total, batches = 0.0, bucketed(lengths_N, settings.batch, settings.seed, epoch)
            for done, rows_B in enumerate(batches):
                total += steps.take(loss_of_batch, rows_B, precision)
                state.average()
                progress((epoch + done / len(batches)) / settings.epochs, f"epoch {epoch + 1}/{settings.epochs}")
            state.history.losses.append(steps.shares.mean(total) / max(1, len(batches)))
            if evaluate is not None:
                prepared.eval()
                with torch.no_grad(), state.averaged():
                    state.note(evaluate(module))
            if steps.accelerator.is_main_process:
                state.save(epoch + 1)
    state.restore_best()
    module.eval()
    return state.history


class _Steps:
    """Steps of the optimizer, each on this process's share of a batch."""

    def __init__(
        self, module: nn.Module, settings: Settings, heads: tuple[str, ...], per_epoch: int, weights_N: Array
    ) -> None:
        self.accelerator = Accelerator()
        groups = _groups(module, settings, heads)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, _warm_then_decay(settings, per_epoch))
        self.shares, self.clip = _Shares(self.accelerator, weights_N), settings.clip

    def prepare(self, module: nn.Module) -> nn.Module:
        """Let accelerate wrap module and optimizer, as soon as the state of a killed run is back in them."""
        self.prepared, self.prepared_optimizer = self.accelerator.prepare(module, self.optimizer)
        return self.prepared  # type: ignore[no-any-return]

    def take(self, loss_of_batch: LossOfBatch, rows_B: Array, precision: torch.autocast) -> float:
        """Learn from a batch; return its loss."""
        mine, counts = self.shares.of(rows_B)
        with precision:
            loss = loss_of_batch(self.prepared, mine)
            loss = loss if counts == 1.0 else loss * counts
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.prepared.parameters(), self.clip)
        self.prepared_optimizer.step()
        self.schedule.step()
        self.prepared_optimizer.zero_grad(set_to_none=True)
        return loss.detach().item()


class _Shares:
    """This process's part of each batch, and what its mean must count for the processes' mean to be the batch's."""

    def __init__(self, accelerator: Accelerator, weights_N: Array) -> None:
        self.accelerator, self.weights_N = accelerator, weights_N
        self.first, self.workers = accelerator.process_index, accelerator.num_processes

    def of(self, rows_B: Array) -> tuple[Array, float]:
        """Rows of this process, and the factor for their mean loss; one row that counts 0 where none are left."""
        if self.workers == 1:
            return rows_B, 1.0
        mine, all_weights = rows_B[self.first :: self.workers], float(self.weights_N[rows_B].sum())
        if not len(mine) or not all_weights:
            return rows_B[:1], 0.0
        return mine, self.workers * float(self.weights_N[mine].sum()) / all_weights

    def mean(self, total: float) -> float:
        """Mean of a figure over the processes."""
        if self.workers == 1:
            return total
        here = torch.tensor(total, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(here, "mean"))


class _State:
    """Everything that a killed run needs to go on, and the weights of the best epoch so far."""

    def __init__(self, module: nn.Module, optimizer: Any, schedule: Any, settings: Settings, scratch: Path | None):
        self.module, self.optimizer, self.schedule = module, optimizer, schedule
        self.path = scratch / "training.pt" if scratch else None
        self.settings = settings
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.mean = Averaged(module) if settings.average else None
        self.saved_at, self.saving_took = 0.0, 0.0

    def average(self) -> None:
        """Take the weights after a step into their mean, if one is kept."""
        if self.mean is not None:
            self.mean.take()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the module has the mean weights, if one is kept."""
        if self.mean is None:
            yield
            return
        self.mean.swap()
        try:
            yield
        finally:
            self.mean.swap()

    def note(self, score: float) -> None:
        """Record a validation score; keep the weights if it is the best, or within the tolerance of it."""
        self.history.scores.append(score)
        if score >= max(self.history.scores) - self.settings.tolerance:
            self.history.best_epoch = len(self.history.scores) - 1
            self.best = {name: tensor.clone() for name, tensor in self._learned().items()}

    def _learned(self) -> dict[str, Tensor]:
        """What training changes: frozen weights are left out, they come back with the checkpoint they are from."""
        frozen = {name for name, parameter in self.module.named_parameters() if not parameter.requires_grad}
        return {name: tensor for name, tensor in self.module.state_dict().items() if name not in frozen}

    def save(self, epoch: int) -> None:
        """Write a checkpoint whole, through a neighbour and a rename; skipped while saving would cost over 5 %."""
        started = time.perf_counter()
        if self.path is None or started - self.saved_at < 20 * self.saving_took:
            return
        state = {
            "epoch": epoch,
            "settings": asdict(self.settings),
            "module": self._learned(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
            "history": asdict(self.history),
            "best": self.best,
            "mean": None if self.mean is None else self.mean.state(),
        }
        temporary = self.path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.path)
        self.saved_at = time.perf_counter()
        self.saving_took = self.saved_at - started

    def load(self) -> int:
        """Go back to the last finished epoch; return the next one. Another recipe's state is not taken."""
        if self.path is None or not self.path.is_file():
            return 0
        state = torch.load(self.path, weights_only=True)
        if state["settings"] != asdict(self.settings):
            return 0
        self.module.load_state_dict(state["module"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        self.history, self.best = History(**state["history"]), state["best"]
        if self.mean is not None:
            self.mean.load(state["mean"])
        return int(state["epoch"])

    def restore_best(self) -> None:
        """Put the weights of the best epoch back; without scores, the mean ones if they are kept."""
        if self.best is not None:
            self.module.load_state_dict(self.best, strict=False)
        elif self.mean is not None:
            self.mean.swap()


class Averaged:
    """A running mean of what a module learns, whose horizon is a ninth of the steps so far.

    Polynomial-decay averaging (O. Shamir, T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization",
    2013, section 4, η = 8): after step t the mean moves by 9 / (t + 8) towards the weights.
    """

    def __init__(self, module: nn.Module) -> None:
        self.weights = [p for p in module.parameters() if p.requires_grad]
        self.means = [p.detach().clone() for p in self.weights]
        self.steps = 0

    @torch.no_grad()
    def take(self) -> None:
        """Move the mean towards the weights as they are now."""
        self.steps += 1
        torch._foreach_lerp_(self.means, [p.detach() for p in self.weights], 9 / (self.steps + 8))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and mean."""
        for weight, mean in zip(self.weights, self.means, strict=True):
            kept = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(kept)

    def state(self) -> dict[str, Any]:
        """What a killed run needs to go on."""
        return {"steps": self.steps, "means": self.means}

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a saved mean."""
        self.steps = int(state["steps"])
        for mean, saved in zip(self.means, state["means"], strict=True):
            mean.copy_(saved)


def _groups(module: nn.Module, settings: Settings, heads: tuple[str, ...]) -> list[dict[str, Any]]:
    body: list[nn.Parameter] = []
    head: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (head if heads and name.startswith(heads) else body).append(parameter)
    groups: list[dict[str, Any]] = [{"params": body, "lr": settings.learning_rate}]
    if head:
        groups.append({"params": head, "lr": settings.learning_rate * settings.head_ratio})
    return groups


def _warm_then_decay(settings: Settings, per_epoch: int) -> Callable[[int], float]:
    total = max(1, settings.epochs * per_epoch)
    warm = max(1.0, settings.warm_up * total)
    return lambda step: min(1.0, (step + 1) / warm) * max(0.0, 1.0 - step / total)


def _out_of_patience(history: History, settings: Settings) -> bool:
    if settings.patience is None or history.best_epoch < 0:
        return False
    return len(history.scores) - 1 - history.best_epoch >= settings.patience


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: the same sizes come back every step, and mapping them anew costs 10-20 %."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
