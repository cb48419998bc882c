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
from minikin.feed.rows import Tokens
from minikin.teachers import causal
from minikin.teachers.resolve import Checkpoint

FAMILY = "bert"
RIDGE = 1e-1
"""How hard a fitted projection is held to the encoder's own, in units of its inputs' mean variance."""
WIDTHS = (0.2, 5.0)
"""How far the width of one token may lie from the usual."""
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
    such as it will read: on these each norm and each projection is fitted, layer after layer, by ridge regression to
    what the encoder computes there under the same mask, held to the encoder's own weights. While it is trained, a share
    `dropout` is zeroed of the embeddings and of what each half adds.

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


class Original:
    """The encoder that a decoder was made of, reading from left to right: what the decoder may learn to follow."""

    def __init__(self, checkpoint: Checkpoint, made: Student) -> None:
        """`made` is what `read` made of the checkpoint, before any training. Raises TeacherError as `read` does."""
        self._encoder = _opened(checkpoint)[0]
        del self._encoder.encoder.layer[int(made.config["n_layer"]) :]
        self._pieces_VH, self._places_TH = (
            torch.from_numpy(np.array(made.tensors[f"transformer.{name}.weight"])) for name in ("wte", "wpe")
        )

    @torch.no_grad()
    def states(self, tokens: Tokens) -> Tensor:
        """Its last layer's states (B, T, H) of packed rows; no token sees what follows it, or another document."""
        device = tokens.ids_BT.device
        its: Any = self._encoder.to(device)
        begin_BTH = self._pieces_VH.to(device)[tokens.ids_BT] + self._places_TH.to(device)[tokens.positions_BT]
        documents_BT = tokens.documents_BT
        seen_BTT = (documents_BT[:, :, None] == documents_BT[:, None, :]).tril()
        mask_B1TT = torch.zeros(seen_BTT.shape, device=device).masked_fill(~seen_BTT, torch.finfo(torch.float32).min)
        found: Tensor = its.encoder(its.embeddings.LayerNorm(begin_BTH), mask_B1TT[:, None]).last_hidden_state
        return found


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

    def __init__(self, begin_NTH: Tensor, states_NTH: Tensor, kept_NT: Tensor, heads: int) -> None:
        self.sum_NTH, self.states_NTH, self.kept_NT, self.heads = begin_NTH, states_NTH, kept_NT, heads

    def read(self, norm: nn.LayerNorm) -> Tensor:
        """What a norm gives, with the weights and biases by which that is nearest to the encoder's states."""
        plain_NTH = nn.functional.layer_norm(self.sum_NTH, norm.normalized_shape, eps=norm.eps)
        slope_H, offset_H = _line(plain_NTH[self.kept_NT], self.states_NTH[self.kept_NT])
        norm.weight.copy_(slope_H)
        norm.bias.copy_(offset_H)
        return plain_NTH * slope_H + offset_H

    def fit(self, into: Any, inputs_NTI: Tensor, outputs_NTO: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
        """Give a projection the weights nearest to the encoder's own with which `inputs` become `outputs`; apply it."""
        x_MI, y_MO = inputs_NTI[self.kept_NT], outputs_NTO[self.kept_NT]
        x_I, missing_MO = x_MI.mean(0), y_MO - nn.functional.linear(x_MI, weight_OI, bias_O)
        apart_MI = x_MI - x_I
        gram_II = (apart_MI.T @ apart_MI).double()
        gram_II.diagonal().add_(RIDGE * gram_II.diagonal().mean())
        more_IO = torch.linalg.solve(gram_II, (apart_MI.T @ missing_MO).double()).float()
        into.weight.copy_(weight_OI.T + more_IO)
        into.bias.copy_(bias_O + missing_MO.mean(0) - x_I @ more_IO)
        given_NTO: Tensor = into(inputs_NTI)
        return given_NTO

    def attend(self, projected_NT3H: Tensor) -> Tensor:
        """Each token's mixture of values, of itself and what stands before it (N, T, H)."""
        n, t, h3 = projected_NT3H.shape
        query, key, value = (p.view(n, t, self.heads, -1).transpose(1, 2) for p in projected_NT3H.chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(n, t, h3 // 3)

    def add(self, into: Any, inside_NTI: Tensor, added_NTH: Tensor, out: Any) -> None:
        """Let the encoder add to its states, and the decoder to its sum, through `into`, what comes nearest to that.

        The encoder's norms bring every token to the same width, the sum grows: what is added to a token is put into
        the units of each feature, and of that token, that the sum has by now.
        """
        width_H = _line(self.sum_NTH[self.kept_NT], self.states_NTH[self.kept_NT])[0]
        width_H = width_H.clamp(min=0.1 * float(width_H.abs().median()))
        like_NTH = (self.states_NTH - self.states_NTH[self.kept_NT].mean(0)) / width_H
        sum_NTH = self.sum_NTH - self.sum_NTH[self.kept_NT].mean(0)
        square_NT1 = like_NTH.square().sum(-1, keepdim=True).clamp(min=1e-6)
        width_NT1 = ((sum_NTH * like_NTH).sum(-1, keepdim=True) / square_NT1).clamp(*WIDTHS)
        wanted_NTH = width_NT1 * added_NTH / width_H
        weight_OI, bias_O = out.dense.weight / width_H[:, None], out.dense.bias / width_H
        self.sum_NTH = self.sum_NTH + self.fit(into, inside_NTI, wanted_NTH, weight_OI, bias_O)
        self.states_NTH = out.LayerNorm(self.states_NTH + added_NTH)


def _line(x_MH: Tensor, y_MH: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (H,) of the least squares of y on x, feature by feature."""
    x_H, y_H = x_MH.mean(0), y_MH.mean(0)
    slope_H = ((x_MH - x_H) * (y_MH - y_H)).mean(0) / (x_MH - x_H).square().mean(0).clamp(min=1e-6)
    return slope_H, y_H - slope_H * x_H


def _fill(body: Any, encoder: Any, samples: Sequence[Array]) -> None:
    """Fill the decoder's layers from the encoder's, one after the other, each by what those before it really give."""
    longest = max(len(ids_T) for ids_T in samples)
    ids_NT = torch.zeros((len(samples), longest), dtype=torch.long)
    kept_NT = torch.zeros((len(samples), longest), dtype=torch.bool)
    for row, ids_T in enumerate(samples):
        ids_NT[row, : len(ids_T)] = torch.from_numpy(np.asarray(ids_T, np.int64))
        kept_NT[row, 1 : len(ids_T)] = True  # the first is the same in all; what stands behind is seen by none
    begin_NTH = body.wte.weight[ids_NT] + body.wpe.weight[:longest]
    heads = encoder.config.num_attention_heads
    stream = _Stream(begin_NTH, encoder.embeddings.LayerNorm(begin_NTH), kept_NT, heads)
    for block, layer in zip(body.h, encoder.encoder.layer, strict=False):
        _take_attention(block, layer.attention, stream)
        _take_neurons(block, layer, stream)
    stream.read(body.ln_f)


def _take_attention(block: Any, attention: Any, stream: _Stream) -> None:
    own = attention.self
    weight_OI = torch.cat([part.weight for part in (own.query, own.key, own.value)])
    bias_O = torch.cat([part.bias for part in (own.query, own.key, own.value)])
    wanted_NT3H = nn.functional.linear(stream.states_NTH, weight_OI, bias_O)
    given_NT3H = stream.fit(block.attn.c_attn, stream.read(block.ln_1), wanted_NT3H, weight_OI, bias_O)
    added_NTH = attention.output.dense(stream.attend(wanted_NT3H))
    stream.add(block.attn.c_proj, stream.attend(given_NT3H), added_NTH, attention.output)


def _take_neurons(block: Any, layer: Any, stream: _Stream) -> None:
    up, act = layer.intermediate.dense, layer.intermediate.intermediate_act_fn
    wanted_NTF = up(stream.states_NTH)
    given_NTF = stream.fit(block.mlp.c_fc, stream.read(block.ln_2), wanted_NTF, up.weight, up.bias)
    stream.add(block.mlp.c_proj, block.mlp.act(given_NTF), layer.output.dense(act(wanted_NTF)), layer.output)
