"""A decoder out of an encoder: the first layers of a BERT become a GPT-2, which reads from left to right.

An encoder of twenty million weights knows what words mean, and no decoder so small that does can be had by name. Two
things stand between: attention that sees what follows, which is masked, and norms behind each half of a layer, which a
GPT-2 has before it. Called by steps/generate/origins.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, GPT2Config, GPT2LMHeadModel

from minikin.base.errors import TeacherError
from minikin.base.types import Array, Student
from minikin.feed.causal import student_of
from minikin.teachers import causal
from minikin.teachers.resolve import Checkpoint

FAMILY = "bert"
SPREAD = 0.04
"""Standard deviation of vectors of pieces that the encoder has none for: about that of BERT's own."""


def is_encoder(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is an encoder that `read` makes a decoder of."""
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    return isinstance(config, dict) and config.get("model_type") == FAMILY


@torch.no_grad()
def read(
    checkpoint: Checkpoint,
    tokenizer_json: str,
    tokenizer_config: Mapping[str, Any],
    samples: Sequence[Array],
    *,
    layers: int | None,
    context: int,
    dropout: float,
) -> Student:
    """A GPT-2 over the pieces of a tokenizer, from the first `layers` layers of an encoder (absent: half of them).

    A piece's vector is the mean of those of the encoder's own pieces of its text. `samples` are token ids (T,) of texts
    such as it will read: weights and biases of each norm are the least squares of what the encoder's norm gives there,
    under the same mask, and each half of a layer is scaled to the width that the stream has then. While it is trained,
    a share `dropout` is zeroed of the embeddings and of what each half adds.

    Raises TeacherError when the encoder can't be loaded, has fewer layers or other neurons than BERT's, or reads fewer
    than `context` tokens. Source: Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation
    Tasks", section 2.2 (BERT2GPT), which leaves norms where they are.
    """
    encoder, its = _opened(checkpoint)
    had = encoder.config
    layers = layers or max(1, had.num_hidden_layers // 2)
    if layers > had.num_hidden_layers:
        raise TeacherError(f"teacher.layers: {checkpoint.name} has {had.num_hidden_layers}, not {layers}.")
    causal.refuse_short(checkpoint.name, had.max_position_embeddings, context)
    if not str(had.hidden_act).startswith("gelu"):
        raise TeacherError(f"teacher: {checkpoint.name} has neurons of the kind {had.hidden_act}, not GELU.")
    pieces = Tokenizer.from_str(tokenizer_json)
    end = pieces.token_to_id(str(tokenizer_config.get("eos_token")))
    config = GPT2Config(
        vocab_size=pieces.get_vocab_size(),
        n_positions=context,
        n_embd=had.hidden_size,
        n_layer=layers,
        n_head=had.num_attention_heads,
        n_inner=had.intermediate_size,
        activation_function="gelu_pytorch_tanh",
        embd_pdrop=dropout,
        resid_pdrop=dropout,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = GPT2LMHeadModel(config).eval()
    body: Any = model.transformer
    body.wte.weight.copy_(_vectors(pieces, its, encoder.embeddings.word_embeddings.weight))
    kind_H = encoder.embeddings.token_type_embeddings.weight[0]
    body.wpe.weight.copy_(encoder.embeddings.position_embeddings.weight[:context] + kind_H)
    _fill(body, encoder, [ids_T[:context] for ids_T in samples])
    return student_of(model, tokenizer_json, tokenizer_config, context)


def _opened(checkpoint: Checkpoint) -> tuple[Any, Tokenizer]:
    """The encoder and its tokenizer."""
    causal.quiet()
    try:
        encoder = AutoModel.from_pretrained(
            checkpoint.folder, local_files_only=True, dtype=torch.float32, use_safetensors=True
        )
        return encoder.eval(), Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    except Exception as error:  # transformers raises many kinds, tokenizers plain Exception
        raise TeacherError(
            f"teacher: {checkpoint.name} can't be loaded as an encoder from {checkpoint.folder}: {error}. "
            "Save model and tokenizer there again, or give another one."
        ) from error


def _vectors(pieces: Tokenizer, its: Tokenizer, own_VH: Tensor) -> Tensor:
    """A vector for each piece (V, H): the mean of the encoder's pieces of its text, random ones where it has none."""
    its.no_padding()
    its.no_truncation()
    texts = [pieces.decode([i], skip_special_tokens=False).strip() for i in range(pieces.get_vocab_size())]
    found = its.encode_batch(texts, add_special_tokens=False)
    rng = np.random.default_rng(0)
    vectors_VH = torch.from_numpy(rng.normal(0.0, SPREAD, (len(texts), own_VH.shape[1])).astype(np.float32))
    for i, encoding in enumerate(found):
        if encoding.ids:
            vectors_VH[i] = own_VH[encoding.ids].mean(0)
    return vectors_VH


class _Stream:
    """What flows on the samples: the encoder's states, and the sum that the decoder's norms read."""

    def __init__(self, begin_NTH: Tensor, states_NTH: Tensor, kept_NT: Tensor) -> None:
        self.sum_NTH, self.states_NTH, self.kept_NT = begin_NTH, states_NTH, kept_NT

    def fit(self, norm: nn.LayerNorm) -> None:
        """Give a norm the weights and biases with which it comes nearest to the encoder's states."""
        plain_MH = nn.functional.layer_norm(self.sum_NTH, norm.normalized_shape, eps=norm.eps)[self.kept_NT]
        slope_H, offset_H = _line(plain_MH, self.states_NTH[self.kept_NT])
        norm.weight.copy_(slope_H)
        norm.bias.copy_(offset_H)

    def scale(self) -> Tensor:
        """How wide the encoder's states are (H,), in units of the sum; of no feature less than a tenth of the usual."""
        slope_H = _line(self.sum_NTH[self.kept_NT], self.states_NTH[self.kept_NT])[0]
        return slope_H.clamp(min=0.1 * float(slope_H.abs().median()))


def _line(x_MH: Tensor, y_MH: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (H,) of the least squares of y on x, feature by feature."""
    x_H, y_H = x_MH.mean(0), y_MH.mean(0)
    slope_H = ((x_MH - x_H) * (y_MH - y_H)).mean(0) / (x_MH - x_H).square().mean(0).clamp(min=1e-6)
    return slope_H, y_H - slope_H * x_H


def _fill(body: Any, encoder: Any, samples: Sequence[Array]) -> None:
    """Fill the decoder's layers from the encoder's, and fit every norm on the way."""
    longest = max(len(ids_T) for ids_T in samples)
    ids_NT = torch.zeros((len(samples), longest), dtype=torch.long)
    kept_NT = torch.zeros((len(samples), longest), dtype=torch.bool)
    for row, ids_T in enumerate(samples):
        ids_NT[row, : len(ids_T)] = torch.from_numpy(np.asarray(ids_T, np.int64))
        kept_NT[row, : len(ids_T)] = True  # what stands behind is seen by none of them
    begin_NTH = body.wte.weight[ids_NT] + body.wpe.weight[:longest]
    stream = _Stream(begin_NTH, encoder.embeddings.LayerNorm(begin_NTH), kept_NT)
    for block, layer in zip(body.h, encoder.encoder.layer, strict=False):
        stream.fit(block.ln_1)
        _take_attention(block.attn, layer.attention, stream)
        stream.fit(block.ln_2)
        _take_neurons(block.mlp, layer, stream)
    stream.fit(body.ln_f)


def _take_attention(into: Any, attention: Any, stream: _Stream) -> None:
    own, out, scale_H = attention.self, attention.output, stream.scale()
    parts = (own.query, own.key, own.value)
    into.c_attn.weight.copy_(torch.cat([part.weight for part in parts]).T)
    into.c_attn.bias.copy_(torch.cat([part.bias for part in parts]))
    into.c_proj.weight.copy_((out.dense.weight / scale_H[:, None]).T)
    into.c_proj.bias.copy_(out.dense.bias / scale_H)
    n, t, h = stream.states_NTH.shape
    heads = own.num_attention_heads
    query, key, value = (part(stream.states_NTH).view(n, t, heads, h // heads).transpose(1, 2) for part in parts)
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    added_NTH = out.dense(mixed.transpose(1, 2).reshape(n, t, h))
    stream.sum_NTH = stream.sum_NTH + added_NTH / scale_H
    stream.states_NTH = out.LayerNorm(stream.states_NTH + added_NTH)


def _take_neurons(into: Any, layer: Any, stream: _Stream) -> None:
    up, down, scale_H = layer.intermediate.dense, layer.output.dense, stream.scale()
    into.c_fc.weight.copy_(up.weight.T)
    into.c_fc.bias.copy_(up.bias)
    into.c_proj.weight.copy_((down.weight / scale_H[:, None]).T)
    into.c_proj.bias.copy_(down.bias / scale_H)
    added_NTH = down(layer.intermediate.intermediate_act_fn(up(stream.states_NTH)))
    stream.sum_NTH = stream.sum_NTH + added_NTH / scale_H
    stream.states_NTH = layer.output.LayerNorm(stream.states_NTH + added_NTH)
