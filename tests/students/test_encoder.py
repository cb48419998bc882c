"""Encoder students: transformers loads them as they are, and what is probed is what numpy finds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from minikin.base.errors import UserError
from minikin.base.types import Student
from minikin.equations.calibration import softmax
from minikin.students import encoder, inherit, module, store
from toys import LABELS, MAX_LENGTH, sentences, toy_tokenizer

TABLE, PROJECTION = inherit.ENCODER_TABLE, inherit.ENCODER_PROJECTION
TEXTS = [*(text for text, _ in sentences(6)), "", "late"]
VOCABULARY = len(json.loads(toy_tokenizer())["model"]["vocab"])


def grown(seed: int = 0, **changes: int) -> Student:
    shape = {"layers": 2, "hidden": 32, "heads": 2, "feed_forward": 64, **changes}
    config = encoder.config_of(**shape, vocabulary=VOCABULARY, max_length=MAX_LENGTH, classes=4)
    student = encoder.grow(config, toy_tokenizer(), LABELS, seed)
    rng = np.random.default_rng(seed)  # fresh BERT weights answer much the same to everything
    return Student(
        **{
            **vars(student),
            "tensors": {k: v + 0.1 * rng.standard_normal(v.shape, np.float32) for k, v in student.tensors.items()},
        }
    )


def test_transformers_loads_it_and_gives_the_same_logits(tmp_path):
    from transformers import AutoModelForSequenceClassification

    student = grown()
    (tmp_path / "config.json").write_text(json.dumps(dict(student.config)))
    save_file(dict(student.tensors), tmp_path / "model.safetensors", {"format": "pt"})
    theirs, loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not loaded["missing_keys"]
    assert not loaded["unexpected_keys"]
    ours = module.TorchRuntime(student).probabilities(TEXTS)
    encoded = module.tokens(student, TEXTS)
    for i in range(len(TEXTS)):
        with torch.no_grad():
            logits_C = theirs.eval()(torch.tensor([encoded.ids[i].tolist()])).logits[0].numpy()
        np.testing.assert_allclose(ours[i], softmax(logits_C), atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = grown(1), grown(1), grown(2)
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(a.tensors[k], b.tensors[k]) for k in a.tensors)
    assert not np.array_equal(a.tensors["classifier.weight"], c.tensors["classifier.weight"])


def test_there_and_back_through_a_module_changes_nothing():
    student = grown()
    again = module.to_module(student).to_student(student)
    assert again.config == student.config
    assert sorted(again.tensors) == sorted(student.tensors)
    assert all(np.array_equal(again.tensors[k], student.tensors[k]) for k in student.tensors)


def test_looking_inside_gives_the_same_logits_and_all_states():
    student = grown()
    plain, inside = module.to_module(student).eval(), module.to_module(student, inside=True).eval()
    ids, mask = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        out = inside(ids, mask, None)
        torch.testing.assert_close(out.logits_BC, plain(ids, mask, None).logits_BC, atol=1e-5, rtol=1e-4)
    assert len(out.hidden_LBTH) == 3
    assert [m.shape for m in out.attention_LBTT] == [(2, 4, 4)] * 2
    assert {k: v.shape for k, v in out.relations.items()} == dict.fromkeys(("query", "key", "value"), (2, 4, 32))


@pytest.mark.parametrize("family", ["encoder", "static"])
def test_a_student_on_disk_is_the_same_student(family, tmp_path):
    from small import static

    student = grown() if family == "encoder" else static(temperature=1.7)
    store.save(student, tmp_path)
    again = store.load(tmp_path)
    assert {k: v for k, v in vars(again).items() if k != "tensors"} == {
        k: v for k, v in vars(student).items() if k != "tensors"
    }
    assert all(np.array_equal(again.tensors[k], student.tensors[k]) for k in student.tensors)
    first = (tmp_path / "student.safetensors").read_bytes()
    store.save(again, tmp_path)
    assert (tmp_path / "student.safetensors").read_bytes() == first


def test_saliency_is_that_of_the_activations():
    student = grown()
    encoded = module.tokens(student, TEXTS)
    found = encoder.probe(student, encoded, batch=3)
    assert (found.hidden_H.shape, found.heads_LA.shape) == ((32,), (2, 2))
    assert (found.neurons_LF.shape, found.blocks_L.shape) == ((2, 64), (2,))

    inside = module.to_module(student, inside=True).eval()
    squares, norms, count = np.zeros(64), np.zeros(32), 0
    for i in range(len(TEXTS)):
        with torch.no_grad():
            ids = torch.tensor([encoded.ids[i].tolist()])
            out = inside(ids, torch.ones_like(ids), None)
            layer = inside.bert.bert.encoder.layer[1]
            before = layer.attention(out.hidden_LBTH[1])[0]
            squares += layer.intermediate(before)[0].double().square().sum(0).numpy()
            norms += out.hidden_LBTH[2][0].double().square().sum(0).numpy()
            count += ids.shape[1]
    outgoing = np.linalg.norm(student.tensors["bert.encoder.layer.1.output.dense.weight"], axis=0)
    np.testing.assert_allclose(found.neurons_LF[1], np.sqrt(squares / count) * outgoing, rtol=1e-4)
    assert ((found.blocks_L > 0) & (found.blocks_L < 2)).all()


def test_saliency_does_not_depend_on_the_batch():
    student = grown()
    encoded = module.tokens(student, TEXTS)
    one, many = encoder.probe(student, encoded, batch=1), encoder.probe(student, encoded, batch=8)
    for name in ("hidden_H", "heads_LA", "neurons_LF", "blocks_L"):
        np.testing.assert_allclose(getattr(one, name), getattr(many, name), rtol=1e-4)


def test_inherited_embeddings_keep_the_teachers_geometry():
    rng = np.random.default_rng(0)
    low_V3 = rng.normal(size=(VOCABULARY, 3))
    teacher_VH = low_V3 @ np.linalg.qr(rng.normal(size=(64, 3)))[0].T + 5.0
    student = inherit.embeddings(grown(), teacher_VH, rng.integers(0, 50, VOCABULARY))
    inherited_VH = student.tensors["bert.embeddings.word_embeddings.weight"]
    assert inherited_VH.shape == (VOCABULARY, 32)
    assert inherited_VH.std() == pytest.approx(0.05, rel=1e-3)

    def distances(x: np.ndarray) -> np.ndarray:
        d = np.linalg.norm(x[:40, None] - x[None, :40], axis=-1)
        return d / d.mean()

    np.testing.assert_allclose(distances(inherited_VH), distances(teacher_VH), atol=1e-3)


def test_reduced_against_svd_and_for_wider_targets():
    vectors_VH = np.random.default_rng(0).normal(size=(50, 8))
    reduced_VW = inherit.reduced(vectors_VH, np.zeros(50), 3)
    u, s, _ = np.linalg.svd(vectors_VH, full_matrices=False)
    np.testing.assert_allclose(np.abs(reduced_VW), np.abs(u[:, :3] * s[:3]), atol=1e-4)
    wide_VW = inherit.reduced(vectors_VH, np.zeros(50), 10)
    np.testing.assert_allclose(wide_VW[:, :8], vectors_VH.astype(np.float32))
    assert (wide_VW[:, 8:] == 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 31), st.integers(0, 9))
def test_a_factorised_student_is_the_multiplied_one(width, seed):
    student = inherit.factorised(grown(seed), width, np.arange(VOCABULARY))
    tensors = dict(student.tensors)
    assert (tensors[TABLE].shape, tensors[PROJECTION].shape) == ((VOCABULARY, width), (32, width))
    tensors[TABLE] = tensors[TABLE] @ tensors.pop(PROJECTION).T
    config = {key: value for key, value in student.config.items() if key != "embedding_size"}
    whole = Student(**{**vars(student), "tensors": tensors, "config": config})
    answers = [module.TorchRuntime(found).probabilities(TEXTS) for found in (student, whole)]
    np.testing.assert_allclose(*answers, atol=1e-5)


@given(st.integers(1, 20), st.integers(0, 9))
def test_a_factorised_table_is_the_best_of_its_rank(width, seed):
    rng = np.random.default_rng(seed)
    counts_V = rng.integers(0, 50, VOCABULARY)
    found = inherit.factorised(student := grown(seed), width, counts_V).tensors
    shift_H = found[inherit.ENCODER_TYPES][0] - student.tensors[inherit.ENCODER_TYPES][0]
    root_V1 = np.sqrt(np.log1p(counts_V) + 1)[:, None]
    wanted_VH = student.tensors[TABLE].astype(np.float64)
    error = np.linalg.norm(root_V1 * (found[TABLE] @ found[PROJECTION].T + shift_H - wanted_VH))
    centred_VH = wanted_VH - np.average(wanted_VH, 0, (root_V1**2).ravel())
    values = np.linalg.svd(root_V1 * centred_VH, compute_uv=False)
    assert error == pytest.approx(np.linalg.norm(values[width:]), rel=1e-4)


def test_a_grown_student_inherits_a_table_of_its_width():
    teacher_VH = np.random.default_rng(0).normal(size=(VOCABULARY, 64))
    student = inherit.embeddings(grown(embedding=16), teacher_VH, np.ones(VOCABULARY))
    product_VH = student.tensors[TABLE] @ student.tensors[PROJECTION].T
    assert (product_VH.shape, student.tensors[TABLE].std()) == ((VOCABULARY, 32), pytest.approx(0.05, rel=1e-3))


@pytest.mark.parametrize("width", [0, 32, 64])
def test_a_factorised_table_is_narrower_than_the_student(width):
    with pytest.raises(UserError, match=r"student\.embedding"):
        inherit.factorised(grown(), width, np.ones(VOCABULARY))


def test_counts_are_those_of_the_ids():
    encoded = module.tokens(grown(), ["card card late"])
    found = inherit.counts(encoded, VOCABULARY)
    assert found.sum() == len(encoded.ids.values)
    assert sorted(found[found > 0]) == [1, 1, 1, 2]
