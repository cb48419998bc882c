"""The values that stages hand to each other, and the protocols they meet through.

Axis letters in names: N examples, B batch, T tokens, H hidden width, C classes, L layers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Text: TypeAlias = str | tuple[str, str]
"""One text, or a pair of texts."""

Array: TypeAlias = NDArray[Any]
Family: TypeAlias = Literal["static", "encoder", "decoder"]
Scheme: TypeAlias = Literal["fp32", "int8", "int4", "int4-int8"]
"""How weights are stored: `int4-int8` keeps embeddings in 4 bits and linear layers in 8."""

UNKNOWN_LABEL = -1


@dataclass(frozen=True)
class Fault:
    """One thing found wrong in the data: `kind` is a short slug, `rows` are 1-based source rows."""

    kind: str
    message: str
    rows: tuple[int, ...] = ()
    fatal: bool = False


@dataclass(frozen=True)
class Split:
    """Examples of one split: texts (possibly memory-mapped), `labels_N` (-1 unknown), 1-based `rows_N`.

    `labels` are the names that `labels_N` counts through, where the split is used on its own.
    """

    texts: Sequence[Text]
    labels_N: Array
    rows_N: Array
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Array) -> Split:
        """Return the examples at `indices`, in that order."""
        chosen = [self.texts[int(i)] for i in indices]
        return Split(chosen, self.labels_N[indices], self.rows_N[indices], self.labels)


@dataclass(frozen=True)
class Data:
    """Everything read from the user's files: four disjoint splits, label names, and the faults found."""

    train: Split
    validation: Split
    calibration: Split
    test: Split
    unlabelled: Split
    labels: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    digest: str = ""

    @property
    def pair(self) -> bool:
        """Whether each example is a pair of texts."""
        return len(self.train) > 0 and not isinstance(self.train.texts[0], str)


@dataclass(frozen=True)
class Ragged:
    """Variable-length rows in one flat array: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Array:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths_N(self) -> Array:
        """Length of each row."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], dtype: Any = np.int32) -> Ragged:
        """Build from an iterable of integer rows."""
        parts = [np.asarray(row, dtype) for row in rows]
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(p) for p in parts], out=offsets[1:])
        return cls(np.concatenate(parts) if parts else np.zeros(0, dtype), offsets)


@dataclass(frozen=True)
class Signals:
    """What a teacher said about N texts.

    `logits_NC` always; the rest only when asked for: `pooled_NH`, `hidden` (layer → states, flat over
    tokens), `attention` (layer → maps averaged over heads, T×T flat) and `relations` (query, key and
    value vectors of the last layer, flat over tokens). Arrays may be memory-mapped float16.
    """

    texts: Sequence[Text]
    labels_N: Array
    logits_NC: Array
    pooled_NH: Array | None = None
    hidden: Mapping[int, Ragged] = field(default_factory=dict)
    attention: Mapping[int, Ragged] = field(default_factory=dict)
    relations: Mapping[str, Ragged] = field(default_factory=dict)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def can(self, kind: str) -> bool:
        """Whether this store holds `logits`, `pooled`, `hidden`, `attention` or `relations`."""
        held = {
            "logits": True,
            "pooled": self.pooled_NH is not None,
            "hidden": bool(self.hidden),
            "attention": bool(self.attention),
            "relations": bool(self.relations),
        }
        return held[kind]


