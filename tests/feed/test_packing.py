import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.types import Ragged
from minikin.feed.packing import Documents, attention, opened, pack


def made(lengths, seed=0):
    """Documents whose every token is another number, so that each can be found again."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = Ragged(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)
    return Documents(ids, Ragged(rng.random(offsets[-1]) < 0.6, offsets))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(2, 17), st.integers(0, 3))
def test_every_token_is_in_one_place_and_boundaries_are_right(lengths, width, seed):
    documents = made(lengths, seed)
    packed = pack(documents, width, seed=seed)
    there = packed.documents_NT > 0
    assert sorted(packed.ids_NT[there].tolist()) == documents.ids.values.tolist()
    assert not packed.learnt_NT[~there].any()
    learnt = documents.learnt.values
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for ids_T, numbers_T, learnt_T in zip(packed.ids_NT, packed.documents_NT, packed.learnt_NT, strict=True):
        count = int(numbers_T.max())
        assert numbers_T[numbers_T > 0].tolist() == sorted(numbers_T[numbers_T > 0].tolist())
        for number in range(1, count + 1):
            tokens = ids_T[numbers_T == number]
            assert np.diff(np.flatnonzero(numbers_T == number)).tolist() == [1] * (len(tokens) - 1)
            assert np.diff(tokens).tolist() == [1] * (len(tokens) - 1)
            assert len(set(owner[tokens - 1])) == 1
            assert not learnt_T[numbers_T == number][0]
            assert learnt_T[numbers_T == number][1:].tolist() == learnt[tokens - 1][1:].tolist()


@given(st.lists(st.integers(1, 16), min_size=1, max_size=200))
def test_rows_are_filled_well(lengths):
    used_N = np.sort((np.asarray(pack(made(lengths), 16).documents_NT) > 0).sum(1))
    # no two rows could have been one: so fewer than twice as many as are needed
    assert len(used_N) < 2 or used_N[0] + used_N[1] > 16


def test_the_seed_decides_and_nothing_else(tmp_path):
    documents = made([5, 9, 2, 7, 7, 3, 11, 1] * 4)
    one, same, other = (pack(documents, 12, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.ids_NT, same.ids_NT)
    assert not np.array_equal(one.ids_NT, other.ids_NT)
    mapped = pack(documents, 12, seed=1, folder=tmp_path / "rows")
    assert isinstance(mapped.ids_NT, np.memmap)
    for name in ("ids_NT", "documents_NT", "learnt_NT"):
        assert np.array_equal(getattr(mapped, name), getattr(one, name))
        assert np.array_equal(getattr(opened(tmp_path / "rows"), name), getattr(one, name))


def test_attention_stays_in_the_document_and_positions_restart():
    mask, positions = attention(torch.tensor([[1, 1, 2, 2, 2, 0]]))
    assert positions.tolist() == [[0, 1, 0, 1, 2, 0]]
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_a_packed_row_gives_the_logits_of_its_documents_alone(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=40, **sizes)).eval()
    packed = pack(made([5, 4, 6, 3]), 10)
    ids, documents = torch.from_numpy(packed.ids_NT).long(), torch.from_numpy(packed.documents_NT)
    mask, positions = attention(documents)
    with torch.no_grad():
        together = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        assert torch.isfinite(together).all()
        for row in range(len(ids)):
            for number in range(1, int(documents[row].max()) + 1):
                mine = documents[row] == number
                alone = model(input_ids=ids[row][mine][None]).logits[0]
                assert torch.allclose(together[row][mine], alone, atol=1e-5)
