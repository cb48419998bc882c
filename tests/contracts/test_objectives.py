"""One row per objective: what it needs, and how a perfect student looks. A new objective costs one row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from minikin.base.errors import UserError
from minikin.base.types import Outputs, Ragged, Signals
from minikin.recipe import schema
from minikin.train.objectives import INSIDE, NEEDS, TERMS, Batch, Loss, Objective, check
from minikin.train.token_objectives import KNOWN

LENGTHS = (4, 2, 3, 4)
TEXTS, WIDTH, HIDDEN, CLASSES, LAYERS = len(LENGTHS), max(LENGTHS), 8, 3, 2
MASK_BT = torch.arange(WIDTH)[None] < torch.tensor(LENGTHS)[:, None]
RNG = np.random.default_rng(0)
ROWS_B = np.arange(TEXTS)


def ragged(width: int | None) -> Ragged:
    """Random rows over tokens (or, for None, T × T maps, flat)."""
    rows = [RNG.random((n * n,) if width is None else (n, width)) for n in LENGTHS]
    return Ragged(np.concatenate(rows).astype(np.float16), np.cumsum([0, *map(len, rows)]))


SIGNALS = Signals(
    texts=[f"text {i}" for i in range(TEXTS)],
    labels_N=np.array([0, 1, 2, -1]),
    logits_NC=RNG.normal(size=(TEXTS, CLASSES)).astype(np.float16),
    pooled_NH=RNG.normal(size=(TEXTS, HIDDEN)).astype(np.float16),
    hidden={i: ragged(HIDDEN) for i in range(LAYERS + 1)},
    attention={i: ragged(None) for i in range(1, LAYERS + 1)},
    relations={name: ragged(HIDDEN) for name in ("query", "key", "value")},
)
WITHOUT = Signals(SIGNALS.texts, np.full(TEXTS, -1), SIGNALS.logits_NC)


def dense(rows: Ragged, square: bool = False) -> torch.Tensor:
    """The stored rows as a padded tensor that learns."""
    out = np.zeros((TEXTS, WIDTH, WIDTH if square else HIDDEN), np.float32)
    for b, n in enumerate(LENGTHS):
        out[b, :n, : n if square else HIDDEN] = rows[b].reshape(n, -1)
    return torch.tensor(out, requires_grad=True)


def perfect() -> Outputs:
    """What a student computes that repeats its teacher."""
    logits_BC = torch.tensor(SIGNALS.logits_NC.astype(np.float32), requires_grad=True)
    pooled_BH = torch.tensor(SIGNALS.pooled_NH.astype(np.float32), requires_grad=True)
    hidden = [dense(SIGNALS.hidden[i]) for i in range(LAYERS + 1)]
    maps = [dense(SIGNALS.attention[i], square=True) for i in range(1, LAYERS + 1)]
    return Outputs(logits_BC, pooled_BH, hidden, maps, {k: dense(v) for k, v in SIGNALS.relations.items()})


def sure() -> Outputs:
    """A student that gives the gold labels all probability."""
    gold_BC = torch.zeros(TEXTS, CLASSES)
    gold_BC[torch.arange(3), torch.tensor([0, 1, 2])] = 40.0
    return replace(perfect(), logits_BC=gold_BC.requires_grad_())


def poor() -> Outputs:
    """A student that computes noise."""
    torch.manual_seed(1)
    good = perfect()

    def noise(x: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(x).requires_grad_()

    maps = [torch.softmax(noise(m), -1).detach().requires_grad_() for m in good.attention_LBTT]
    return Outputs(
        noise(good.logits_BC),
        noise(good.pooled_BH),
        [noise(h) for h in good.hidden_LBTH],
        maps,
        {k: noise(v) for k, v in good.relations.items()},
    )


@dataclass(frozen=True)
class Row:
    """An objective, its perfect student, the tensors that it reads, and whether padding could reach it."""

    name: str
    reads: Callable[[Outputs], list[torch.Tensor]]
    best: Callable[[], Outputs] = perfect
    layers: dict[int, int] = field(default_factory=dict)


ROWS = [
    Row("kl", lambda o: [o.logits_BC]),
    Row("mse", lambda o: [o.logits_BC]),
    Row("gold", lambda o: [o.logits_BC], best=sure),
    Row("pooled", lambda o: [o.pooled_BH]),
    Row("rkd_distance", lambda o: [o.pooled_BH]),
    Row("rkd_angle", lambda o: [o.pooled_BH]),
    Row("hidden", lambda o: [o.hidden_LBTH[0], o.hidden_LBTH[2]], layers={0: 0, 2: 2}),
    Row("attention", lambda o: [o.attention_LBTT[0], o.attention_LBTT[1]], layers={1: 1, 2: 2}),
    Row("relations", lambda o: list(o.relations.values())),
]
NAMES = [row.name for row in ROWS]
each = pytest.mark.parametrize("row", ROWS, ids=NAMES)


def loss_of(row: Row, outputs: Outputs, signals: Signals = SIGNALS) -> torch.Tensor:
    """The objective's value, with projections that change nothing."""
    loss = Loss([Objective(row.name, layers=row.layers)], signals, {"pooled": HIDDEN, "hidden": HIDDEN}, seed=0)
    for projection in loss.projections.values():
        torch.nn.init.eye_(projection.weight)
        torch.nn.init.zeros_(projection.bias)
    return loss(outputs, Batch(ROWS_B, MASK_BT.long(), signals))


