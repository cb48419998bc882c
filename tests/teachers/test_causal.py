import json

import numpy as np
import pytest

import causal
import talk
from minikin.base.errors import TeacherError
from minikin.compress import vocabulary
from minikin.package import transformers as package
from minikin.teachers.causal import read
from minikin.teachers.resolve import resolve


@pytest.fixture
def folder(tmp_path):
    package.write(tmp_path / "t", causal.student())
    return tmp_path / "t"


def test_it_is_read_with_its_own_template(folder):
    teacher = read(resolve(str(folder)), 32)
    assert teacher.tokenizer_config["chat_template"] == talk.CHATML
    for name, tensor in causal.student().tensors.items():
        assert np.array_equal(teacher.tensors[name], tensor)


def test_it_can_be_cut_and_trimmed_as_a_value(folder):
    student = read(resolve(str(folder)), 32)
    new_json, kept_ids = vocabulary.trim(student.tokenizer_json, ["play jazz"])
    trimmed = vocabulary.apply(student, kept_ids, new_json)
    assert student.max_length == 32
    assert trimmed.tensors["model.embed_tokens.weight"].shape[0] == len(kept_ids) < 300


def test_weights_in_several_files_are_found_by_their_index(tmp_path):
    model = causal.model_of("llama")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / "tokenizer.json").write_text(talk.byte_level(297))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(talk.byte_config()))
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1
    one = resolve(str(tmp_path))
    assert read(one, 32).parameters == causal.student().parameters
    parts[0].unlink()
    with pytest.raises(TeacherError, match="lacks model"):
        resolve(str(tmp_path))


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(TeacherError, match="at most 64 tokens"):
        read(resolve(str(folder)), 65)
    (folder / "tokenizer.json").write_text(talk.byte_level(420))
    with pytest.raises(TeacherError, match="belong together"):
        read(resolve(str(folder)), 32)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TeacherError, match="can't be loaded"):
        read(resolve(str(folder)), 32)
