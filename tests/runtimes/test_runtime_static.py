import json

import numpy as np
import pytest
from tokenizers import Tokenizer

import small
from minikin import runtimes
from minikin.base import manifest
from minikin.base.errors import KinError
from minikin.compress.quantize import quantize
from minikin.package import kin
from minikin.runtimes import static


def expected(student, texts):
    """The static student as its definition reads, one token at a time."""
    weights = {name: np.asarray(value, np.float64) for name, value in student.dequantized().tensors.items()}
    tokenizer = Tokenizer.from_str(student.tokenizer_json)
    tokenizer.enable_truncation(student.max_length)
    rows = []
    for text in texts:
        encoded = tokenizer.encode(*((text,) if isinstance(text, str) else text), add_special_tokens=False)
        segments = np.array(encoded.type_ids or [], int)
        ids = np.array(encoded.ids, int)
        u = pooled(weights, student.config, ids[segments == 0])
        features = u
        if student.config["pair"]:
            v = pooled(weights, student.config, ids[segments == 1])
            features = np.concatenate([u, v, np.abs(u - v), u * v])
        logits = (weights["head_weight"] @ features + weights["head_bias"]) / student.temperature
        rows.append(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())
    return np.stack(rows)


def pooled(weights, config, ids):
    x = weights["embeddings_VH"][ids]
    width = x.shape[1]
    if config["window"]:
        half = config["window"] // 2
        mixed = []
        for t in range(len(x)):
            around = [x[t + i] if 0 <= t + i < len(x) else np.zeros(width) for i in range(-half, half + 1)]
            y = weights["convolution_weight"] @ np.concatenate(around) + weights["convolution_bias"]
            mixed.append(x[t] + y[:width] / (1 + np.exp(-y[width:])))
        x = np.array(mixed).reshape(-1, width)
    mean = x.mean(0) if len(x) else np.zeros(width)
    most = x.max(0) if len(x) else np.zeros(width)
    return mean if config["pool"] == "mean" else np.concatenate([mean, most])


@pytest.mark.parametrize("window", [0, 3, 5])
@pytest.mark.parametrize("pool", ["mean", "mean-max"])
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4", "int4-int8"])
def test_answers_equal_the_definition(tmp_path, window, pool, pair, scheme):
    student = quantize(small.static(window=window, pool=pool, pair=pair, temperature=1.3), scheme)
    kin.write(tmp_path, student, recipe_yaml="", extra={})
    texts = [(text, "my pin " * i) for i, text in enumerate(small.TEXTS)] if pair else small.TEXTS
    wanted = expected(student, texts)
    loaded = runtimes.open(tmp_path, engine="onnx")
    assert np.abs(loaded.probabilities(texts) - wanted).max() < 1e-5
    one_by_one = np.concatenate([loaded.probabilities([text]) for text in texts])
    assert np.abs(one_by_one - wanted).max() < 1e-5


def test_large_tables_stay_packed(tmp_path, monkeypatch):
    student = quantize(small.static(), "int4")
    kin.write(tmp_path, student, recipe_yaml="", extra={})
    monkeypatch.setattr(static, "UNPACKED_LIMIT_BYTES", 0)
    assert (
        np.abs(runtimes.open(tmp_path, engine="onnx").probabilities(small.TEXTS) - expected(student, small.TEXTS)).max()
        < 1e-5
    )


def test_extreme_weights_do_not_overflow(tmp_path):
    student = small.static()
    student.tensors["convolution_weight"] *= 1e4
    kin.write(tmp_path, student, recipe_yaml="", extra={})
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(runtimes.open(tmp_path, engine="onnx").probabilities(small.TEXTS)).all()


@pytest.mark.parametrize("change", [{"window": 5}, {"pool": "mean"}, {"pair": True}, {"window": "wide"}])
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, change):
    kin.write(tmp_path, small.static(), recipe_yaml="", extra={})
    values = dict(manifest.read(tmp_path).raw)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    manifest.write(tmp_path, values)
    with pytest.raises(KinError, match="not fit"):
        runtimes.open(tmp_path, engine="onnx")
