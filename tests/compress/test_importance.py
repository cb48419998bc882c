"""The importance matrix is the mean square of what goes into each weight, by a hand-made reckoning."""

from __future__ import annotations

import numpy as np
import pytest

import decoders
from minikin.base.errors import UserError
from minikin.compress.importance import importance
from minikin.package.gguf_tensors import tensors

torch = pytest.importorskip("torch")
TEXTS = [[5, 6, 7, 8], [9, 10], list(range(2, 40))]


def test_the_first_layer_and_the_output_see_what_can_be_reckoned_by_hand(tmp_path):
    model = decoders.random_decoder(tmp_path, decoders.families()["llama tied, llama3 positions"])
    found = importance(model, TEXTS)
    ids = torch.tensor([i for text in TEXTS for i in text])
    with torch.no_grad():
        first_NK = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))
        last_NK = torch.cat([model.model(torch.tensor([text])).last_hidden_state[0] for text in TEXTS])
    query = found["model.layers.0.self_attn.q_proj.weight"]
    assert query == pytest.approx(first_NK.square().mean(0).numpy(), rel=1e-4)
    assert found["model.embed_tokens.weight"] == pytest.approx(last_NK.square().mean(0).numpy(), rel=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi3"])
def test_every_matrix_of_a_family_has_its_columns(tmp_path, name):
    model = decoders.random_decoder(tmp_path, decoders.families()[name])
    found = importance(model, TEXTS)
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    for place, source, array in tensors({**model.config.to_dict()}, weights):
        if place.endswith(".weight") and array.ndim == 2 and "token_embd" not in place and "position" not in place:
            assert found[source].shape == array.shape[1:]
            assert (found[source] > 0).any()


def test_nothing_is_left_behind_in_the_model(tmp_path):
    model = decoders.random_decoder(tmp_path, decoders.families()["llama"]).train()
    importance(model, TEXTS)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(UserError, match="needs sample texts"):
        importance(model, [])
    assert isinstance(importance(model, TEXTS)["lm_head.weight"], np.ndarray)
