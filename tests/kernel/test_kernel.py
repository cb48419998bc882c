"""The kernel's answers against PyTorch, the other engines, itself on other instructions, and files that are none."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minikin as mk
import small
from minikin import runtimes
from minikin.base.errors import KinError, UserError
from minikin.compress.quantize import quantize
from minikin.package import kernel as kernel_file
from minikin.package import kin
from minikin.runtimes import kernel as engine
from minikin.students.module import TorchRuntime

_kernel = engine.extension()
needs_kernel = pytest.mark.skipif(_kernel is None, reason="the kernel was not built: no C compiler at install")
SCHEMES = ("int8", "int4", "int4-int8")
TEXTS = [
    *small.TEXTS,
    "\x00 where\x00 is it",
    "lone \ud800 surrogate",
    "card " * 500,
    "e" + "\u0301" * 3000,
    "[SEP] [CLS]",
]
ENCODERS = {
    "one layer": {"layers": 1},
    "two layers": {"layers": 2},
    "ragged": {"layers": 2, "hidden": 36, "heads": 3, "feed_forward": 50},
    "relu": {"activation": "relu"},
    "gelu_new": {"activation": "gelu_new"},
    "factorised": {"embedding": 20},
}


def aligned(data: bytes) -> np.ndarray:
    """The bytes at an address divisible by 64, as a mapped file has them."""
    room = np.zeros(len(data) + 64, np.uint8)
    start = -room.ctypes.data % 64
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return room[start : start + len(data)]


def opened(tmp_path, student, name="kin", **extra):
    folder = tmp_path / name
    folder.mkdir()
    kin.write(folder, student, recipe_yaml="", extra=extra)
    return folder


def pairs(texts):
    return [(text, other) for text, other in zip(texts, reversed(texts), strict=True)]


@pytest.fixture
def every_path():
    """Names of the instruction sets that this processor has; the best one is in use again afterwards."""
    best = _kernel.instructions()
    yield [name for name in small.INSTRUCTIONS if _kernel.use(name)]
    _kernel.use(best)


@needs_kernel
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", ENCODERS)
def test_an_encoder_answers_as_pytorch_does(tmp_path, shape, scheme):
    student = quantize(small.encoder(**ENCODERS[shape]), scheme)
    found = runtimes.open(opened(tmp_path, student), engine="kernel")
    wanted = TorchRuntime(student.dequantized()).probabilities(TEXTS)
    answers = found.probabilities(TEXTS)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    assert np.abs(answers - wanted).max() < 0.02  # activations are rounded to 8 bits
    assert (answers.argmax(1) == wanted.argmax(1)).mean() >= 0.9


@needs_kernel
@pytest.mark.parametrize(("hidden", "heads"), [(36, 3), (52, 2), (64, 2)])
def test_attention_is_right_for_every_length_and_width_of_a_head(tmp_path, hidden, heads):
    folder = opened(tmp_path, quantize(small.encoder(layers=2, hidden=hidden, heads=heads), "int8"))
    texts = [" ".join(small.WORDS[(7 * i + j * j) % 17] for j in range(i)) for i in range(22)]
    one, other = (runtimes.open(folder, engine=name).both(texts)[1] for name in ("kernel", "torch"))
    assert np.abs(one - other).max() < 0.1  # 0.3 and more where one query reads what belongs to another


@needs_kernel
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("window", "pool"), [(0, "mean"), (0, "mean-max"), (3, "mean-max"), (5, "mean")])
@pytest.mark.parametrize("pair", [False, True])
def test_a_static_kin_answers_as_numpy_does(tmp_path, window, pool, pair, scheme):
    student = quantize(small.static(window=window, pool=pool, pair=pair), scheme)
    folder = opened(tmp_path, student, pair=pair)
    texts = pairs(TEXTS) if pair else TEXTS
    one, other = (runtimes.open(folder, engine=name) for name in ("kernel", "onnx"))
    assert np.abs(one.probabilities(texts) - other.probabilities(texts)).max() < 0.02
    wanted = other.both(texts)[1]
    assert np.abs(one.both(texts)[1] - wanted).max() < 0.02 * np.abs(wanted).max() + 0.03
    assert one.truncated(texts) == other.truncated(texts)


@needs_kernel
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_path_gives_the_same_bits(tmp_path, every_path, scheme, pair):
    ragged = {"layers": 2, "hidden": 36, "heads": 3, "feed_forward": 50}
    made = [small.encoder(**ragged), small.encoder(**ragged, embedding=20), small.static(window=3, pair=pair)]
    texts = pairs(TEXTS) if pair else TEXTS
    for number, student in enumerate(made):
        folder = opened(tmp_path, quantize(student, scheme), name=str(number), pair=pair)
        found = runtimes.open(folder, engine="kernel")
        answers, pooled = [], []
        for name in every_path:
            _kernel.use(name)
            answers.append(found.probabilities(texts))
            pooled.append(found.both(texts)[1])
        assert all((answers[0] == a).all() for a in answers)
        assert all((pooled[0] == p).all() for p in pooled)


@needs_kernel
@pytest.mark.parametrize(("hidden", "heads", "neurons"), [(90, 3, 70), (160, 4, 256)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_path_gives_the_same_bits_whatever_the_length(tmp_path, every_path, scheme, hidden, heads, neurons):
    """Tokens are taken in shares: each size of a share is a loop of its own, as are whole and half 64s of inputs."""
    folder = opened(tmp_path, quantize(small.encoder(2, hidden, heads, neurons, max_length=60), scheme))
    found = runtimes.open(folder, engine="kernel")
    texts = [" ".join(small.WORDS[(5 * i + j * j) % 17] for j in range(i)) for i in range(59)]
    answers = []
    for name in every_path:
        _kernel.use(name)
        answers.append(np.stack([found.both([text])[1][0] for text in texts]))
        assert (found.both(texts)[1] == answers[0]).all()  # 192 tokens at a time, and more
    assert all((answers[0] == a).all() for a in answers)
    assert len(np.unique(answers[0], axis=0)) > 50  # each length was read


@needs_kernel
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_largest_sums_are_exact_on_every_path(tmp_path, every_path, scheme):
    """All inputs of a product at their largest, against weights at their largest: nothing may saturate."""
    student = small.encoder(layers=2, hidden=96, heads=2, feed_forward=160)
    tensors = {**student.tensors}
    for name, value in student.tensors.items():
        if name.endswith("LayerNorm.weight"):
            tensors[name] = np.zeros_like(value)
        elif name.endswith("LayerNorm.bias"):
            tensors[name] = np.ones_like(value)
        elif value.ndim == 2 and "embeddings" not in name:
            signs_N = np.where(np.arange(len(value)) % 3 == 0, -1, 1).astype(np.float32)
            tensors[name] = np.repeat(0.15 * signs_N[:, None], value.shape[1], axis=1)
    folder = opened(tmp_path, quantize(replace(student, tensors=tensors), scheme))
    found = runtimes.open(folder, engine="kernel")
    answers = []
    for name in every_path:
        _kernel.use(name)
        answers.append(found.both(TEXTS)[1])
    assert all((answers[0] == a).all() for a in answers)


@needs_kernel
def test_an_answer_depends_on_its_text_alone(tmp_path):
    found = runtimes.open(opened(tmp_path, quantize(small.encoder(layers=2), "int8")), engine="kernel")
    many = [f"{text} {i}" for i in range(40) for text in TEXTS]
    together = found.probabilities(many)
    alone = np.concatenate([found.probabilities([text]) for text in many])
    assert (together == alone).all()
    assert [a.label for a in found(many)] == [found(text).label for text in many]


@needs_kernel
@pytest.mark.parametrize("pair", [False, True])
def test_ids_and_cuts_are_those_of_the_onnx_engine(tmp_path, pair):
    folder = opened(tmp_path, quantize(small.encoder(), "int8"), pair=pair)
    kernel_kin, onnx_kin = (runtimes.open(folder, engine=name) for name in ("kernel", "onnx"))
    long = ["pin", "card " * 3, "where is my card " * 9, "lost pin " * 200, "up " * 61, "up " * 62]
    texts = [(a, b) for a in long for b in long] if pair else [*TEXTS, *long]
    for text in texts:
        ids, second, cut = kernel_kin._engine._model.read(text)
        wanted = onnx_kin._engine.prepare(text if pair else (text,))
        assert (ids, second, cut) == (wanted.ids, wanted.second, wanted.truncated), text
    assert kernel_kin.truncated(texts) == onnx_kin.truncated(texts)


@needs_kernel
def test_one_kin_serves_many_threads(tmp_path):
    folder = opened(tmp_path, quantize(small.encoder(layers=2), "int4"))
    shared, wanted = runtimes.open(folder), {}
    texts = [f"{text} {i}" for i in range(30) for text in TEXTS]
    wanted = runtimes.open(folder).probabilities(texts)
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        found[number] = shared.probabilities(texts)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all((found[i] == wanted).all() for i in range(8))
    assert (runtimes.open(folder, threads=3).probabilities(texts) == wanted).all()


@needs_kernel
def test_the_kernel_is_what_answers_by_default(tmp_path, monkeypatch):
    folder = opened(tmp_path, quantize(small.encoder(), "int8"))
    assert mk.load(folder).engine.startswith("kernel (")
    assert mk.load(folder, engine="onnx").engine == "onnx"
    assert mk.load(folder, engine="torch").engine == "torch"
    monkeypatch.setattr(runtimes, "extension", lambda: None)
    assert mk.load(folder).engine == "onnx"


@needs_kernel
def test_a_switch_stands_for_an_older_processor(tmp_path, monkeypatch, every_path):
    folder = opened(tmp_path, quantize(small.encoder(), "int8"))
    for name in every_path:
        monkeypatch.setenv(engine.SWITCH, name)
        assert mk.load(folder).engine == f"kernel ({name})"
    monkeypatch.setenv(engine.SWITCH, "mmx")
    with pytest.raises(KinError, match="MINIKIN_INSTRUCTIONS=mmx"):
        mk.load(folder)


@needs_kernel
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="Linux on x86-64 lends AMX")
def test_amx_is_asked_for_by_nothing_but_its_use():
    """Once a process may use the tiles, its signal stacks must be larger, so another path leaves them alone."""
    told = """
