import numpy as np
import pytest

import small
from minikin.base.errors import UserError
from minikin.base.types import QuantizedTensor
from minikin.compress.quantize import quantize
from minikin.students import encoder, module
from minikin.train.distil import logits


@pytest.mark.parametrize(
    "student",
    [small.encoder(), small.encoder(embedding=16), small.static()],
    ids=["encoder", "factorised", "static"],
)
@pytest.mark.parametrize(("scheme", "embedding", "linear"), [("int8", 8, 8), ("int4", 4, 4), ("int4-int8", 4, 8)])
def test_schemes_round_what_they_say(student, scheme, embedding, linear):
    rounded = quantize(student, scheme)
    assert rounded.scheme == scheme
    for name, value in rounded.tensors.items():
        if student.tensors[name].ndim == 1 or "token_type" in name:
            assert value.dtype == np.float32
        elif "position" in name:
            assert value.bits == 8
        else:
            assert isinstance(value, QuantizedTensor)
            table = "embeddings" in name and "projection" not in name
            assert value.bits == (embedding if table else linear)
            error = np.abs(value.dequantize() - student.tensors[name]).mean() / np.abs(student.tensors[name]).mean()
            assert error < (0.12 if value.bits == 4 else 0.02)


def test_bits_are_a_shorthand():
    assert quantize(small.static(), bits=8).scheme == "int8"
    assert quantize(small.static(), bits=4).scheme == "int4"
    assert quantize(small.static(), "fp32").scheme == "fp32"


def test_the_student_itself_is_left_alone():
    student = small.encoder()
    before = {name: value.copy() for name, value in student.tensors.items()}
    quantize(student, "int4")
    assert all(np.array_equal(before[name], student.tensors[name]) for name in before)


def test_linear_integers_never_saturate_without_vnni():
    for name, value in quantize(small.encoder(), "int8").tensors.items():
        if isinstance(value, QuantizedTensor) and "embeddings" not in name:
            assert np.abs(value.q_RK.astype(int) - 128).max() * 255 * 2 < 1 << 15


@pytest.mark.parametrize("how", [{}, {"bits": 3}, {"scheme": "int2"}, {"scheme": "int8", "bits": 8}])
def test_unknown_schemes_are_refused(how):
    with pytest.raises(UserError, match="int4-int8"):
        quantize(small.static(), **how)


def test_quantizing_twice_is_refused():
    with pytest.raises(UserError, match="already"):
        quantize(quantize(small.static(), "int8"), "int4")


def test_moments_make_4_bit_layers_answer_more_as_before():
    student = small.encoder(embedding=16)
    encoded = module.tokens(student, [f"where is my card number {i}" for i in range(64)])
    seen = encoder.moments(student, encoded)
    tables = ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight")
    linear = {n for n, t in student.tensors.items() if t.ndim == 2 and not n.endswith(tables)}
    assert seen.keys() == linear
    assert all(moment.shape == 2 * student.tensors[name].shape[1:] for name, moment in seen.items())
    before, plain, fitted = (
        logits(module.to_module(s), encoded)
        for s in (student, quantize(student, "int4"), quantize(student, "int4", moments=seen))
    )
    assert np.abs(fitted - before).mean() < np.abs(plain - before).mean()
    # 8-bit layers stay as they were
    eight, same = quantize(student, "int4-int8"), quantize(student, "int4-int8", moments=seen)
    assert all(np.array_equal(eight.tensors[n].q_RK, same.tensors[n].q_RK) for n in linear)
