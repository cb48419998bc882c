"""A teacher from a local checkpoint: any encoder that transformers' AutoModel reads, with a linear head on top."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from minikin.base import digest
from minikin.base.errors import TeacherError
from minikin.base.types import Array, Student, Text
from minikin.feed.buckets import in_order
from minikin.feed.pad import padded
from minikin.feed.tokens import encode
from minikin.teachers.modules import looking_inside, ready, tunable
from minikin.teachers.resolve import Checkpoint

INSIDE = ("hidden", "attention", "relations")
WORD = re.compile(r"[A-Za-z]{3,}")


class LocalTeacher:
    """A checkpoint with its tokenizer, ready to be tuned (train/tune.py) and asked. Meets `Teacher` and `Runtime`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        labels: Sequence[str],
        max_length: int,
        *,
        seed: int = 0,
        fit: bool = True,
        dropout: float = 0.0,
        bfloat16: bool = False,
    ) -> None:
        """Load it. Raises TeacherError if it can't be.

        `dropout` is for tuning, `bfloat16` the precision of the matrix products in `say`.
        """
        self.checkpoint, self.fit, self.bfloat16 = checkpoint, fit, bfloat16
        self.labels = tuple(labels)
        self.max_length = max_length
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
            self.module = (
                tunable(checkpoint, config, len(labels), seed, dropout) if fit else ready(checkpoint, self.labels)
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise TeacherError(
                f"teacher: {checkpoint.name} can't be loaded from {checkpoint.folder}: {error}. "
                "Save model and tokenizer there again, or give another one."
            ) from error
        self.module.eval()
        self.config = config
        self.tokenizer_json = _tokenizer(checkpoint)
        _refuse_if_short(checkpoint.name, config, max_length)
        self.tuned = ""

    @property
    def digest(self) -> str:
        """Hash of the weights it came with and of what tuning made of them."""
        known = [self.checkpoint.weights_sha256, self.tuned, self.max_length, self.labels, self.bfloat16]
        return digest.of_value(known)

    def encode(self, texts: Sequence[Text]) -> Any:
        """Token ids with the teacher's own tokenizer."""
        return encode(self.tokenizer_json, texts, self.max_length)

    @torch.inference_mode()
    def say(self, texts: Sequence[Text], keep: Sequence[str]) -> Mapping[str, Any]:
        """Logits of one batch, and of `pooled`, `hidden`, `attention`, `relations` what `keep` names.

        `hidden` and `attention` come as {layer: list of arrays}, layer 0 being the embeddings; `relations`
        as {query, key, value: list of arrays}. Arrays are float16 over the text's own tokens.
        """
        encoded = self.encode(texts)
        ids_BT, mask_BT, segments_BT = padded(encoded, np.arange(len(encoded)))
        inside = [k for k in keep if k in INSIDE]
        with looking_inside(self.module, bool(inside)) as vectors, torch.autocast("cpu", enabled=self.bfloat16):
            out = self.module(ids_BT, mask_BT, segments_BT)
        said: dict[str, Any] = {"logits": _half(out.logits_BC)}
        if "pooled" in keep:
            said["pooled"] = _half(out.pooled_BH)
        lengths_B = encoded.ids.lengths_N
        if "hidden" in keep:
            said["hidden"] = {i: _cut(h, lengths_B) for i, h in enumerate(out.hidden_LBTH)}
        if "attention" in keep:
            said["attention"] = {i + 1: _cut(a, lengths_B, square=True) for i, a in enumerate(out.attention_LBTT)}
        if "relations" in keep:
            said["relations"] = {name: _cut(v, lengths_B) for name, v in vectors.items()}
        return said

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Class probabilities (N, C), batched by length."""
        encoded = self.encode(texts)
        out_NC = np.zeros((len(encoded), len(self.labels)), np.float32)
        for rows_B in in_order(encoded.ids.lengths_N, 32):
            logits_BC = self.module(*padded(encoded, rows_B)).logits_BC
            out_NC[rows_B] = torch.softmax(logits_BC, dim=-1).numpy()
        return out_NC

    def save(self, folder: Path) -> None:
        """Write the tuned weights and what they were tuned for."""
        save_file({k: v.contiguous() for k, v in self.module.state_dict().items()}, folder / "model.safetensors")
        (folder / "teacher.json").write_text(json.dumps({"labels": self.labels}), encoding="utf-8")

    def load(self, folder: Path) -> LocalTeacher:
        """Take tuned weights back."""
        self.module.load_state_dict(load_file(folder / "model.safetensors"))
        self.tuned = digest.of_file(folder / "model.safetensors")
        self.module.eval()
        return self

    def freeze_embeddings(self) -> None:
        """Keep the embeddings as they are while the teacher is tuned."""
        embeddings = getattr(self.module.encoder, "embeddings", None)
        if isinstance(embeddings, nn.Module):
            embeddings.requires_grad_(False)

    def token_embeddings(self) -> Array:
        """Input embeddings (V, H) of every piece of the vocabulary."""
        encoder: Any = self.module.encoder
        weights: Tensor = encoder.get_input_embeddings().weight
        return weights.detach().float().numpy().copy()

    @torch.inference_mode()
    def token_outputs(self, ids_V: Array, batch: int = 512) -> Array:
        """What the teacher makes of each piece alone, [CLS] piece [SEP], pooled: (V, H).

        Source: the static embeddings of model2vec (Tulkens & van Dongen 2024), before their reduction.
        """
        blank = Tokenizer.from_str(self.tokenizer_json).encode("").ids
        start, end = (blank[0], blank[-1]) if len(blank) >= 2 else (int(ids_V[0]), int(ids_V[0]))
        parts = []
        for at in range(0, len(ids_V), batch):
            ids_B = torch.from_numpy(np.asarray(ids_V[at : at + batch], np.int64))
            ids_B3 = torch.stack([torch.full_like(ids_B, start), ids_B, torch.full_like(ids_B, end)], dim=1)
            parts.append(self.module(ids_B3, torch.ones_like(ids_B3), None).pooled_BH.float().numpy())
        return np.concatenate(parts)

    def neighbours(self, texts: Iterable[Text], near: int = 8) -> dict[str, list[str]]:
        """For every word of `texts` that is one piece: the `near` most similar words of the vocabulary.

        Similarity is the cosine of `token_outputs`; numbers, single letters and words of other scripts are left
        alone. What augmentation exchanges words for.
        """
        vocabulary = Tokenizer.from_str(self.tokenizer_json).get_vocab()
        words = sorted(
            (w for w in vocabulary if len(w) > 2 and w.isascii() and w.isalpha()), key=vocabulary.__getitem__
        )
        used = {m.lower() for t in texts for part in ((t,) if isinstance(t, str) else t) for m in WORD.findall(part)}
        outputs_VH = self.token_outputs(np.array([vocabulary[w] for w in words]))
        unit_VH = outputs_VH - outputs_VH.mean(0)
        unit_VH /= np.linalg.norm(unit_VH, axis=1, keepdims=True).clip(1e-9)
        rows = [i for i, w in enumerate(words) if w in used]
        near = min(near, len(words) - 1)
        found: dict[str, list[str]] = {}
        for start in range(0, len(rows), 512):
            some = rows[start : start + 512]
            similar_BV = unit_VH[some] @ unit_VH.T
            similar_BV[np.arange(len(some)), some] = -2.0  # below every cosine: no word is its own neighbour
            best_BK = np.argpartition(-similar_BV, max(0, near - 1), axis=1)[:, :near]
            for row, best in zip(some, best_BK, strict=True):
                found[words[row]] = sorted(words[i] for i in best)
        return found

    def as_student(self) -> Student:
        """The tuned teacher as a BERT classifier value, which can be cut; raises TeacherError for other shapes.

        The pooler of a tuned one starts as the identity: the teacher pools by mean, the student reads [CLS]. A
        classifier that came as it is keeps its own.
        """
        if self.config.model_type != "bert":
            raise TeacherError(
                f"A {self.config.model_type} teacher can't be cut yet: only bert shapes can. Use student.start: grown."
            )
        # copies: a student is a value, and the teacher may be tuned after it was taken
        state = {k: v.numpy().copy() for k, v in self.module.state_dict().items()}
        if self.fit:
            tensors = {f"bert.{k[8:]}": v for k, v in state.items() if k.startswith("encoder.")}
            width = int(self.config.hidden_size)
            tensors["bert.pooler.dense.weight"] = np.eye(width, dtype=np.float32)
            tensors["bert.pooler.dense.bias"] = np.zeros(width, np.float32)
            tensors["classifier.weight"], tensors["classifier.bias"] = state["head.weight"], state["head.bias"]
        else:
            tensors = {k.removeprefix("model."): v for k, v in state.items()}
        tensors = {k: v for k, v in tensors.items() if "_ids" not in k}
        positions = "bert.embeddings.position_embeddings.weight"
        tensors[positions] = tensors[positions][: self.max_length]
        config = {
            **{k: getattr(self.config, k) for k in KEPT_CONFIG},
            "model_type": "bert",
            "architectures": ["BertForSequenceClassification"],
            "max_position_embeddings": self.max_length,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "num_labels": len(self.labels),
        }
        return Student("encoder", config, tensors, self.tokenizer_json, self.labels, self.max_length)


KEPT_CONFIG = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
)


def _refuse_if_short(name: str, config: Any, max_length: int) -> None:
    """Raise TeacherError when the teacher has fewer positions than the recipe reads tokens."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return
    # RoBERTa and its kin begin to count after the padding id
    offset = 2 if int(positions) % 64 == 2 else 0
    if positions - offset < max_length:
        raise TeacherError(
            f"teacher: {name} reads at most {positions - offset} tokens, and data.max_length is {max_length}. "
            f"Set data.max_length: {positions - offset}."
        )


def _tokenizer(checkpoint: Checkpoint) -> str:
    path = checkpoint.folder / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
        Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise TeacherError(f"teacher: {path} can't be read as a fast tokenizer: {error}. Save it again.") from error
    return text


def _half(tensor: Tensor) -> Array:
    return tensor.float().clamp(-65504, 65504).numpy().astype(np.float16)


def _cut(tensor_BTX: Tensor, lengths_B: Array, square: bool = False) -> list[Array]:
    """Each text's own tokens (or its square of tokens, flat), without the padding."""
    half_BTX = _half(tensor_BTX)
    if square:
        return [half_BTX[b, :n, :n].reshape(-1) for b, n in enumerate(lengths_B)]
    return [half_BTX[b, :n] for b, n in enumerate(lengths_B)]