import ctypes, sys
from minikin.kernel import _kernel
def lent():
    mask = ctypes.c_uint64()
    ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(mask))  # ARCH_GET_XCOMP_PERM
    return mask.value >> 18 & 1
print(_kernel.use("scalar"), lent(), _kernel.use("amx-int8") - lent())
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0", "0"]


def test_without_a_kernel_it_says_what_to_do(tmp_path, monkeypatch):
    folder = opened(tmp_path, quantize(small.encoder(), "int8"))
    monkeypatch.setattr(engine, "extension", lambda: None)
    with pytest.raises(KinError, match="no C compiler was found"):
        mk.load(folder, engine="kernel")
    with pytest.raises(KinError, match=r"carries no kernel file .*float32"):
        mk.load(opened(tmp_path, small.encoder(), name="float"), engine="kernel")
    with pytest.raises(KinError, match="static"):
        mk.load(opened(tmp_path, quantize(small.static(), "int8"), name="static"), engine="torch")
    with pytest.raises(UserError, match="no engine 'gpu'"):
        mk.load(folder, engine="gpu")


@needs_kernel
def test_torch_answers_as_the_folder_says(tmp_path):
    student = quantize(small.encoder(layers=2), "int4")
    found = runtimes.open(opened(tmp_path, student), engine="torch")
    wanted = TorchRuntime(student.dequantized()).probabilities(TEXTS)
    np.testing.assert_allclose(found.probabilities(TEXTS), wanted, atol=1e-5)
    assert found.both(TEXTS)[1].shape == (len(TEXTS), int(student.config["hidden_size"]))