@dataclass(frozen=True)
class Encoded:
    """Token ids of N texts, and the segment (0 or 1) of each token where texts come in pairs."""

    ids: Ragged
    segments: Ragged | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Outputs:
    """What a module computed for one batch; what is inside only when it was asked for. Tensors are torch's."""

    logits_BC: Any
    pooled_BH: Any
    hidden_LBTH: Sequence[Any] = ()
    attention_LBTT: Sequence[Any] = ()
    relations: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizedTensor:
    """Integer weights with scales: value = (q - zero) * scale, per output row or per block of the last axis.

    `q_RK` holds one unsigned integer per weight (unpacked uint8; zero is 128 for 8 bits, 8 for 4 bits);
    `scales` is (R,) per channel or (R, K / block) block-wise.
    """

    q_RK: Array
    scales: Array
    bits: int
    block: int | None = None

    @property
    def zero(self) -> int:
        """The integer that stands for 0.0."""
        return 1 << (self.bits - 1)

    def dequantize(self) -> Array:
        """Return the float32 weights (R, K) that the integers stand for."""
        centred_RK = self.q_RK.astype(np.float32) - self.zero
        if self.block is None:
            return centred_RK * self.scales[:, None].astype(np.float32)
        scales_RK = np.repeat(self.scales.astype(np.float32), self.block, axis=1)[:, : centred_RK.shape[1]]
        return centred_RK * scales_RK

    def rows(self, chosen: Array | slice) -> QuantizedTensor:
        """Return some of the rows, in the order given."""
        return QuantizedTensor(self.q_RK[chosen], self.scales[chosen], self.bits, self.block)


Weights: TypeAlias = Array | QuantizedTensor


def floats(weights: Weights) -> Array:
    """Return weights as float32, whichever way they are stored."""
    return weights.dequantize() if isinstance(weights, QuantizedTensor) else np.asarray(weights, np.float32)


@dataclass(frozen=True)
class Student:
    """A model as a plain value: configuration, weights in numpy, tokenizer and label names.

    For `encoder`, `config` holds BertConfig keys and `tensors` the state of
    BertForSequenceClassification by its own names; where `embedding_size` narrows the table of tokens, also
    `word_embeddings.projection.weight`. For `static`, see `students/static.py`. For `decoder`, `config`
    holds the transformers configuration's keys (`model_type` and `architectures` among them), `tensors` the state of
    AutoModelForCausalLM without a tied output, `labels` is empty, `max_length` is the context in tokens, and
    `tokenizer_config` names the special tokens and holds the chat template.
    Training turns it into a module and back; pruning, trimming and quantizing map it to another.
    """

    family: Family
    config: Mapping[str, Any]
    tensors: Mapping[str, Weights]
    tokenizer_json: str
    labels: tuple[str, ...]
    max_length: int
    temperature: float = 1.0
    scheme: Scheme = "fp32"
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(int(t.q_RK.size if isinstance(t, QuantizedTensor) else t.size) for t in self.tensors.values())

    def dequantized(self) -> Student:
        """Return the same model with float32 weights."""
        return replace(self, tensors={name: floats(t) for name, t in self.tensors.items()}, scheme="fp32")


@dataclass(frozen=True)
class Saliency:
    """How much each unit of an encoder matters on sample texts: larger is dearer."""

    hidden_H: Array
    heads_LA: Array
    neurons_LF: Array
    blocks_L: Array


@dataclass(frozen=True)
class Answer:
    """What a kin answers to one text.

    `certified` says that a valid certificate covers this answer; where one lies in the kin's folder and does not,
    `reason` says why. `candidates` are the labels of its conformal set, likeliest first, where the certificate has
    sets. Of a kin that writes, `label` is what was written.
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float] = field(default_factory=dict, repr=False)
    truncated: bool = False
    handed_over: bool = False
    certified: bool = False
    reason: str = ""
    candidates: tuple[str, ...] = ()


@runtime_checkable
class Runtime(Protocol):
    """Something that answers: a loaded kin, the teacher in PyTorch, a baseline."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the columns of `probabilities`."""
        ...

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Return class probabilities (N, C), rows in the order of `texts`."""
        ...


class Teacher(Protocol):
    """Who knows: says something about texts."""

    @property
    def digest(self) -> str:
        """Hash of everything that decides what this teacher says."""
        ...

    def say(self, texts: Sequence[Text], keep: Sequence[str]) -> Mapping[str, Any]:
        """Return what `keep` names for one batch: arrays with B rows, or lists of B arrays over tokens."""
        ...


Progress: TypeAlias = Callable[[float, str], None]
"""Called with the share done (0 to 1) and a few words."""


def no_progress(_share: float, _words: str) -> None:
    """Ignore progress."""
