import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
from onnx import TensorProto

import small
from minikin.base.errors import UserError
from minikin.compress.quantize import quantize
from minikin.package import graph, onnx

SHAPES = [(1, 1), (1, 12), (4, 7), (3, 24)]


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def feeds(shape, types, seed=0):
    rng = np.random.default_rng(seed)
    ids_BT = rng.integers(0, small.vocabulary_size(), shape)
    mask_BT = np.ones(shape, np.int64)
    mask_BT[1:2, max(1, shape[1] // 2) :] = 0
    mask_BT[2:3, max(1, shape[1] - 2) :] = 0
    return {
        "input_ids": ids_BT,
        "attention_mask": mask_BT,
        "token_type_ids": rng.integers(0, types, shape),
    }


def both(student, shape, types):
    """Logits and pooled of transformers and of ONNX Runtime, on the dequantized weights."""
    import torch

    values = feeds(shape, types)
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    with torch.no_grad():
        model = small.bert(student)
        pooled = model.bert(**tensors).pooler_output
        expected = model.classifier(pooled).numpy(), pooled.numpy()
    running = session(onnx.encoder(student))
    taken = {entry.name: values[entry.name] for entry in running.get_inputs()}
    return expected, running.run(["logits", "pooled", "probabilities"], taken)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"types": 1, "heads": 4},
        {"layers": 3, "hidden": 48, "heads": 3, "activation": "relu"},
        {"layers": 1, "hidden": 20, "heads": 1, "feed_forward": 70, "activation": "gelu_new"},
        {"layers": 0},
        {"embedding": 12},
    ],
    ids=str,
)
def test_float_logits_equal_transformers(sizes, shape):
    student = small.encoder(**sizes)
    (logits_BC, pooled_BH), (ours_BC, our_pooled_BH, probabilities_BC) = both(student, shape, sizes.get("types", 2))
    assert np.abs(ours_BC - logits_BC).max() < 1e-4
    assert np.abs(our_pooled_BH - pooled_BH).max() < 1e-4
    softmax_BC = np.exp(ours_BC) / np.exp(ours_BC).sum(1, keepdims=True)
    assert np.abs(probabilities_BC - softmax_BC).max() < 1e-6


@pytest.mark.parametrize("scheme", ["int8", "int4", "int4-int8"])
@pytest.mark.parametrize(
    "sizes", [{}, {"hidden": 40, "heads": 1, "feed_forward": 72, "types": 1}, {"embedding": 20}], ids=str
)
def test_quantized_logits_stay_close_to_the_dequantized_model(sizes, scheme):
    student = quantize(small.encoder(**sizes), scheme)
    for shape in SHAPES:
        (logits_BC, _), (ours_BC, _, _) = both(student, shape, sizes.get("types", 2))
        assert np.abs(ours_BC - logits_BC).max() < 0.1 * max(1.0, np.abs(logits_BC).max())
        assert np.abs(ours_BC - logits_BC).mean() < 0.03


def test_padding_changes_nothing_in_float():
    running = session(onnx.encoder(small.encoder(types=1)))
    ids_BT = np.array([[2, 50, 60, 3]])
    short = running.run(["logits"], {"input_ids": ids_BT, "attention_mask": np.ones_like(ids_BT)})[0]
    padded_BT = np.array([[2, 50, 60, 3, 0, 0, 0], [2, 9, 8, 7, 6, 5, 3]])
    mask_BT = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    long = running.run(["logits"], {"input_ids": padded_BT, "attention_mask": mask_BT})[0]
    assert np.abs(long[0] - short[0]).max() < 1e-5


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_the_same_student_gives_the_same_bytes(scheme):
    assert onnx.encoder(quantize(small.encoder(), scheme)) == onnx.encoder(quantize(small.encoder(), scheme))


def test_four_bits_are_stored_in_four_bits_and_computed_in_eight():
    data = onnx.encoder(quantize(small.encoder(hidden=128, feed_forward=256), "int4"))
    weights = sum(t.size for t in small.encoder(hidden=128, feed_forward=256).tensors.values())
    assert len(data) < weights * 0.8
    model = onnx_package.load_from_string(data)
    onnx_package.checker.check_model(model, skip_opset_compatibility_check=True)
    assert "DynamicQuantizeMatMul" in {node.op_type for node in model.graph.node}
    assert max(len(entry.raw_data) for entry in model.graph.initializer if entry.data_type == TensorProto.FLOAT) < 8192


def test_large_tables_are_looked_up_without_unpacking(monkeypatch):
    student = small.encoder()
    for scheme in ("int8", "int4"):
        rounded = quantize(student, scheme)
        small_table = session(onnx.encoder(rounded))
        monkeypatch.setattr(graph, "UNPACKED_LIMIT_BYTES", 0)
        data = onnx.encoder(rounded)
        monkeypatch.undo()
        assert "GatherBlockQuantized" in {node.op_type for node in onnx_package.load_from_string(data).graph.node}
        values = feeds((2, 9), 2)
        assert np.allclose(session(data).run(["logits"], values)[0], small_table.run(["logits"], values)[0], atol=1e-5)


def test_only_the_first_token_goes_on_after_the_last_attention():
    model = onnx_package.load_from_string(onnx.encoder(small.encoder(layers=2)))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Attention") == 2
    last = len(kinds) - 1 - kinds[::-1].index("Attention")
    assert kinds[last + 1 : last + 3] == ["Gather", "Gather"]
    assert "SkipLayerNormalization" not in kinds


def test_what_the_graph_does_not_know_is_refused():
    with pytest.raises(UserError, match="hidden_act"):
        onnx.encoder(small.encoder(activation="swish"))
    with pytest.raises(UserError, match="static"):
        onnx.encoder(small.static())
    student = small.encoder()
    student.config["position_embedding_type"] = "relative_key"
    with pytest.raises(UserError, match="position"):
        onnx.encoder(student)
    student = small.encoder()
    del student.tensors["bert.pooler.dense.weight"]
    with pytest.raises(UserError, match=r"bert\.pooler"):
        onnx.encoder(student)
