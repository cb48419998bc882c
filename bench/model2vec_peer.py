"""The peer model2vec: the same encoder distilled into static embeddings, then its own classifier trained on the labels.

Its extras ask for an older transformers; without their pins both packages work beside ours (model2vec 0.10).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data import RUNS
from minikin.base.types import Array, Data, Text

SITE = RUNS / "site"
INSTALL = f"pip install --no-deps --target {SITE} model2vec==0.10.0 skeletoken==0.6.1"


class Model2Vec:
    """model2vec's own inference pipeline (numpy). Meets `Runtime`."""

    def __init__(self, checkpoint: Path, data: Data, seed: int, epochs: int = -1) -> None:
        """Distil and train; raises ImportError when model2vec is not installed."""
        sys.path.append(str(SITE))
        from model2vec.distill import distill
        from model2vec.train import StaticModelForClassification

        started = time.perf_counter()
        classifier = StaticModelForClassification.from_static_model(model=distill(str(checkpoint)))
        sides = [
            ([str(t) for t in split.texts], [data.labels[i] for i in split.labels_N])
            for split in (data.train, data.validation)
        ]
        (texts, labels), (held_out, truths) = sides
        classifier.fit(texts, labels, X_val=held_out, y_val=truths, device="cpu", random_seed=seed, max_epochs=epochs)
        self.pipeline = classifier.to_pipeline()
        self.build_s = time.perf_counter() - started
        self.labels = data.labels
        self.columns = np.array([data.labels.index(name) for name in classifier.classes_])
        with tempfile.TemporaryDirectory() as folder:
            self.pipeline.save_pretrained(folder)
            files = [p for p in Path(folder).rglob("*") if p.suffix == ".safetensors" or p.name == "tokenizer.json"]
            self.size_mib = sum(p.stat().st_size for p in files) / 2**20

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Class probabilities (N, C)."""
        found_NC = self.pipeline.predict_proba(list(texts))
        out_NC = np.zeros((len(texts), len(self.labels)), np.float32)
        out_NC[:, self.columns] = found_NC
        return out_NC
