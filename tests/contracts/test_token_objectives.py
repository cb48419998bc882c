"""One row per objective of decoders: what it computes by plain torch from stored signals and from a live teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minikin.base.errors import UserError
from minikin.base.writing import TokenSignals
from minikin.equations import sequence
from minikin.feed.decoder import Asked, head_of, states
from minikin.feed.rows import learnt_offsets, tokens
from minikin.teachers.token_signals import Kept
from minikin.train.token_objectives import KNOWN, TokenLoss, TokenObjective, check
from toy_decoders import VOCABULARY, decoder, many

ROWS = many(6)
COUNT = int(ROWS.learnt_NT.sum())
ROWS_B = np.array([4, 0, 2])
BATCH = tokens(ROWS, ROWS_B)
TEACHER = Asked(decoder(seed=7, hidden_size=24))
K = 5


def teacher_logits(rows_B: np.ndarray) -> Tensor:
    batch = tokens(ROWS, rows_B)
    return TEACHER.head.logits(batch.before_learnt(TEACHER.states(batch)[0]))


def stored(kind: str = "top", temperature: float = 1.0, **more: object) -> TokenSignals:
    """Signals as the store would give them, in memory and unrounded."""
    logits_MV = teacher_logits(np.arange(6)) / temperature
    record = np.zeros(COUNT, [("ids", "u2", (K,)), ("values", "f4", (K,)), ("rest", "f4")])
    if kind == "top":
        record["ids"], logs_MK1 = sequence.top(logits_MV, K)
        record["values"], record["rest"] = logs_MK1[:, :-1], logs_MK1[:, -1]
    else:
        record["ids"], record["values"] = sequence.sampled(logits_MV, K, torch.Generator().manual_seed(0))
        record["rest"] = sequence.entropy(logits_MV)
    return TokenSignals(kind, [record], learnt_offsets(ROWS), VOCABULARY, temperature, **more)


TOP = stored()


def both(divergence: Callable[[Tensor, Tensor], Tensor]) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """By plain torch: over top-k with a tail, and over the whole vocabulary."""

    def parted(student_MV: Tensor, teacher_MV: Tensor) -> Tensor:
        ids_MK, log_p_MK1 = sequence.top(teacher_MV, K)
        return divergence(sequence.partition(student_MV, ids_MK), log_p_MK1).mean()

    def whole(student_MV: Tensor, teacher_MV: Tensor) -> Tensor:
        return divergence(F.log_softmax(student_MV, -1), F.log_softmax(teacher_MV, -1)).mean()

    return parted, whole


def gold(student_MV: Tensor, _teacher_MV: Tensor) -> Tensor:
    return F.cross_entropy(student_MV, BATCH.learnt_M)


def uld(student_MV: Tensor, teacher_MV: Tensor) -> Tensor:
    q, p = (F.softmax(x, -1).sort(-1, descending=True).values for x in (student_MV, teacher_MV))
    head = (q - p)[:, :K].abs().sum(-1)
    return (head + (q[:, K:].sum(-1) - p[:, K:].sum(-1)).abs()).mean()


@dataclass(frozen=True)
class Row:
    """An objective and its value by plain torch, stored and live (None: refused, or, for `hidden`, tested below)."""

    objective: TokenObjective
    from_store: Callable[..., Tensor] | None
    from_live: Callable[..., Tensor] | None


ROWS_OF_TABLE = [
    Row(TokenObjective("gold"), gold, gold),
    Row(TokenObjective("kl"), *both(sequence.kl)),
    Row(TokenObjective("reverse_kl"), *both(sequence.reverse_kl)),
    Row(TokenObjective("js", beta=0.2), *both(lambda q, p: sequence.js(q, p, 0.2))),
    Row(TokenObjective("skew_kl", alpha=0.3), *both(lambda q, p: sequence.skew_kl(q, p, 0.3))),
    Row(TokenObjective("skew_reverse_kl", alpha=0.3), *both(lambda q, p: sequence.skew_reverse_kl(q, p, 0.3))),
    Row(TokenObjective("uld"), uld, None),
    Row(TokenObjective("hidden", layers={2: 1}), None, None),
    Row(TokenObjective("prompt"), None, None),
]


def student() -> tuple[object, Tensor]:
    model = decoder(seed=3)
    return model, head_of(model).logits(BATCH.before_learnt(states(model, BATCH)[0]))


def test_the_table_holds_every_objective():
    assert {row.objective.name for row in ROWS_OF_TABLE} == set(KNOWN)


CASES = [
    *(
        pytest.param(r.objective, TOP, r.from_store, id=f"{r.objective.name} stored")
        for r in ROWS_OF_TABLE
        if r.from_store
    ),
    *(
        pytest.param(r.objective, TEACHER, r.from_live, id=f"{r.objective.name} live")
        for r in ROWS_OF_TABLE
        if r.from_live
    ),
]


@pytest.mark.parametrize(("objective", "source", "plain"), CASES)
def test_an_objective_is_its_plain_loss(objective, source, plain):
    model, logits_MV = student()
    loss = TokenLoss([replace(objective, weight=0.7)], source, head_of(model), 0)
    found = loss(states(model, BATCH), BATCH, ROWS_B)
    expected = 0.7 * plain(logits_MV, teacher_logits(ROWS_B))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    slopes = [torch.autograd.grad(x, list(model.parameters())) for x in (found, expected)]
    for mine, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "skew_kl", "skew_reverse_kl"])
@pytest.mark.parametrize("source", [TOP, TEACHER], ids=["store", "live"])
def test_a_student_that_is_its_teacher_scores_zero(name, source):
    model = TEACHER.model
    loss = TokenLoss([TokenObjective(name)], source, head_of(model), 0)
    assert float(loss(states(model, BATCH), BATCH, ROWS_B)) == pytest.approx(0.0, abs=1e-5)


def test_a_weighted_list_is_the_weighted_sum():
    model, logits_MV = student()
    objectives = [TokenObjective("gold", 0.5), TokenObjective("kl", 2.0), TokenObjective("js", 3.0)]
    for source, which in ((TOP, 0), (TEACHER, 1)):
        found = TokenLoss(objectives, source, head_of(model), 0)(states(model, BATCH), BATCH, ROWS_B)
        said = teacher_logits(ROWS_B)
        expected = 0.5 * gold(logits_MV, said) + sum(
            weight * both(divergence)[which](logits_MV, said)
            for weight, divergence in ((2.0, sequence.kl), (3.0, sequence.js))
        )
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["store", "live"])
def test_a_temperature_flattens_both_and_keeps_the_gradients_scale(source):
    model, logits_MV = student()
    objectives = [TokenObjective("gold"), TokenObjective("kl", temperature=2.0)]
    loss = TokenLoss(objectives, stored(temperature=2.0) if source == "store" else TEACHER, head_of(model), 0)
    found, said = loss(states(model, BATCH), BATCH, ROWS_B), teacher_logits(ROWS_B)
    expected = gold(logits_MV, said) + 4.0 * both(sequence.kl)[source == "live"](logits_MV / 2, said / 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_sampled_signals_estimate_kl():
    model, logits_MV = student()
    signals = stored("sampled")
    found = TokenLoss([TokenObjective("kl", 0.5)], signals, head_of(model), 0)(states(model, BATCH), BATCH, ROWS_B)
    ids_MK, weights_MK, entropy_M = (torch.from_numpy(x) for x in signals.of_rows(ROWS_B))
    expected = -(weights_MK * F.log_softmax(logits_MV, -1).gather(-1, ids_MK)).sum(-1) - entropy_M
    torch.testing.assert_close(found, 0.5 * expected.mean())


def test_uld_counts_the_tokens_that_both_tokenizers_cut():
    model, logits_MV = student()
    known_M = np.arange(COUNT) % 3 == 0
    signals = stored(shared=False, known_M=known_M)
    found = TokenLoss([TokenObjective("uld")], signals, head_of(model), 0)(states(model, BATCH), BATCH, ROWS_B)
    chosen_M = torch.from_numpy(signals.known(ROWS_B))
    share = chosen_M.float().mean()
    expected = share * uld(logits_MV[chosen_M], teacher_logits(ROWS_B)[chosen_M])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_prompts_are_read_but_for_their_first_tokens():
    model, _ = student()
    logits_BTV = head_of(model).logits(states(model, BATCH)[0])
    documents, learnt = BATCH.documents_BT.tolist(), BATCH.learnt_BT.tolist()
    read = [
        (b, t)
        for b, row in enumerate(documents)
        for t, document in enumerate(row)
        if t and document and document == row[t - 1] and not learnt[b][t]
    ]
    plain = [F.cross_entropy(logits_BTV[b, t - 1], BATCH.ids_BT[b, t]) for b, t in read]
    loss = TokenLoss([TokenObjective("prompt", 0.3)], None, head_of(model), 0)
    torch.testing.assert_close(loss(states(model, BATCH), BATCH, ROWS_B), 0.3 * torch.stack(plain).mean())


def test_hidden_states_are_compared_after_a_learned_projection():
    model, _ = student()
    loss = TokenLoss([TokenObjective("hidden", layers={2: 1})], TEACHER, head_of(model), 0)
    ours, theirs = states(model, BATCH, every=True), TEACHER.states(BATCH, every=True)
    mask_BT = BATCH.documents_BT > 0
    expected = (loss.projections["hidden2"](ours[2]) - theirs[1])[mask_BT].square().mean()
    torch.testing.assert_close(loss(ours, BATCH, ROWS_B), expected)
    assert loss.inside


def test_a_batch_without_learnt_tokens_costs_nothing():
    model, _ = student()
    silent = replace(BATCH, learnt_BT=torch.zeros_like(BATCH.learnt_BT))
    found = TokenLoss([TokenObjective("gold"), TokenObjective("kl")], TEACHER, head_of(model), 0)(
        states(model, silent), silent, ROWS_B
    )
    found.backward()
    assert found.item() == 0.0
    assert float(model.lm_head.weight.grad.abs().sum()) == 0.0


HEAD = head_of(decoder(seed=3))


@pytest.mark.parametrize(
    ("objectives", "source", "words"),
    [
        ([], None, "No objective"),
        ([TokenObjective("mse")], TOP, "no objective 'mse'"),
        ([TokenObjective("kl")], None, "there is none"),
        ([TokenObjective("js", beta=1.0)], TOP, "0 < beta < 1"),
        ([TokenObjective("skew_kl", alpha=1.0)], TOP, "alpha < 1"),
        ([TokenObjective("kl", temperature=0.0)], TEACHER, "temperature above 0"),
        ([TokenObjective("kl", temperature=2.0)], TOP, "stored at 1.0"),
        ([TokenObjective("hidden", layers={1: 1})], TOP, "hold no hidden states"),
        ([TokenObjective("hidden")], TEACHER, "names no layers"),
        ([TokenObjective("js")], stored("sampled"), "estimate 'kl' alone"),
        ([TokenObjective("kl")], replace(TOP, shared=False), "use 'uld'"),
        ([TokenObjective("kl")], replace(TOP, vocabulary=60), "asked about 60 tokens, and the student has 53"),
        ([TokenObjective("kl")], Asked(decoder(seed=1, vocab_size=56)), "asked about 56 tokens"),
        ([TokenObjective("uld")], TEACHER, "beside a live teacher"),
    ],
)
def test_impossible_pairings_are_refused(objectives, source, words):
    with pytest.raises(UserError, match=words):
        check(objectives, source, HEAD)


def test_the_store_and_this_table_agree_on_what_a_record_is():
    assert Kept(k=K).record(VOCABULARY).names == stored().shards[0].dtype.names
