import json

import numpy as np
import pytest

import small
from minikin import runtimes
from minikin.compress.quantize import quantize
from minikin.package import kin

PAIRS = [(text, small.TEXTS[-1 - i]) for i, text in enumerate(small.TEXTS) if small.TEXTS[-1 - i]]


def answers(folder, texts):
    """What plain transformers makes of the folder."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        parts = (text,) if isinstance(text, str) else text
        encoded = tokenizer(*parts, truncation=True, return_tensors="pt")
        with torch.no_grad():
            rows.append(torch.softmax(model(**encoded).logits, -1)[0].numpy())
    return np.stack(rows), model.config


@pytest.mark.parametrize("embedding", [0, 16], ids=["whole", "factorised"])
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize(("scheme", "tolerance"), [("fp32", 1e-5), ("int8", 0.03), ("int4", 0.03)])
def test_plain_transformers_gives_the_same_answers(tmp_path, scheme, tolerance, pair, embedding):
    student = quantize(small.encoder(pair=pair, temperature=1.5, embedding=embedding), scheme)
    kin.write(tmp_path, student, recipe_yaml="", extra={})
    texts = PAIRS if pair else small.TEXTS
    theirs_NC, config = answers(tmp_path, texts)
    ours_NC = np.concatenate([runtimes.open(tmp_path).probabilities([text]) for text in texts])
    assert np.abs(theirs_NC - ours_NC).max() < tolerance
    assert config.id2label == dict(enumerate(student.labels))
    assert config.label2id == {label: i for i, label in enumerate(student.labels)}


def test_the_tokenizer_is_written_compactly(tmp_path):
    kin.write(tmp_path, small.encoder(), recipe_yaml="", extra={})
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert "\n" not in text
    assert json.loads(text)["truncation"] is None
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 24
    assert settings["cls_token"] == "[CLS]"
    assert settings["do_lower_case"] is True
