"""Adapters learn by the same loop, leave the rest alone, and merge into a model of the same architecture."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("peft", reason="adapters need the package peft")

from minikin.base.errors import UserError
from minikin.students.adapters import adapted, merged
from minikin.train.loop import Settings
from minikin.train.sequence import cross_entropy, distil
from minikin.train.token_objectives import TokenObjective
from toy_decoders import decoder, many

ROWS = many(12)


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_learn_alone_and_merge(dora):
    model = decoder()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss_before = cross_entropy(model, ROWS)
    adapters = adapted(model, 2, dora=dora)
    history = distil(model, ROWS, [TokenObjective("gold")], Settings(epochs=6, batch=4, learning_rate=0.02))
    assert history.losses[-1] < history.losses[0]
    learnt = cross_entropy(model, ROWS)
    assert learnt < loss_before - 0.05
    whole = merged(adapters)
    after = dict(whole.named_parameters())
    assert sorted(after) == sorted(before)
    assert cross_entropy(whole, ROWS) == pytest.approx(learnt, abs=1e-4)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("proj.weight")}


def test_a_rank_below_one_and_a_model_without_linear_layers_are_refused():
    with pytest.raises(UserError, match="rank of at least 1"):
        adapted(decoder(), 0)
    with pytest.raises(UserError, match="fit no layer"):
        adapted(torch.nn.Embedding(4, 4), 2)


def test_first_weights_are_drawn_by_the_seed_alone():
    drawn = [dict(adapted(decoder(), 2, seed=seed).named_parameters()) for seed in (1, 1, 2)]
    names = [name for name in drawn[0] if "lora_A" in name]
    assert names
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in names)
    assert not any(torch.equal(drawn[0][name], drawn[2][name]) for name in names)