def sealed(data: bytes) -> bytes:
    """The same bytes with the checksum that they should have."""
    return data[:12] + struct.pack("<I", zlib.crc32(data[16:])) + data[16:]


@needs_kernel
@pytest.mark.parametrize("make", [small.encoder, small.static])
def test_damaged_files_are_refused_by_name(tmp_path, make):
    student = quantize(make(), "int8")
    data = kernel_file.kernel_file(student, pair=False)
    assert _kernel.Model(aligned(data)).classes == len(student.labels)
    damaged = {
        "cut off": data[:-64],
        "something behind": data + bytes(64),
        "checksum differs": data[:200] + bytes([data[200] ^ 1]) + data[201:],
        "newer minikin": data[:8] + struct.pack("<I", 99) + data[12:],
        "no kernel file": b"PK\3\4" + data[4:],
        "is cut off": data[:20],
    }
    for words, broken in damaged.items():
        with pytest.raises(NotImplementedError if "newer" in words else ValueError, match=words):
            _kernel.Model(aligned(broken))
    folder = opened(tmp_path, student)
    (folder / "model.kernel").write_bytes(damaged["checksum differs"])
    with pytest.raises(KinError, match=r"model\.kernel was changed"):
        mk.load(folder)
    with pytest.raises(KinError, match=r"can't open .*model\.kernel: its checksum differs.* build it again"):
        mk.load(folder, verify=False)
    (folder / "model.kernel").write_bytes(damaged["newer minikin"])
    with pytest.raises(KinError, match=r"newer minikin.* pip install --upgrade minikin"):
        mk.load(folder, verify=False)


