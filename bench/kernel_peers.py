"""Who answers in bench/kernel.py: each peer opens its model and returns a function from raw texts to labels.

Imports stand inside, so that a fresh process that opens one peer holds nothing of the others. All compute on one
thread, and all but minikin read with `tokenizers`, called directly; the pipeline reads as it does. The folders are
written by bench/kernel_models.py. Peers that are no dependency of minikin's lie in bench/runs/site.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SITE = Path(__file__).resolve().parent / "runs" / "site"
INSTALL = "pip install --no-deps --target bench/runs/site"
MAX_LENGTH = 64

os.environ["TOKENIZERS_PARALLELISM"] = "false"
# OpenVINO and NNCF report home only through openvino-telemetry, which is left out of bench/runs/site
os.environ["NNCF_CI"] = "1"
if str(SITE) not in sys.path:
    sys.path.append(str(SITE))

Ask = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Peer:
    """A row of the tables: how its model is opened, and what must be installed for it."""

    open: Callable[[Path], Ask]
    module: str = "numpy"
    packages: str = ""

    @property
    def missing(self) -> bool:
        """Whether its package can't be imported."""
        from importlib.util import find_spec

        return find_spec(self.module) is None


def minikin(scheme: str, engine: str) -> Callable[[Path], Ask]:
    """A kin as users load it: `minikin.load`, which verifies its files."""

    def opened(folder: Path) -> Ask:
        import minikin

        return asking(minikin.load(folder / scheme, engine=engine))

    return opened


def asking(kin: Any) -> Ask:
    """A loaded kin as a function to labels."""

    def ask(texts: list[str]) -> list[str]:
        if len(texts) == 1:
            return [kin(texts[0]).label]
        return [answer.label for answer in kin(texts)]

    return ask


class Reader:
    """`tokenizers` on the kin's own tokenizer.json, and its label names."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "fp32" / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_LENGTH)
        named = json.loads((folder / "fp32" / "config.json").read_text(encoding="utf-8"))["id2label"]
        self.labels = [named[str(i)] for i in range(len(named))]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text."""
        if len(texts) == 1:
            return [self.tokenizer.encode(texts[0]).ids]
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]

    def feed(self, texts: list[str]) -> dict[str, Any]:
        """Padded ids and mask as int64."""
        import numpy as np

        rows = self.ids(texts)
        width = max(map(len, rows))
        ids_BT = np.zeros((len(rows), width), np.int64)
        mask_BT = np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            ids_BT[i, : len(row)] = row
            mask_BT[i, : len(row)] = 1
        return {"input_ids": ids_BT, "attention_mask": mask_BT}

    def named(self, best_B: Sequence[int]) -> list[str]:
        """Labels of the places of the largest logits."""
        return [self.labels[i] for i in best_B]


def onnx_runtime(file: str) -> Callable[[Path], Ask]:
    """The student exported by torch.onnx, float32 or quantized dynamically by ONNX Runtime."""

    def opened(folder: Path) -> Ask:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
        reader = Reader(folder)
        return lambda texts: reader.named(session.run(None, reader.feed(texts))[0].argmax(-1))

    return opened


def openvino(file: str) -> Callable[[Path], Ask]:
    """The same export in OpenVINO, which may compute in bfloat16 where the processor has it."""

    def opened(folder: Path) -> Ask:
        from openvino import Core

        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        request = Core().compile_model(str(folder / file), "CPU", settings).create_infer_request()
        reader = Reader(folder)
        return lambda texts: reader.named(request.infer(reader.feed(texts), share_inputs=True)[0].argmax(-1))

    return opened


def ctranslate2(folder: Path) -> Ask:
    """CTranslate2's encoder and pooler in int8, and the head in numpy."""
    import ctranslate2
    import numpy as np

    encoder = ctranslate2.Encoder(
        str(folder / "ctranslate2"), device="cpu", compute_type="int8", inter_threads=1, intra_threads=1
    )
    head = np.load(folder / "head.npz")
    weight_HC, bias_C = head["weight_HC"], head["bias_C"]
    reader = Reader(folder)

    def ask(texts: list[str]) -> list[str]:
        pooled_BH = np.array(encoder.forward_batch(reader.ids(texts)).pooler_output)
        return reader.named((pooled_BH @ weight_HC + bias_C).argmax(-1))

    return ask


def torch_eager(folder: Path) -> Ask:
    """transformers' own module in PyTorch, float32."""
    import torch
    from transformers import BertForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    model = BertForSequenceClassification.from_pretrained(folder / "fp32").eval()
    reader = Reader(folder)

    @torch.inference_mode()
    def ask(texts: list[str]) -> list[str]:
        feed = {name: torch.from_numpy(rows) for name, rows in reader.feed(texts).items()}
        return reader.named(model(**feed).logits.argmax(-1).tolist())

    return ask


def pipeline(folder: Path) -> Ask:
    """transformers' text-classification pipeline, as most people call it."""
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    classify = pipeline("text-classification", model=str(folder / "fp32"), device="cpu")

    def ask(texts: list[str]) -> list[str]:
        found = classify(texts, batch_size=len(texts), truncation=True, max_length=MAX_LENGTH)
        return [answer["label"] for answer in found]

    return ask


def model2vec(folder: Path) -> Ask:
    """model2vec's inference pipeline: numpy behind `tokenizers`."""
    from model2vec.inference import StaticModelPipeline

    classify = StaticModelPipeline.from_pretrained(folder / "model2vec")
    return lambda texts: [str(label) for label in classify.predict(texts)]


KERNEL = "kernel, int8"
_openvino = "openvino==2026.4.1 nncf==3.4.0 tabulate pydot"
ENCODERS: dict[str, Peer] = {
    KERNEL: Peer(minikin("int8", "kernel")),
    "kernel, int4": Peer(minikin("int4", "kernel")),
    "minikin's graph, ONNX Runtime int8": Peer(minikin("int8", "onnx")),
    "minikin's graph, ONNX Runtime float32": Peer(minikin("fp32", "onnx")),
    "torch.onnx, ONNX Runtime int8": Peer(onnx_runtime("model-int8.onnx")),
    "torch.onnx, ONNX Runtime float32": Peer(onnx_runtime("model.onnx")),
    "OpenVINO int8": Peer(openvino("openvino-int8.xml"), "nncf", _openvino),
    "OpenVINO float32": Peer(openvino("openvino.xml"), "openvino", _openvino),
    "CTranslate2 int8": Peer(ctranslate2, "ctranslate2", "ctranslate2==4.8.5"),
    "PyTorch float32": Peer(torch_eager, "torch"),
    "transformers pipeline": Peer(pipeline, "torch"),
}
BAGS: dict[str, Peer] = {
    KERNEL: Peer(minikin("int8", "kernel")),
    "kernel, int4": Peer(minikin("int4", "kernel")),
    "numpy, int8": Peer(minikin("int8", "onnx")),
    "model2vec float32": Peer(model2vec, "model2vec", "model2vec==0.10.0 skeletoken==0.6.1"),
}
CONVOLUTIONS: dict[str, Peer] = {name: peer for name, peer in BAGS.items() if not name.startswith("model2vec")}
