"""A local teacher: what it says, how it is cut, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from minikin.base.errors import TeacherError
from minikin.base.types import Runtime
from minikin.students.module import TorchRuntime
from minikin.teachers.local import LocalTeacher
from minikin.teachers.resolve import resolve
from toys import LABELS, MAX_LENGTH, sentences, toy_checkpoint

TEXTS = [*(text for text, _ in sentences(5)), "", "late"]
PAIRS = [("my card", "is late"), ("", "late"), ("thanks", "")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return toy_checkpoint(tmp_path_factory.mktemp("toy") / "bert", initializer=0.3)


@pytest.fixture(scope="module")
def teacher(folder) -> LocalTeacher:
    return LocalTeacher(resolve(str(folder)), LABELS, MAX_LENGTH)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> LocalTeacher:
    folder = toy_checkpoint(tmp_path_factory.mktemp("ready") / "bert", labels=LABELS[::-1], initializer=0.3)
    return LocalTeacher(resolve(str(folder)), LABELS, MAX_LENGTH, fit=False)


def changed(folder: Path, target: Path, **config: object) -> Path:
    shutil.copytree(folder, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **config}))
    return target


def test_it_meets_runtime(teacher):
    assert isinstance(teacher, Runtime)
    probabilities_NC = teacher.probabilities(TEXTS)
    assert probabilities_NC.shape == (len(TEXTS), 4)
    np.testing.assert_allclose(probabilities_NC.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("which", ["teacher", "classifier"])
def test_what_it_says_covers_each_texts_own_tokens(which, request):
    said = request.getfixturevalue(which).say(TEXTS, ["logits", "pooled", "hidden", "attention", "relations"])
    lengths_B = request.getfixturevalue(which).encode(TEXTS).ids.lengths_N
    assert said["logits"].shape == (len(TEXTS), 4)
    assert said["pooled"].shape == (len(TEXTS), 32)
    assert sorted(said["hidden"]) == [0, 1, 2]
    assert sorted(said["attention"]) == [1, 2]
    assert sorted(said["relations"]) == ["key", "query", "value"]
    for rows in [*said["hidden"].values(), *said["relations"].values()]:
        assert [r.shape for r in rows] == [(n, 32) for n in lengths_B]
    for maps in said["attention"].values():
        assert [m.size for m in maps] == [n * n for n in lengths_B]
        for row, n in zip(maps, lengths_B, strict=True):
            np.testing.assert_allclose(row.reshape(n, n).astype(np.float32).sum(1), 1, atol=5e-3)


def test_what_it_says_does_not_depend_on_the_batch(teacher):
    together = teacher.say(TEXTS, ["pooled"])
    alone = [teacher.say([t], ["pooled"]) for t in TEXTS]
    for kind in ("logits", "pooled"):
        np.testing.assert_allclose(together[kind], np.concatenate([a[kind] for a in alone]), atol=2e-3)


def test_looking_inside_changes_nothing_afterwards(teacher):
    before_NC = teacher.probabilities(TEXTS)
    teacher.say(TEXTS, ["attention", "relations"])
    np.testing.assert_array_equal(before_NC, teacher.probabilities(TEXTS))
    assert not teacher.module.inside


def test_pairs_are_read_with_segments(teacher):
    assert teacher.probabilities(PAIRS).shape == (3, 4)
    assert not np.allclose(*teacher.probabilities([("my card", "is late"), ("is late", "my card")]))


def test_saved_and_loaded_it_is_the_same_and_has_another_digest(folder, teacher, tmp_path):
    other = LocalTeacher(resolve(str(folder)), LABELS, MAX_LENGTH, seed=1)
    before, fresh = other.probabilities(TEXTS), other.digest
    with torch.no_grad():
        other.module.head.bias += 1.0
    other.save(tmp_path)
    assert fresh == teacher.digest
    again = LocalTeacher(resolve(str(folder)), LABELS, MAX_LENGTH).load(tmp_path)
    np.testing.assert_array_equal(again.probabilities(TEXTS), other.probabilities(TEXTS))
    assert again.digest != fresh
    assert before.shape == (len(TEXTS), 4)


def test_a_classifier_answers_in_the_datas_order_of_labels(classifier):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(classifier.checkpoint.folder).eval()
    ids = torch.tensor([classifier.encode(TEXTS[:1]).ids[0].tolist()])
    theirs_C = torch.softmax(model(ids).logits[0], -1).detach().numpy()[::-1]
    np.testing.assert_allclose(classifier.probabilities(TEXTS[:1])[0], theirs_C, atol=1e-5)


def test_a_classifier_cut_to_nothing_less_answers_the_same(classifier):
    ours_NC = TorchRuntime(classifier.as_student()).probabilities(TEXTS)
    np.testing.assert_allclose(ours_NC, classifier.probabilities(TEXTS), atol=1e-5)


def test_a_tuned_teacher_as_student_has_its_hidden_states(teacher):
    from minikin.students.encoder import EncoderModule

    student = teacher.as_student()
    module = EncoderModule(student, inside=True).eval()
    ids = torch.tensor([teacher.encode(TEXTS[:1]).ids[0].tolist()])
    states = module(ids, torch.ones_like(ids), None).hidden_LBTH[-1][0].detach().numpy()
    np.testing.assert_allclose(states, teacher.say(TEXTS[:1], ["hidden"])["hidden"][2][0], atol=5e-3)
    assert student.config["max_position_embeddings"] == MAX_LENGTH


@pytest.mark.parametrize("which", ["teacher", "classifier"])
def test_embeddings_and_outputs_of_single_pieces(which, request):
    found = request.getfixturevalue(which)
    vocabulary = len(found.token_embeddings())
    outputs_VH = found.token_outputs(np.arange(vocabulary), batch=100)
    assert outputs_VH.shape == (vocabulary, 32)
    frame = found.encode([""]).ids[0]
    ids = torch.tensor([[frame[0], 7, frame[1]]])
    alone = found.module(ids, torch.ones_like(ids), None).pooled_BH[0].detach().numpy()
    np.testing.assert_allclose(outputs_VH[7], alone, atol=1e-5)


def test_labels_that_the_classifier_does_not_know_are_refused(classifier):
    with pytest.raises(TeacherError, match=r"nonsense.*teacher\.fit: true"):
        LocalTeacher(classifier.checkpoint, (*LABELS[:3], "nonsense"), MAX_LENGTH, fit=False)


def test_texts_longer_than_the_teacher_reads_are_refused_at_once(folder):
    with pytest.raises(TeacherError, match=r"data\.max_length: 64"):
        LocalTeacher(resolve(str(folder)), LABELS, 65)


def test_weights_that_lack_a_layer_are_refused(folder, tmp_path):
    with pytest.raises(TeacherError, match=r"lack .*layer\.2"):
        LocalTeacher(resolve(str(changed(folder, tmp_path / "copy", num_hidden_layers=3))), LABELS, MAX_LENGTH)


def test_weights_of_another_width_are_refused(folder, tmp_path):
    with pytest.raises(TeacherError, match="can't be loaded"):
        LocalTeacher(resolve(str(changed(folder, tmp_path / "copy", intermediate_size=48))), LABELS, MAX_LENGTH)


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"\x10\0\0\0\0\0\0\0{}"), ("model.safetensors", b""), ("tokenizer.json", b"{}")],
)
def test_damaged_files_are_told_and_named(folder, tmp_path, name, content):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(content)
    with pytest.raises(TeacherError, match="copy"):
        LocalTeacher(resolve(str(tmp_path / "copy")), LABELS, MAX_LENGTH)


def test_an_unknown_model_type_is_told(folder, tmp_path):
    with pytest.raises(TeacherError, match="can't be loaded"):
        LocalTeacher(resolve(str(changed(folder, tmp_path / "copy", model_type="nothing"))), LABELS, MAX_LENGTH)


def test_neighbours_are_the_most_similar_words_of_the_vocabulary(teacher):
    near = teacher.neighbours(["my card is late", ("thanks", "zzz 42")], near=3)
    vocabulary = Tokenizer.from_str(teacher.tokenizer_json).get_vocab()
    assert set(near) == {w for w in ("card", "late", "thanks") if w in vocabulary}
    words = [w for w in vocabulary if len(w) > 2 and w.isascii() and w.isalpha()]
    outputs_VH = teacher.token_outputs(np.array([vocabulary[w] for w in words]))
    outputs_VH = outputs_VH - outputs_VH.mean(0)
    outputs_VH /= np.linalg.norm(outputs_VH, axis=1, keepdims=True)
    for word, found in near.items():
        similar_V = outputs_VH @ outputs_VH[words.index(word)]
        similar_V[words.index(word)] = -2.0
        assert sorted(found) == sorted(words[i] for i in np.argsort(-similar_V)[:3])


def test_the_smallest_vocabulary_has_fewer_neighbours_than_asked_for(teacher):
    assert all(word not in found for word, found in teacher.neighbours(["card"], near=10_000).items())