@needs_kernel
@pytest.mark.parametrize("asked", ["kernel", "onnx"])
def test_weights_of_other_engines_are_compared_by_size_alone(tmp_path, asked):
    folder = opened(tmp_path, quantize(small.encoder(), "int8"))
    others = {"model.kernel": "kernel", "onnx/model_quantized.onnx": "onnx", "model.safetensors": "torch"}
    for name, owner in others.items():
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        if owner == asked:
            with pytest.raises(KinError, match=f"{re.escape(name)} was changed"):
                mk.load(folder, engine=asked)
        else:
            assert mk.load(folder, engine=asked)("card").label
        path.write_bytes(whole[:-1])
        with pytest.raises(KinError, match="bytes, not"):
            mk.load(folder, engine=asked)
        path.write_bytes(whole)


@needs_kernel
def test_only_a_file_with_a_projection_is_newer_than_the_first_version():
    for student, version in ((small.encoder(), 1), (small.static(), 1), (small.encoder(embedding=16), 2)):
        data = kernel_file.kernel_file(quantize(student, "int4"), pair=False)
        assert struct.unpack_from("<I", data, 8) == (version,)
        assert _kernel.Model(aligned(data)).classes == len(student.labels)


@needs_kernel
@pytest.mark.parametrize("make", [small.encoder, small.static, lambda: small.encoder(embedding=16)])
def test_a_file_that_lies_about_itself_is_refused_or_harmless(make):
    data = kernel_file.kernel_file(quantize(make(), "int4"), pair=False)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        broken = bytearray(data)
        for at in rng.integers(16, 800, 3):
            broken[at] = int(rng.integers(256))
        try:
            model = _kernel.Model(aligned(sealed(bytes(broken))))
        except ValueError:
            refused += 1
            continue
        rows = np.empty((1, model.classes), np.float32)
        for text in ("where is my card?", ("where is", "my card?")):
            with contextlib.suppress(TypeError):  # the flag of pairs may be what has changed
                model.answer([text], rows, None)
    assert refused > 100


@needs_kernel
def test_bad_arguments_are_refused(tmp_path):
    model = _kernel.Model(aligned(kernel_file.kernel_file(quantize(small.encoder(), "int8"), pair=False)))
    rows = np.empty((1, model.classes), np.float32)
    for arguments, error in (
        ((["a", "b"], rows, None), ValueError),
        (([3], rows, None), TypeError),
        ((["a"], b"read-only", None), BufferError),
        (("text", rows, None), TypeError),
    ):
        with pytest.raises(error):
            model.answer(*arguments)
    assert not _kernel.use("nothing")
    assert model.answer([], np.empty((0, model.classes), np.float32), None) == b""


def test_what_the_kernel_can_not_run_is_said():
    assert "float32" in str(kernel_file.why_not(small.encoder()))
    assert kernel_file.why_not(quantize(small.encoder(), "int4")) is None
    odd = quantize(small.encoder(), "int8")
    assert "silu" in str(
        kernel_file.why_not(type(odd)(**{**odd.__dict__, "config": {**odd.config, "hidden_act": "silu"}}))
    )
    with pytest.raises(UserError, match="float32"):
        kernel_file.kernel_file(small.encoder(), pair=False)


def built(tmp_path, compiler):
    """What building the extension with this compiler leaves, and what it says."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path), "--build-temp"]
    done = subprocess.run(
        [*command, str(tmp_path / "temporary")],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "CC": compiler},
    )
    return done, list((tmp_path / "minikin").rglob("_kernel*"))


def test_an_install_without_a_compiler_succeeds(tmp_path):
    done, found = built(tmp_path, "no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert found == []
    assert "_kernel" in done.stdout + done.stderr  # it says what it left out


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
def test_the_extension_builds_without_warnings(tmp_path):
    done, found = built(tmp_path, "gcc -Werror")
    assert done.returncode == 0, done.stderr
    assert len(found) == 1, done.stderr


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_engine_is_plain_c99(tmp_path, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} here")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-c"]
    for name in ("model.c", "paths.c", "tokenizer.c"):
        source = Path(mk.__file__).parent / "kernel" / name
        done = subprocess.run(
            [compiler, *flags, str(source), "-o", str(tmp_path / "x.o")], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
