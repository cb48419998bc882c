"""Training in bfloat16: products in half the bits, attention in float32, and the module as it was afterwards."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from minikin.train.precision import IN_FLOAT32, bfloat16_products

CPU = torch.device("cpu")


def bert():
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
    return BertForSequenceClassification(BertConfig(**shape, vocab_size=50, num_labels=3)).eval()


def llama():
    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, intermediate_size=48, vocab_size=50)).eval()


IDS_BT = torch.arange(24).reshape(2, 12)
MASK_BT = torch.tensor([[1] * 12, [1] * 7 + [0] * 5])


@pytest.mark.parametrize("make", [bert, llama])
def test_attention_stays_in_float32_and_the_rest_does_not(make, monkeypatch):
    seen = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def spy(query, *rest, **more):
        seen.append((query.dtype, torch.is_autocast_enabled("cpu")))
        return plain(query, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model = make()
    exact = model(input_ids=IDS_BT, attention_mask=MASK_BT).logits
    with bfloat16_products(model, CPU, True) as precision, precision:
        rough = model(input_ids=IDS_BT, attention_mask=MASK_BT).logits
    assert seen == [(torch.float32, False)] * 4
    assert rough.dtype == torch.bfloat16
    kept = MASK_BT.bool() if rough.dim() == 3 else slice(None)
    assert not torch.equal(exact[kept], rough[kept].float())
    torch.testing.assert_close(exact[kept], rough[kept].float(), rtol=0.1, atol=0.05)
    assert model.config._attn_implementation == "sdpa"


def test_an_exception_leaves_the_module_as_it_was():
    model, seen = bert(), []

    def fail(*_):
        seen.append(model.config._attn_implementation)
        raise ValueError("a bad batch")

    model.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="a bad batch"), bfloat16_products(model, CPU, True):
        model(input_ids=IDS_BT)
    assert seen == [IN_FLOAT32]
    assert model.config._attn_implementation == "sdpa"


def test_nothing_changes_in_float32_or_where_attention_is_another_one():
    model = bert()
    with bfloat16_products(model, CPU, False) as precision, precision:
        assert model.config._attn_implementation == "sdpa"
        assert model(input_ids=IDS_BT, attention_mask=MASK_BT).logits.dtype == torch.float32
    model.config._attn_implementation = "eager"
    with bfloat16_products(model, CPU, True):
        assert model.config._attn_implementation == "eager"
