"""Packed rows through real architectures: a row is its documents apart, and what can't be so is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.errors import UserError
from minikin.feed.decoder import Asked, head_of, states
from minikin.feed.rows import learnt_offsets, positions, tokens
from toy_decoders import VOCABULARY, decoder, packed

ROWS = packed([[5, 3, 4], [7], [2, 9], [1, 1, 6]], width=14)


@pytest.mark.parametrize("kind", ["llama", "gemma", "gpt_neox", "gemma2", "granite"])
def test_a_packed_row_is_its_documents_apart(kind):
    model = decoder(kind).eval()
    head, batch = head_of(model), tokens(ROWS, np.arange(4))
    with torch.no_grad():
        logits_BTV = head.logits(states(model, batch)[0])
        for b in range(4):
            for document in range(1, int(ROWS.documents_NT[b].max()) + 1):
                mine_T = torch.from_numpy(ROWS.documents_NT[b, : batch.ids_BT.shape[1]] == document)
                apart_TV = model(input_ids=batch.ids_BT[b, mine_T][None]).logits[0]
                torch.testing.assert_close(logits_BTV[b, mine_T], apart_TV, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bloom", "mamba"])
@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_a_model_whose_documents_would_mix_is_refused(kind, spread):
    with pytest.raises(UserError, match="see other documents"):
        head_of(decoder(kind, spread=spread))


@pytest.mark.parametrize(("kind", "scale", "softcap"), [("llama", 1, None), ("granite", 1 / 3, None), ("gemma2", 1, 2)])
def test_what_follows_the_output_matrix_is_found(kind, scale, softcap):
    head = head_of(decoder(kind))
    assert (head.scale, head.softcap) == (pytest.approx(scale), softcap)


def test_a_model_that_does_more_to_its_logits_is_refused():
    model = decoder()
    model.lm_head.register_forward_hook(lambda _module, _given, out: out + torch.arange(VOCABULARY))
    with pytest.raises(UserError, match="does more between hidden states and logits"):
        head_of(model)


def test_a_model_without_output_matrix_is_refused():
    with pytest.raises(UserError, match="no plain output matrix"):
        head_of(decoder().model)


def test_states_of_every_layer_end_with_those_of_the_output():
    model, batch = decoder().eval(), tokens(ROWS, np.arange(2))
    with torch.no_grad():
        every, (last_BTH,) = states(model, batch, every=True), states(model, batch)
    assert len(every) == 3
    torch.testing.assert_close(every[-1], last_BTH)


def test_rows_as_tensors():
    batch = tokens(ROWS, np.array([1, 3]))
    assert batch.ids_BT.shape == (2, 8)
    assert batch.positions_BT.tolist() == [[0, 1, 2, 3, 4, 5, 6, 0], [0, 0, 0, 1, 2, 3, 4, 5]]
    states_BTH = torch.arange(16.0).reshape(2, 8, 1)
    expected = [8 * b + t - 1 for b in range(2) for t in range(8) if batch.learnt_BT[b, t]]
    assert batch.before_learnt(states_BTH).flatten().tolist() == expected
    assert batch.learnt_M.tolist() == ROWS.ids_NT[[1, 3]][ROWS.learnt_NT[[1, 3]]].tolist()


@given(st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=4))
def test_positions_restart_with_each_document(rows):
    made = packed(rows, width=20)
    for found_T, lengths in zip(positions(made.documents_NT), rows, strict=True):
        expected = [i for n in lengths for i in range(n)]
        assert found_T.tolist() == expected + [0] * (20 - len(expected))


def test_learnt_tokens_are_counted_row_by_row():
    offsets = learnt_offsets(ROWS)
    assert np.diff(offsets).tolist() == ROWS.learnt_NT.sum(1).tolist()


def test_a_teacher_is_frozen():
    asked = Asked(decoder().train())
    assert not asked.model.training
    assert not any(p.requires_grad for p in asked.model.parameters())