def test_every_objective_has_a_row_and_the_recipe_knows_it():
    assert sorted(NAMES) == sorted(NEEDS) == sorted(TERMS)
    recipe_knows = set(schema.Objective.model_fields["name"].annotation.__args__)
    assert recipe_knows <= set(NEEDS) | set(KNOWN)


@each
def test_a_perfect_student_scores_the_least(row: Row):
    best, worse = loss_of(row, row.best()).item(), loss_of(row, poor()).item()
    assert best == pytest.approx(0.0, abs=1e-5)
    assert worse > best + 1e-3


@each
@pytest.mark.parametrize("made", [perfect, poor])
def test_the_gradient_is_finite_and_reaches_what_is_read(row: Row, made):
    outputs = made()
    loss_of(row, outputs).backward()
    for tensor in row.reads(outputs):
        assert torch.isfinite(tensor.grad).all()
    if made is poor:
        assert all(tensor.grad.abs().sum() > 0 for tensor in row.reads(outputs))


@each
def test_padding_and_unlabelled_rows_do_not_count(row: Row):
    outputs = poor()
    before = loss_of(row, outputs).item()
    with torch.no_grad():
        if row.name == "gold":
            outputs.logits_BC[SIGNALS.labels_N < 0] += 5.0
        for tensor in row.reads(outputs):
            if row.name in INSIDE:
                tensor[~MASK_BT] = 7.0
            if row.name == "attention":
                tensor.transpose(1, 2)[~MASK_BT] = 7.0
    assert loss_of(row, outputs).item() == pytest.approx(before, rel=1e-6)


@each
def test_it_refuses_signals_without_what_it_needs(row: Row):
    objectives = [Objective(row.name, layers=row.layers)]
    check(objectives, SIGNALS, "encoder")
    if NEEDS[row.name] == "logits":
        check(objectives, WITHOUT, "encoder")
    else:
        with pytest.raises(UserError, match=row.name):
            check(objectives, WITHOUT, "encoder")


@pytest.mark.parametrize("row", [r for r in ROWS if r.name in INSIDE], ids=INSIDE)
def test_a_static_student_is_refused_what_is_inside(row: Row):
    with pytest.raises(UserError, match="static"):
        check([Objective(row.name, layers=row.layers)], SIGNALS, "static")


@pytest.mark.parametrize("row", [r for r in ROWS if r.name in INSIDE], ids=INSIDE)
def test_texts_that_the_student_splits_otherwise_have_nothing_to_compare(row: Row):
    longer = MASK_BT.long().clone()
    longer[1, 2] = 1  # the student sees three tokens where the teacher saw two
    loss = Loss([Objective(row.name, layers=row.layers)], SIGNALS, {"pooled": HIDDEN, "hidden": HIDDEN}, seed=0)
    outputs = poor()
    value = loss(outputs, Batch(ROWS_B, longer, SIGNALS))
    value.backward()
    assert torch.isfinite(value)
    for tensor in row.reads(outputs):
        assert tensor.grad[1].abs().sum() == 0
        assert tensor.grad[0].abs().sum() > 0


def test_layers_that_were_not_stored_are_refused():
    with pytest.raises(UserError, match=r"layers \[9\]"):
        check([Objective("hidden", layers={0: 9})], SIGNALS, "encoder")
    with pytest.raises(UserError, match="names no layers"):
        check([Objective("attention")], SIGNALS, "encoder")


def test_an_unknown_objective_is_refused_with_what_is_known():
    with pytest.raises(UserError, match="relations"):
        check([Objective("magic")], SIGNALS, "encoder")


def test_objectives_add_up_by_their_weights():
    outputs = poor()
    batch = Batch(ROWS_B, MASK_BT.long(), SIGNALS)
    parts = [Loss([Objective(n)], SIGNALS, {}, 0)(outputs, batch).item() for n in ("kl", "rkd_distance")]
    both = Loss([Objective("kl", 0.5), Objective("rkd_distance", 3.0)], SIGNALS, {}, 0)(outputs, batch).item()
    assert both == pytest.approx(0.5 * parts[0] + 3.0 * parts[1], rel=1e-6)


def test_widths_that_relation_heads_cannot_divide_are_refused():
    narrow = replace(SIGNALS, relations={k: ragged(6) for k in ("query", "key", "value")})
    with pytest.raises(UserError, match="relations"):
        check([Objective("relations")], narrow, "encoder")
    with pytest.raises(UserError, match="the student"):
        Loss([Objective("relations")], SIGNALS, {"hidden": 6}, 0)
