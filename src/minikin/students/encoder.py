"""Encoder students: BERT-shaped models that transformers loads as they are. Called by the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from minikin.base.types import Array, Encoded, Outputs, Saliency, Student
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.students.seen import Seen


class FactorisedWords(nn.Embedding):
    """Token embeddings (V, H) as a table (V, E) times a projection: E of H numbers a piece.

    Source: Lan et al. 2020, "ALBERT", section 3.1. The projection starts with deviation 1/√E, so that what comes out
    is spread as the table is.
    """

    def __init__(self, vocabulary: int, width: int, hidden: int) -> None:
        super().__init__(vocabulary, width, padding_idx=0)
        nn.init.normal_(self.weight, std=0.02)
        self.projection = nn.Linear(width, hidden, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def forward(self, input: Tensor) -> Tensor:
        """Vectors (B, T, H) of ids (B, T)."""
        vectors_BTH: Tensor = self.projection(super().forward(input))
        return vectors_BTH


def config_of(
    *,
    layers: int,
    hidden: int,
    heads: int,
    feed_forward: int,
    vocabulary: int,
    max_length: int,
    classes: int,
    embedding: int = 0,
) -> dict[str, Any]:
    """BertConfig keys of a student; positions are trimmed to `max_length` tokens.

    `embedding` is the width of a factorised table of tokens, 0 for one as wide as the student: the key
    `embedding_size`, which plain BERT has not.
    """
    return {
        **({"embedding_size": embedding} if embedding else {}),
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "vocab_size": vocabulary,
        "max_position_embeddings": max_length,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        "num_labels": classes,
    }


def grow(config: Mapping[str, Any], tokenizer_json: str, labels: tuple[str, ...], seed: int) -> Student:
    """A student with fresh weights: normal with deviation 0.02, as BERT starts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _bert(BertConfig(**config))
    return Student(
        "encoder",
        dict(config),
        _state(module),
        tokenizer_json,
        labels,
        int(config["max_position_embeddings"]),
    )


class EncoderModule(nn.Module):
    """A student's weights in transformers' BERT, returning `Outputs`."""

    def __init__(self, student: Student, *, inside: bool = False) -> None:
        super().__init__()
        config = BertConfig(**{**student.config, "num_labels": len(student.labels)})
        # attention maps are only there in the eager implementation; the fused one is faster
        config._attn_implementation = "eager" if inside else "sdpa"
        self.bert = _bert(config)
        tensors = student.dequantized().tensors
        self.bert.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in tensors.items()})
        self.inside = inside
        self._vectors: dict[str, Tensor] = {}
        if inside:
            attention = self.bert.bert.encoder.layer[-1].attention.self
            for name in ("query", "key", "value"):
                getattr(attention, name).register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._vectors[name] = output

        return keep

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, segments_BT: Tensor | None) -> Outputs:
        """Logits, pooled vector and, if made so, hidden states (embeddings first), attention and q, k, v."""
        out = self.bert.bert(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            token_type_ids=segments_BT,
            output_hidden_states=self.inside,
            output_attentions=self.inside,
        )
        logits_BC = self.bert.classifier(out.pooler_output)
        if not self.inside:
            return Outputs(logits_BC, out.pooler_output)
        maps = tuple(a.mean(1) for a in out.attentions)
        return Outputs(logits_BC, out.pooler_output, out.hidden_states, maps, dict(self._vectors))

    def to_student(self, like: Student) -> Student:
        """Return the trained weights as a value."""
        return replace(like, tensors=_state(self.bert), scheme="fp32")


def _bert(config: BertConfig) -> BertForSequenceClassification:
    model = BertForSequenceClassification(config)
    if width := getattr(config, "embedding_size", 0):
        words = FactorisedWords(config.vocab_size, width, config.hidden_size)
        model.bert.embeddings.word_embeddings = words
    return model


def _state(module: nn.Module) -> dict[str, Array]:
    return {
        name: tensor.detach().cpu().float().numpy().copy()
        for name, tensor in module.state_dict().items()
        if "position_ids" not in name and "token_type_ids" not in name
    }


def probe(student: Student, encoded: Encoded, batch: int = 32) -> Saliency:
    """Measure saliency on sample texts with forward passes alone (Minitron's recipe: score once, cut often)."""
    module = EncoderModule(student)
    module.eval()
    layers: Any = module.bert.bert.encoder.layer
    seen = Seen(len(layers))
    handles = [
        seen.watch(i, layer, layer.attention.output.dense, layer.output.dense, [layer])
        for i, layer in enumerate(layers)
    ]
    with torch.no_grad():
        for start in range(0, len(encoded), batch):
            rows = np.arange(start, min(start + batch, len(encoded)))
            ids_BT, mask_BT, segments_BT = padded(encoded, rows)
            seen.mask_BT = mask_BT.bool()
            module(ids_BT, mask_BT, segments_BT)
    for handle in chain.from_iterable(handles):
        handle.remove()
    tensors = student.dequantized().tensors
    names = {"heads": "attention.output.dense", "neurons": "output.dense"}
    return seen.saliency(
        int(student.config["num_attention_heads"]),
        lambda kind, i: np.asarray(tensors[f"bert.encoder.layer.{i}.{names[kind]}.weight"]),
    )


def moments(student: Student, encoded: Encoded, batch: int = 64) -> dict[str, Array]:
    """Σ x xᵀ (K, K) of the inputs of each linear layer over sample texts, by the name of its weight.

    Inputs of token positions leave padding out. What compress/quantize.py rounds by.
    """
    module = EncoderModule(student)
    module.eval()
    sums: dict[str, Array] = {}
    mask_BT = torch.ones(0)

    def watch(name: str) -> Callable[[nn.Module, Any], None]:
        def add(_module: nn.Module, inputs: Any) -> None:
            x = inputs[0][mask_BT] if inputs[0].dim() == 3 else inputs[0]
            x_MK = x.double().numpy()
            sums[name] = sums.get(name, 0) + x_MK.T @ x_MK

        return add

    for name, layer in module.bert.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(watch(f"{name}.weight"))
    with torch.no_grad():
        for rows_B in in_order(encoded.ids.lengths_N, batch):
            ids_BT, attended_BT, segments_BT = padded(encoded, rows_B)
            mask_BT = attended_BT.bool()
            module(ids_BT, attended_BT, segments_BT)
    return sums
