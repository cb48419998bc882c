"""Training decoders: they learn what the teacher said, go on after a kill, and two processes learn as one."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from minikin.base.errors import UserError
from minikin.feed.decoder import Asked, states
from minikin.feed.rows import tokens
from minikin.teachers import token_signals as store
from minikin.train.loop import History, Settings, _Shares
from minikin.train.on_policy import OnPolicy, answered, prompts
from minikin.train.sequence import cross_entropy, distil, follow
from minikin.train.token_objectives import TokenObjective
from toy_decoders import decoder, many

ROWS = many(24)
SETTINGS = Settings(epochs=3, batch=5, learning_rate=5e-3, seed=1)
TEACHER = decoder(seed=5, spread=0.5)
BOTH = [TokenObjective("gold", 0.3), TokenObjective("kl")]


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals") / "store"
    store.collect(Asked(TEACHER), ROWS, folder, store.Kept(k=12))
    return store.read(folder, ROWS)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trained(source: Any = None, settings: Settings = SETTINGS, **more: Any) -> tuple[dict[str, torch.Tensor], History]:
    model = decoder(seed=2)
    history = distil(model, ROWS, more.pop("objectives", BOTH), settings, source=source, **more)
    return weights(model), history


@pytest.mark.parametrize("kind", ["store", "live"])
def test_it_learns_what_the_teacher_says(kind, signals):
    source = signals if kind == "store" else Asked(TEACHER)
    _, history = trained(source, replace(SETTINGS, epochs=10), objectives=[TokenObjective("kl")])
    assert history.losses[-1] < 0.5 * history.losses[0]


def test_a_decoder_learns_to_compute_what_another_computes():
    model, other = decoder(seed=2), decoder(seed=5, spread=0.5).eval().requires_grad_(False)

    @torch.no_grad()
    def missed() -> float:
        batch = tokens(ROWS, np.arange(len(ROWS.ids_NT)))
        read_BT = (batch.documents_BT > 0) & (batch.positions_BT > 0)
        found_MH, wanted_MH = (states(m.eval(), batch)[-1][read_BT].double() for m in (model, other))
        return float((found_MH - wanted_MH).square().sum() / (wanted_MH - wanted_MH.mean(0)).square().sum())

    before = missed()
    settings = replace(SETTINGS, epochs=60, batch=24, learning_rate=1e-2)
    history = follow(model, ROWS, lambda batch: states(other, batch)[-1], settings, validation=ROWS)
    assert missed() < 0.5 * before
    assert history.losses[0] == pytest.approx(before, rel=1e-4)
    assert max(history.scores) == pytest.approx(-missed(), rel=1e-4)


def test_cross_entropy_is_that_of_the_documents_apart():
    model, total, count = decoder(seed=2).eval(), 0.0, 0
    for n in range(len(ROWS.ids_NT)):
        for document in range(1, int(ROWS.documents_NT[n].max()) + 1):
            mine_T = ROWS.documents_NT[n] == document
            ids_T, learnt_T = torch.from_numpy(ROWS.ids_NT[n, mine_T]).long(), ROWS.learnt_NT[n, mine_T]
            with torch.no_grad():
                log_q_TV = F.log_softmax(model(input_ids=ids_T[None]).logits[0], -1)
            for t in np.flatnonzero(learnt_T):
                total, count = total - float(log_q_TV[t - 1, ids_T[t]]), count + 1
    assert cross_entropy(model, ROWS) == pytest.approx(total / count, rel=1e-5)
    silent = replace(ROWS, learnt_NT=np.zeros_like(ROWS.learnt_NT))
    assert math.isnan(cross_entropy(model, silent))


def test_the_epoch_with_the_best_held_out_loss_is_kept():
    model, held = decoder(seed=2), many(10, seed=8)
    hot = replace(SETTINGS, epochs=5, learning_rate=0.05)
    history = distil(model, ROWS, [TokenObjective("gold")], hot, validation=held)
    assert history.best_epoch == int(np.argmax(history.scores))
    assert -cross_entropy(model, held) == pytest.approx(max(history.scores), abs=1e-5)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, signals):
    def kill(share: float, _words: str) -> None:
        if share > 0.6:
            raise KeyboardInterrupt

    whole, _ = trained(signals)
    with pytest.raises(KeyboardInterrupt):
        trained(signals, scratch=tmp_path, progress=kill)
    resumed, _ = trained(signals, scratch=tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_checkpointing_changes_memory_not_numbers(signals):
    plain, history = trained(signals)
    checkpointed, again = trained(signals, checkpointing=True)
    assert history.losses == pytest.approx(again.losses, rel=1e-6)
    for name in plain:
        torch.testing.assert_close(plain[name], checkpointed[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("checkpointing", "times"), [(False, 1), (True, 2)])
def test_with_checkpointing_each_layer_is_computed_again(checkpointing, times):
    model, calls = decoder(seed=2), []
    # before, not after: computing again stops where the last value that is needed is there
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    once = replace(SETTINGS, epochs=1, batch=24)
    distil(model, ROWS, [TokenObjective("gold")], once, checkpointing=checkpointing)
    assert calls.count(True) == times


def test_bfloat16_comes_close(signals):
    _, exact = trained(signals)
    _, rough = trained(signals, replace(SETTINGS, bfloat16=True))
    assert rough.losses != exact.losses
    assert rough.losses == pytest.approx(exact.losses, rel=0.03)


def test_the_loss_is_the_mean_over_learnt_tokens_of_a_batch():
    _, history = trained(settings=replace(SETTINGS, epochs=1, batch=24), objectives=[TokenObjective("gold")])
    assert history.losses[0] == pytest.approx(cross_entropy(decoder(seed=2), ROWS), rel=1e-5)


TWO = Path(__file__).parent.parent / "two_processes.py"


@pytest.mark.slow
def test_two_processes_learn_as_one(tmp_path, signals):
    """Batches of 5 rows with unequal numbers of learnt tokens, the last of an epoch smaller: shares are unequal."""
    store.collect(Asked(TEACHER), ROWS, tmp_path / "store", store.Kept(k=12))
    one, history = trained(signals)
    # accelerate's own launcher starts several processes on CPUs through mpirun alone; with GPUs it starts them so
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    path = os.pathsep.join([str(TWO.parent), *sys.path])
    said = (tmp_path / "said").open("w+")
    running = subprocess.Popen(
        [*launch, str(TWO), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdout=said,
        stderr=said,
        start_new_session=True,
    )
    try:
        failed = running.wait(timeout=900)
    finally:
        if running.poll() is None:  # the launcher's own end would leave its workers behind
            os.killpg(running.pid, signal.SIGKILL)
    assert not failed, (tmp_path / "said").read_text()[-3000:]
    reports = [json.loads((tmp_path / f"process-{i}.json").read_text()) for i in (0, 1)]
    assert [r["processes"] for r in reports] == [2, 2]
    assert reports[0]["shown"] + reports[1]["shown"] == len(ROWS.ids_NT) * SETTINGS.epochs
    for report in reports:
        assert report["losses"] == pytest.approx(history.losses, rel=1e-5)
        for name in one:
            np.testing.assert_allclose(report["weights"][name], one[name].numpy(), rtol=1e-3, atol=1e-5)


class _Of:
    """What the loop asks an accelerator: which process of how many this is."""

    def __init__(self, index: int, workers: int) -> None:
        self.process_index, self.num_processes = index, workers


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 4, 7])
def test_the_processes_shares_make_up_the_batch(workers, rows):
    rng = np.random.default_rng(rows)
    weights_N, values_N, rows_B = rng.integers(0, 9, 20), rng.random(20), rng.permutation(20)[:rows]
    weights_N[rows_B[0]] = 3
    total = 0.0
    for index in range(workers):
        mine, counts = _Shares(_Of(index, workers), weights_N).of(rows_B)
        mean = (weights_N[mine] * values_N[mine]).sum() / max(1, weights_N[mine].sum())
        total += counts * mean / workers
    assert total == pytest.approx((weights_N[rows_B] * values_N[rows_B]).sum() / weights_N[rows_B].sum())


def test_prompts_end_before_the_first_learnt_token():
    from minikin.feed.rows import tokens

    found = prompts(tokens(ROWS, np.arange(24)))
    expected = []
    for n in range(24):
        for document in range(1, int(ROWS.documents_NT[n].max()) + 1):
            own = np.flatnonzero(ROWS.documents_NT[n] == document)
            learnt = own[ROWS.learnt_NT[n, own]]
            if len(learnt):
                expected.append(ROWS.ids_NT[n, own[0] : learnt[0]].tolist())
    assert [p.tolist() for p in found] == expected


def test_answers_follow_their_prompts_and_end_with_the_first_stop():
    model = decoder(seed=2)
    given = [torch.tensor([5, 6, 7]), torch.tensor([9])]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batch = answered(model, given, OnPolicy(1.0, 12, stop_id=20, context=32))
    for b, prompt in enumerate(given):
        ids = batch.ids_BT[b][batch.documents_BT[b] > 0].tolist()
        assert ids[: len(prompt)] == prompt.tolist()
        answer = ids[len(prompt) :]
        assert 1 <= len(answer) <= 12
        assert 20 not in answer[:-1]
        assert int(batch.learnt_BT[b].sum()) == len(answer)
        assert not batch.learnt_BT[b, : len(prompt)].any()
    assert model.training


def test_on_its_own_text_the_student_comes_nearer_to_its_teacher():
    """Nothing but its own answers is learnt from, and it is nearer to the teacher on given text too."""
    model, source = decoder(seed=2), Asked(TEACHER)
    before = _distance(model, source)
    own = OnPolicy(1.0, max_new=8, stop_id=2, context=16)
    distil(model, ROWS, [TokenObjective("kl")], replace(SETTINGS, epochs=12), source=source, own=own)
    assert _distance(model, source) < 0.8 * before


def test_a_killed_run_on_its_own_text_goes_on_to_the_same_weights(tmp_path):
    own = OnPolicy(0.5, max_new=6, stop_id=2, context=16)

    def kill(share: float, _words: str) -> None:
        if share > 0.6:
            raise KeyboardInterrupt

    whole, _ = trained(Asked(TEACHER), own=own)
    with pytest.raises(KeyboardInterrupt):
        trained(Asked(TEACHER), own=own, scratch=tmp_path, progress=kill)
    resumed, _ = trained(Asked(TEACHER), own=own, scratch=tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_answer_ends_where_the_context_does():
    given = [torch.tensor([5, 6, 7]), torch.tensor([9])]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batch = answered(decoder(seed=2), given, OnPolicy(1.0, 12, stop_id=20, context=5))
    assert batch.ids_BT.shape[1] <= 5


def _distance(model: Any, source: Asked) -> float:
    still = replace(SETTINGS, epochs=1, batch=24, learning_rate=0.0)
    return distil(model, ROWS, [TokenObjective("kl")], still, source=source).losses[0]


def test_a_share_of_zero_is_plain_distillation():
    source = Asked(TEACHER)
    plain, _ = trained(source)
    never, _ = trained(source, own=OnPolicy(0.0, max_new=8, stop_id=2, context=16))
    assert all(torch.equal(plain[name], never[name]) for name in plain)


@pytest.mark.parametrize(
    ("own", "objectives", "live", "words"),
    [
        (OnPolicy(0.5, 8, 2, 16), BOTH, False, "needs a live teacher"),
        (OnPolicy(0.5, 8, 2, 16), [TokenObjective("gold")], True, "needs a divergence"),
        (OnPolicy(1.5, 8, 2, 16), BOTH, True, "0 <= share <= 1"),
        (OnPolicy(0.5, 0, 2, 16), BOTH, True, "max_new >= 1"),
    ],
)
def test_impossible_on_policy_settings_are_refused(own, objectives, live, words, signals):
    with pytest.raises(UserError, match=words):
        distil(decoder(), ROWS, objectives, SETTINGS, source=Asked(TEACHER) if live else signals, own=own)
