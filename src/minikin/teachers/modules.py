"""The torch modules of a teacher: an encoder with a head that is tuned, or a classifier as it came."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification

from minikin.base.errors import TeacherError
from minikin.base.types import Outputs
from minikin.teachers.resolve import Checkpoint


class TeacherModule(nn.Module):
    """An encoder, its pooling, and a linear head over the classes."""

    def __init__(self, encoder: nn.Module, pooling: str, width: int, classes: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(width, classes)
        self.inside = False

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, segments_BT: Tensor | None) -> Outputs:
        """Logits, sentence vector and, if `inside`, hidden states and attention maps averaged over heads."""
        more: dict[str, Any] = {} if segments_BT is None else {"token_type_ids": segments_BT}
        if self.inside:
            more |= {"output_hidden_states": True, "output_attentions": True}
        out = self.encoder(input_ids=ids_BT, attention_mask=mask_BT, **more)
        states_BTH = out.last_hidden_state
        if self.pooling == "mean":
            weight_BT1 = mask_BT.unsqueeze(-1).to(states_BTH.dtype)
            pooled_BH = (states_BTH * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1.0)
        else:
            pooled_BH = states_BTH[:, 0]
        logits_BC = self.head(pooled_BH)
        if not self.inside:
            return Outputs(logits_BC, pooled_BH)
        return Outputs(logits_BC, pooled_BH, out.hidden_states, tuple(a.mean(1) for a in out.attentions))


class ClassifierModule(nn.Module):
    """A checkpoint that is a classifier already, used as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.inside = False

    @property
    def encoder(self) -> nn.Module:
        """The model without its head."""
        body: Any = self.model
        return body.base_model  # type: ignore[no-any-return]

    def forward(self, ids_BT: Tensor, mask_BT: Tensor, segments_BT: Tensor | None) -> Outputs:
        """Logits, and the first token's last state as the sentence vector; attention maps if `inside`."""
        more: dict[str, Any] = {} if segments_BT is None else {"token_type_ids": segments_BT}
        if self.inside:
            more["output_attentions"] = True
        out = self.model(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True, **more)
        maps = tuple(a.mean(1) for a in out.attentions) if self.inside else ()
        return Outputs(out.logits, out.hidden_states[-1][:, 0], out.hidden_states, maps)


DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


def tunable(checkpoint: Checkpoint, config: Any, classes: int, seed: int, dropout: float) -> nn.Module:
    """Load the encoder and put a fresh head on it. Raises TeacherError when weights are missing."""
    rates = {name: dropout for name in DROPOUTS if hasattr(config, name)}
    encoder, loaded = AutoModel.from_pretrained(
        checkpoint.folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **rates
    )
    _refuse_if_partial(loaded["missing_keys"])
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return TeacherModule(encoder, _pooling(checkpoint.folder), int(config.hidden_size), classes, seed)


def ready(checkpoint: Checkpoint, labels: tuple[str, ...]) -> nn.Module:
    """Load a classifier with its head's rows in the order of `labels`. Raises TeacherError for other labels."""
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        checkpoint.folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    theirs = [model.config.id2label[i] for i in range(model.config.num_labels)]
    if sorted(theirs) != sorted(labels):
        missing = sorted(set(labels) - set(theirs))[:5]
        raise TeacherError(
            f"teacher: {checkpoint.name} answers with other labels than the data (for example {missing}). "
            "Set teacher.fit: true to tune it on the data."
        )
    _refuse_if_partial(loaded["missing_keys"])
    order = [theirs.index(label) for label in labels]
    head = model.classifier.out_proj if hasattr(model.classifier, "out_proj") else model.classifier
    head.weight.data, head.bias.data = head.weight.data[order], head.bias.data[order]
    return ClassifierModule(model)


def _refuse_if_partial(missing: Iterable[str]) -> None:
    """Raise ValueError when weights were not in the file: transformers would go on with random ones."""
    lacking = sorted(name for name in missing if "pooler" not in name)
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise ValueError(f"its weights lack {lacking[0]}{more}, which its config.json describes")


def _pooling(folder: Path) -> str:
    """How sentence-transformers pools this model; the mean where nothing is said."""
    said = folder / "1_Pooling" / "config.json"
    if said.is_file() and json.loads(said.read_text(encoding="utf-8")).get("pooling_mode_cls_token"):
        return "cls"
    return "mean"


@contextmanager
def looking_inside(module: nn.Module, inside: bool) -> Iterator[dict[str, Tensor]]:
    """Switch to eager attention, whose maps can be seen, and catch the last layer's q, k and v."""
    vectors: dict[str, Tensor] = {}
    if not inside:
        yield vectors
        return
    tuned: Any = module
    before = tuned.encoder.config._attn_implementation
    tuned.encoder.set_attn_implementation("eager")
    tuned.inside = True
    try:
        attention = tuned.encoder.encoder.layer[-1].attention.self
        parts = [getattr(attention, name) for name in ("query", "key", "value")]
    except AttributeError:
        parts = []
    names = iter(("query", "key", "value"))
    handles = [p.register_forward_hook(_catch(vectors, name)) for p, name in zip(parts, names, strict=False)]
    try:
        yield vectors
    finally:
        for handle in handles:
            handle.remove()
        tuned.inside = False
        tuned.encoder.set_attn_implementation(before)


def _catch(vectors: dict[str, Tensor], name: str) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        vectors[name] = output

    return hook
