import json

import numpy as np
import pytest
import torch

import causal
import talk
from minikin.base.errors import TeacherError
from minikin.compress import vocabulary
from minikin.package import transformers as package
from minikin.teachers.causal import CausalTeacher
from minikin.teachers.resolve import resolve

PAIR = [{"role": "user", "content": "play jazz"}, {"role": "assistant", "content": "jazz"}]


@pytest.fixture
def folder(tmp_path):
    package.write(tmp_path / "t", causal.student())
    return tmp_path / "t"


def test_it_is_found_loaded_and_read_with_its_own_template(folder):
    teacher = CausalTeacher(resolve(str(folder)), 32)
    spoken = teacher.speaker.chats([PAIR])[0]
    with torch.no_grad():
        logits = teacher.module(torch.from_numpy(spoken.ids_T)[None], torch.ones(1, len(spoken.ids_T)))
    assert logits.shape == (1, len(spoken.ids_T), 300)
    assert teacher.tokenizer_config["chat_template"] == talk.CHATML


def test_rows_that_only_pad_the_table_are_no_pieces(tmp_path):
    package.write(tmp_path, causal.student("llama", vocab_size=320))
    assert CausalTeacher(resolve(str(tmp_path)), 32).token_embeddings().shape == (300, 32)


def test_it_can_be_cut_and_trimmed_as_a_value(folder):
    student = CausalTeacher(resolve(str(folder)), 32).as_student()
    new_json, kept_ids = vocabulary.trim(student.tokenizer_json, ["play jazz"])
    trimmed = vocabulary.apply(student, kept_ids, new_json)
    assert student.max_length == 32
    assert trimmed.tensors["model.embed_tokens.weight"].shape[0] == len(kept_ids) < 300


def test_tuned_weights_come_back_and_change_the_digest(folder, tmp_path):
    teacher = CausalTeacher(resolve(str(folder)), 32)
    before = teacher.digest
    with torch.no_grad():
        for parameter in teacher.module.parameters():
            parameter.mul_(1.5)
    (tmp_path / "tuned").mkdir()
    teacher.save(tmp_path / "tuned")
    other = CausalTeacher(resolve(str(folder)), 32).load(tmp_path / "tuned")
    assert other.digest != before
    for name, value in teacher.as_student().tensors.items():
        assert np.array_equal(value, other.as_student().tensors[name])


def test_weights_in_several_files_are_found_by_their_index(tmp_path):
    model = causal.model_of("llama")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / "tokenizer.json").write_text(talk.byte_level(297))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(talk.byte_config()))
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1
    one = resolve(str(tmp_path))
    assert CausalTeacher(one, 32).as_student().parameters == causal.student().parameters
    parts[0].unlink()
    with pytest.raises(TeacherError, match="lacks model"):
        resolve(str(tmp_path))


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(TeacherError, match="at most 64 tokens"):
        CausalTeacher(resolve(str(folder)), 65)
    (folder / "tokenizer.json").write_text(talk.byte_level(420))
    with pytest.raises(TeacherError, match="belong together"):
        CausalTeacher(resolve(str(folder)), 32)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TeacherError, match="can't be loaded"):
        CausalTeacher(resolve(str(folder)), 32)


def test_other_weights_are_not_taken_back(folder, tmp_path):
    teacher = CausalTeacher(resolve(str(folder)), 32)
    package.write(tmp_path / "other", causal.student("gpt_neox"))
    with pytest.raises(TeacherError, match="another teacher"):
        teacher.load(tmp_path / "other")
