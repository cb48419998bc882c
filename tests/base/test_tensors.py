import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

import small
from minikin.base import tensors
from minikin.base.errors import KinError
from minikin.base.types import QuantizedTensor
from minikin.compress.quantize import quantize

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.zeros((0, 4), np.int8),
    "c": np.array(3.5, np.float64),
    "d": np.arange(5, dtype=np.float16),
    "e": np.array([[True, False]]),
}


def test_reads_what_safetensors_writes(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(ARRAYS, {"format": "pt"}))
    arrays, metadata = tensors.read(path)
    assert metadata == {"format": "pt"}
    for name, value in load(path.read_bytes()).items():
        assert arrays[name].dtype == value.dtype
        assert np.array_equal(arrays[name], value)
        assert not arrays[name].flags.writeable


def test_bfloat16_becomes_float32(tmp_path):
    import torch
    from safetensors.torch import save as save_torch

    values = torch.randn(7).to(torch.bfloat16)
    (tmp_path / "x").write_bytes(save_torch({"x": values}))
    assert np.array_equal(tensors.read(tmp_path / "x")[0]["x"], values.float().numpy())


@pytest.mark.parametrize("scheme", ["int8", "int4", "int4-int8", "fp32"])
def test_quantized_tensors_come_back(tmp_path, scheme):
    student = quantize(small.static(hidden=17), scheme)
    arrays, metadata = tensors.pack(student.tensors)
    (tmp_path / "x").write_bytes(save(arrays, metadata or None))
    again = tensors.unpack(*tensors.read(tmp_path / "x"))
    assert set(again) == set(student.tensors)
    for name, value in student.tensors.items():
        if isinstance(value, QuantizedTensor):
            assert np.array_equal(again[name].dequantize(), value.dequantize())
        else:
            assert np.array_equal(again[name], value)


def with_header(header: object, data: bytes = b"\0" * 24) -> bytes:
    raw = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"123",
        (1 << 60).to_bytes(8, "little") + b"{}",
        with_header(b"{not json"),
        with_header([1]),
        with_header({"a": 5}),
        with_header({"a": entry(dtype="F31")}),
        with_header({"a": entry(shape=(2, 4))}),
        with_header({"a": entry(shape=(-2, -3))}),
        with_header({"a": entry(offsets=(0, 400), shape=(100,))}),
        with_header({"a": entry(offsets=(8, 32))}),
        with_header({"a": entry(), "b": entry()}),
        with_header({"a": entry(shape=(2,), offsets=(0, 8))}),
        with_header({"a": entry(), "__metadata__": 3}),
        with_header({"a": entry()})[:-1],
    ],
)
def test_damage_is_named(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(KinError, match=r"broken\.safetensors is damaged"):
        tensors.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KinError, match="absent"):
        tensors.read(tmp_path / "absent")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_never_crash(tmp_path_factory, data):
    good = bytearray(save(ARRAYS))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(bytes(good[: data.draw(st.integers(len(good) - 3, len(good)))]))
    with contextlib.suppress(KinError):
        tensors.read(path)


@pytest.mark.parametrize(
    "layout", ['{"w": 3}', '{"w": {"bits": 4}}', "{", "3", '{"w": {"bits": 8, "block": 0, "width": 3}}']
)
def test_integers_that_do_not_fit_are_refused(layout):
    arrays = {"w.q": np.zeros((2, 3), np.uint8), "w.scales": np.ones(2, np.float32)}
    with pytest.raises(KinError, match="quantized"):
        tensors.unpack(arrays, {tensors.LAYOUT_KEY: layout})
