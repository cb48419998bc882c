import pytest

from minikin.base.errors import KinError, TeacherError
from minikin.measure.footprint import size_mib, teacher_size_mib


def put(folder, **sizes):
    for name, size in sizes.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(b"x" * size)


def test_counts_only_what_is_loaded(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"x" * 2**19)
    put(tmp_path, tokenizer__json=2**18, README__md=2**22)
    assert size_mib(tmp_path, ["onnx/model.onnx", "tokenizer.json"]) == 0.75


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KinError, match=r"tokenizer\.json is missing"):
        size_mib(tmp_path, ["tokenizer.json"])


def test_a_teacher_counts_one_format_of_weights_and_one_tokenizer(tmp_path):
    put(tmp_path, model__safetensors=2**20, pytorch_model__bin=2**21, tokenizer__json=2**19, vocab__txt=2**18)
    assert teacher_size_mib(tmp_path) == 1.5


def test_a_teacher_in_shards(tmp_path):
    put(tmp_path, **{"model-1__safetensors": 2**20, "model-2__safetensors": 2**20, "vocab__txt": 2**19})
    assert teacher_size_mib(tmp_path) == 2.5


def test_a_teacher_without_weights_is_refused(tmp_path):
    put(tmp_path, tokenizer__json=10)
    with pytest.raises(TeacherError, match="holds no weights"):
        teacher_size_mib(tmp_path)
