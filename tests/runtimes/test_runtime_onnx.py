import numpy as np
import pytest

import small
from minikin import runtimes
from minikin.base import manifest
from minikin.base.errors import KinError
from minikin.package import kin


def expected(student, texts):
    """Class probabilities of transformers' BERT with the tokenizers package, one text at a time."""
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(student.tokenizer_json)
    tokenizer.enable_truncation(student.max_length)
    model = small.bert(student)
    rows = []
    for text in texts:
        encoded = tokenizer.encode(text) if isinstance(text, str) else tokenizer.encode(*text)
        with torch.no_grad():
            out = model(torch.tensor([encoded.ids]), token_type_ids=torch.tensor([encoded.type_ids]))
        rows.append(torch.softmax(out.logits / student.temperature, -1)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_answers_equal_transformers(tmp_path, pair, batch):
    student = small.encoder(pair=pair, temperature=0.7)
    kin.write(tmp_path, student, recipe_yaml="", extra={})
    texts = [(text, "card " * i) for i, text in enumerate(small.TEXTS * 3)] if pair else small.TEXTS * 3
    loaded = runtimes.open(tmp_path, engine="onnx", batch=batch)
    assert np.abs(loaded.probabilities(texts) - expected(student, texts)).max() < 1e-5
    assert loaded.both(texts)[1].shape == (len(texts), 32)


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    kin.write(tmp_path, small.encoder(), recipe_yaml="", extra={"labels": ["a", "b"]})
    with pytest.raises(KinError, match="does not fit"):
        runtimes.open(tmp_path, engine="onnx")
    values = dict(manifest.read(tmp_path).raw)
    (tmp_path / "onnx/model.onnx").write_bytes(b"nothing")
    manifest.write(tmp_path, values)
    with pytest.raises(KinError, match=r"can't load.*model\.onnx"):
        runtimes.open(tmp_path, engine="onnx")
