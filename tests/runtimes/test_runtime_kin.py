import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import small
from minikin import runtimes
from minikin.base.errors import KinError, UserError
from minikin.base.types import Answer, Runtime
from minikin.compress.quantize import quantize
from minikin.package import kin

FOLDERS = {"encoder": small.encoder(), "static": small.static(), "int8": quantize(small.encoder(), "int8")}


@pytest.fixture(scope="module", params=list(FOLDERS))
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    kin.write(path, FOLDERS[request.param], recipe_yaml="", extra={})
    return path


@pytest.fixture(scope="module")
def loaded(folder):
    return runtimes.open(folder)


def test_it_is_a_runtime(loaded):
    assert isinstance(loaded, Runtime)
    assert loaded.labels == tuple(f"label {i}" for i in range(5))
    assert "labels" in repr(loaded)


def test_one_text_one_answer(loaded):
    answer = loaded("where is my card?")
    row_C = loaded.probabilities(["where is my card?"])[0]
    assert isinstance(answer, Answer)
    assert answer.label == loaded.labels[row_C.argmax()]
    assert answer.confidence == pytest.approx(row_C.max())
    assert dict(answer.probabilities) == pytest.approx(dict(zip(loaded.labels, row_C.tolist(), strict=True)))
    assert not answer.truncated
    assert not answer.handed_over
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_lists_and_streams_answer_in_order(folder):
    single = runtimes.open(folder, batch=1)
    texts = [small.TEXTS[i % len(small.TEXTS)] + " pin" * (i % 5) for i in range(100)]
    expected = [single(text) for text in texts]
    for answers in (single(texts), list(single.stream(iter(texts), chunk=7)), list(single.stream(texts))):
        assert [a.label for a in answers] == [a.label for a in expected]
        assert np.allclose([a.confidence for a in answers], [a.confidence for a in expected], atol=1e-6)


def test_streams_do_not_read_ahead(loaded):
    taken = []

    def texts():
        for i in range(1000):
            taken.append(i)
            yield f"card {i}"

    stream = loaded.stream(texts(), chunk=4)
    next(stream)
    assert len(taken) == 4


def test_nothing_asked_nothing_answered(loaded):
    assert loaded([]) == []
    assert loaded.probabilities([]).shape == (0, 5)
    assert loaded.both([])[1].shape == (0, loaded.both(["card"])[1].shape[1])
    assert list(loaded.stream([])) == []


@pytest.mark.parametrize("text", ["", "   \n\t", "\0", "\ud800", "☃" * 50, "‮evil‬", "[CLS] [SEP]"])
def test_strange_texts_are_answered(loaded, text):
    assert 0 <= loaded(text).confidence <= 1


def test_long_texts_are_cut_and_it_says_so(loaded):
    assert loaded("card " * 20_000).truncated
    assert loaded.truncated(["card", "card " * 100]) == [False, True]


@pytest.mark.parametrize("text", [None, 3, b"bytes", ("a", "b")])
def test_what_is_no_text_is_refused(loaded, text):
    with pytest.raises(UserError, match="one text"):
        loaded(text)
    with pytest.raises(UserError, match="one text"):
        loaded(["card", text])


def test_threads_share_a_kin(folder):
    shared = runtimes.open(folder, batch=1)
    texts = [f"{word} {i}" for i in range(20) for word in small.WORDS]
    expected = shared.probabilities(texts)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda text: shared.probabilities([text])[0], texts))
    assert np.allclose(rows, expected, atol=1e-6)


def test_a_changed_file_is_refused_by_name(tmp_path):
    kin.write(tmp_path, small.static(), recipe_yaml="", extra={})
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(KinError, match=r"model\.safetensors was changed"):
        runtimes.open(tmp_path)
    assert runtimes.open(tmp_path, verify=False)("card").label


@pytest.mark.parametrize("how", [{"threads": 0}, {"batch": 0}, {"threads": "two"}])
def test_impossible_settings_are_refused(folder, how):
    with pytest.raises(UserError, match="at least 1"):
        runtimes.open(folder, **how)


def test_an_unknown_runtime_asks_for_an_upgrade(tmp_path):
    kin.write(tmp_path, small.static(), recipe_yaml="", extra={"runtime": "quantum"})
    with pytest.raises(KinError, match=r"quantum.*[Uu]pgrade"):
        runtimes.open(tmp_path)


def test_answering_needs_only_the_base_install(folder):
    code = """
import json, sys
import minikin
minikin.load(sys.argv[1])("where is my card?")
print(json.dumps(sorted(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    modules = set(json.loads(out.stdout))
    unwanted = {"torch", "transformers", "onnx", "safetensors", "pydantic", "rich", "sklearn", "pandas", "yaml"}
    assert not unwanted & modules
    assert "tokenizers" not in modules
