"""The one loop: the same seed gives the same weights, killed or not, and the caller's random state stays."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minikin.base.types import Array
from minikin.train import loop
from minikin.train.loop import History, Settings, optimise

N = 40
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
LENGTHS = np.random.default_rng(0).integers(1, 9, N)
SETTINGS = Settings(epochs=4, batch=8, learning_rate=0.02, seed=3)


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # dropout draws on the random state: a resumed run must go on from where that was
        return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 2))


def loss_of_batch(module: nn.Module, rows: Array) -> Tensor:
    return nn.functional.cross_entropy(module(X[rows]), Y[rows])


def weights(module: nn.Module) -> dict[str, Array]:
    return {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return all(np.array_equal(a[k], b[k]) for k in a)


def run(module: nn.Module, settings: Settings = SETTINGS, **more: object) -> History:
    return optimise(module, LENGTHS, loss_of_batch, settings, **more)


def test_it_learns_and_the_same_seed_gives_the_same_weights():
    first, second, other = net(), net(), net()
    history, again = run(first), run(second)
    run(other, Settings(**{**vars(SETTINGS), "seed": 4}))
    assert history.losses[-1] < history.losses[0]
    assert history == again
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))
    assert not first.training


class Killed(Exception):
    pass


@pytest.fixture
def every_epoch_is_saved(monkeypatch):
    """Saving is skipped while it would cost too much of the time: let it cost none."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))


@pytest.mark.parametrize("dies_in", [0, 1, 3])
@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("saved", ["always", "when it is cheap"])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, request, dies_in, judged, average, saved):
    settings = Settings(**{**vars(SETTINGS), "average": average})
    if saved == "always":
        request.getfixturevalue("every_epoch_is_saved")

    def evaluate(module: nn.Module) -> float:
        with torch.no_grad():
            return float((module(X).argmax(1) == Y).float().mean())

    more = {"evaluate": evaluate} if judged else {}

    def kill(share: float, _words: str) -> None:
        if share >= (dies_in + 0.5) / SETTINGS.epochs:
            raise Killed

    whole, half = net(), net()
    expected = run(whole, settings, **more)
    with pytest.raises(Killed):
        run(half, settings, scratch=tmp_path, progress=kill, **more)
    # where a checkpoint is sure to be there, its own weights do not matter
    resumed = net(seed=99 if dies_in and saved == "always" else 0)
    assert run(resumed, settings, scratch=tmp_path, **more) == expected
    assert same(weights(whole), weights(resumed))


def test_the_mean_weights_are_kept_and_late_steps_count_most():
    seen: list[dict[str, Array]] = []

    def loss(module: nn.Module, rows: Array) -> Tensor:
        seen.append(weights(module))
        return loss_of_batch(module, rows)

    averaged, last = net(), net()
    optimise(averaged, LENGTHS, loss, Settings(**{**vars(SETTINGS), "average": True}))
    run(last)
    steps = [*seen[1:], weights(last)]
    t = np.arange(1, len(steps) + 1)
    share = np.prod([t + i for i in range(8)], axis=0, dtype=float)  # η = 8: proportional to t (t + 1) … (t + 7)
    for name, mean in weights(averaged).items():
        expected = np.tensordot(share / share.sum(), np.stack([s[name] for s in steps]), axes=1)
        np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_a_finished_run_is_not_trained_again(tmp_path, every_epoch_is_saved):
    first = net()
    expected = run(first, scratch=tmp_path)

    def never(module: nn.Module, rows: Array) -> Tensor:
        raise AssertionError

    second = net(seed=99)
    assert optimise(second, LENGTHS, never, SETTINGS, scratch=tmp_path) == expected
    assert same(weights(first), weights(second))


def test_the_checkpoint_of_other_settings_is_not_taken(tmp_path):
    run(net(), scratch=tmp_path)
    longer = Settings(**{**vars(SETTINGS), "epochs": 5})
    fresh, plain = net(), net()
    run(fresh, longer, scratch=tmp_path)
    run(plain, longer)
    assert same(weights(fresh), weights(plain))


def test_half_a_checkpoint_is_never_read(tmp_path: Path):
    (tmp_path / "training.part").write_bytes(b"half")
    module, plain = net(), net()
    run(module, scratch=tmp_path)
    run(plain)
    assert same(weights(module), weights(plain))


def test_the_best_epoch_is_restored():
    scores = iter([0.2, 0.9, 0.5, 0.1])
    seen: list[dict[str, Array]] = []

    def evaluate(module: nn.Module) -> float:
        seen.append(weights(module))
        return next(scores)

    module = net()
    history = run(module, evaluate=evaluate)
    assert history.best_epoch == 1
    assert same(weights(module), seen[1])


def test_later_epochs_win_ties():
    assert run(net(), evaluate=lambda _: 0.5).best_epoch == 3


def test_patience_ends_training():
    scores = iter([0.5, 0.4, 0.3, 0.9])
    history = run(net(), Settings(**{**vars(SETTINGS), "patience": 2}), evaluate=lambda _: next(scores))
    assert history.scores == [0.5, 0.4, 0.3]
    assert history.best_epoch == 0


def test_global_random_states_are_untouched():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    run(net())
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_every_example_is_shown_once_an_epoch():
    shown: list[int] = []

    def watch(module: nn.Module, rows: Array) -> Tensor:
        shown.extend(rows.tolist())
        return loss_of_batch(module, rows)

    optimise(net(), LENGTHS, watch, SETTINGS)
    assert sorted(shown) == sorted(list(range(N)) * 4)


def test_frozen_weights_stay_and_heads_learn_faster():
    module = net()
    module[0].requires_grad_(False)
    frozen = weights(module[0])
    run(module)
    assert same(frozen, weights(module[0]))

    def moved(ratio: float) -> float:
        trained = net()
        before = weights(trained[2])["weight"]
        run(trained, Settings(epochs=1, batch=8, learning_rate=1e-3, head_ratio=ratio), heads=("2",))
        return float(np.abs(weights(trained[2])["weight"] - before).mean())

    assert moved(10.0) > 5 * moved(1.0)


def test_the_rate_warms_up_and_decays_to_zero():
    rate = loop._warm_then_decay(Settings(epochs=10, warm_up=0.1), per_epoch=10)
    rates = [rate(step) for step in range(101)]
    assert np.argmax(rates) in (8, 9)
    assert all(a < b for a, b in pairwise(rates[:9]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == 0.0


def test_no_examples_are_no_steps():
    module = net()
    before = weights(module)
    optimise(module, np.zeros(0, np.int64), loss_of_batch, SETTINGS)
    assert same(before, weights(module))
