import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from minikin.base.errors import RecipeError
from minikin.recipe.read import dump, of_values, read

GOOD = """\
# what a first recipe looks like
task: classify
data:
  train: sub/train.csv
  test: hf:owner/name:test
  label: category
teacher: sentence-transformers/all-MiniLM-L6-v2
budget:
  size_mib: 2
  keep: 0.98
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _read(folder: Path, text: str | bytes, *overrides: str):
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, overrides)


def _faults(folder: Path, text: str | bytes, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as raised:
        _read(folder, text, *overrides)
    return raised.value.faults


def test_a_good_recipe(folder: Path) -> None:
    recipe = _read(folder, GOOD)
    assert recipe.data.train == str(folder / "sub" / "train.csv")
    assert recipe.data.test == "hf:owner/name:test"
    assert recipe.data.validation is None
    assert recipe.teacher is not None
    assert recipe.teacher.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert (recipe.budget.size_mib, recipe.budget.keep, recipe.budget.memory_mib) == (2, 0.98, None)


def test_paths_follow_the_recipe_not_the_shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a" / "my-teacher").mkdir(parents=True)
    (folder / "a" / "recipe.yaml").write_text("data: {train: ../x.csv, unlabelled: /abs/y.csv}\nteacher: my-teacher\n")
    monkeypatch.chdir(folder)
    recipe = read("a/recipe.yaml")
    assert (recipe.data.train, recipe.data.unlabelled) == (str(folder / "x.csv"), "/abs/y.csv")
    assert recipe.teacher is not None
    assert recipe.teacher.model == str(folder / "a" / "my-teacher")


def test_all_faults_at_once_with_lines_in_order(folder: Path) -> None:
    text = """\
task: clasify
data:
  trian: a.csv
  max_length: lots
budget:
  size_mb: 2
  keep: 3
student:
  size: tinny
  heads: 5
  hidden: 64
quantise: int8
size_mib: 3
prune: 3
distil:
  objectives:
    - {name: kl, weigth: 1}
    - name: hiden
      weight: -1
"""
    assert _faults(folder, text) == [
        "line 1: task: 'clasify' is none of classify, generate, did you mean 'classify'?",
        "line 2: data.train: is missing: File (CSV, TSV, JSONL, Parquet) or hf:owner/name[:config][:split]",
        "line 3: data.trian: unknown key, did you mean 'train'?",
        "line 4: data.max_length: expected a whole number, got 'lots'",
        "line 6: budget.size_mb: unknown key, did you mean 'size_mib'?",
        "line 7: budget.keep: should be less than or equal to 1.1, got 3",
        "line 9: student.size: no size 'tinny'; did you mean 'tiny'? "
        "The sizes are pico, nano, micro, tiny, slim, lean, mini, small, medium",
        "line 10: student.heads: hidden 64 can't be divided among 5 heads",
        "line 12: quantise: unknown key, did you mean 'quantize'?",
        "line 13: size_mib: unknown key, did you mean 'budget.size_mib'?",
        "line 14: prune: expected keys with values, got 3",
        "line 17: distil.objectives.0.weigth: unknown key, did you mean 'weight'?",
        "line 18: distil.objectives.1.name: 'hiden' is none of kl, reverse_kl, js, skew_kl, uld, mse, gold, prompt, "
        "pooled, hidden, attention, relations, rkd_distance, rkd_angle, did you mean 'hidden'?",
        "line 19: distil.objectives.1.weight: should be greater than 0, got -1",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD + "seed: 1\nseed: 2\n", "line 12: seed: stands on line 11 already"),
        (GOOD + "data:\n  train: b.csv\n", "line 11: data: stands on line 3 already"),
        (GOOD + "seed: no\n", "line 11: seed: expected a whole number, got False"),
        (GOOD.replace("size_mib: 2", "size_mib: on"), "line 9: budget.size_mib: expected a number, got True"),
        (GOOD + "name: no\n", "line 11: name: expected text, got False; put it in quotes"),
        (GOOD + "train: {threads: 0}\n", "line 11: train.threads: should be greater than or equal to 1, got 0"),
        (GOOD.replace("size_mib: 2", "size_mib: 2 MB"), "line 9: budget.size_mib: expected a number, got '2 MB'"),
        (GOOD.replace("size_mib: 2", "size_mib: .inf"), "line 9: budget.size_mib: should be a finite number, got inf"),
        (GOOD.replace("size_mib: 2", "size_mib: 0"), "line 9: budget.size_mib: should be greater than 0, got 0"),
        (GOOD.replace("sub/train.csv", ""), "line 4: data.train: expected text, got nothing"),
        ("data: a.csv\n", "line 1: data: expected keys with values, got 'a.csv'"),
        ("task: classify\n", "data: is missing: Where the examples are"),
        ("data: {train: a}\nteacher: {epochs: 2}\n", "line 2: teacher.model: is missing: Folder, Hub name, or"),
        ("data: {train: a}\nteacher: [a]\n", "line 2: teacher: expected keys with values, got ['a']"),
        ("data: {train: a, text: [a, b, c]}\n", "line 1: data.text: give the name of one column, or a list of two"),
        ("data: {train: a}\nteacher: t\ndistil: {objectives: []}\n", "line 3: distil.objectives: list should have"),
        ("data: {train: a}\nzzzz: 1\n", "line 2: zzzz: unknown key; the keys here are task, name, data"),
        ("data: {train: a}\n5: 1\n", "line 2: 5: unknown key"),
    ],
)
def test_single_faults(folder: Path, text: str, fault: str) -> None:
    (found,) = _faults(folder, text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "is a list"),
        ("classify\n", "is a single value"),
        ("a: [1\nb: 2\n", "line 2, column"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: !!python/object:os.system {}\n", "line 1"),
        ("a: &x [*x]\n", "contains itself"),
        ("a\tb: \x00\n", "not valid YAML"),
        ("[" * 1000, "not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
    ],
)
def test_what_is_no_recipe_at_all(folder: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        _read(folder, text)


def test_missing_file_and_folder(folder: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        read(folder / "recipe.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        read(folder)


def test_overrides_lie_over_the_file(folder: Path) -> None:
    recipe = _read(
        folder,
        GOOD,
        "budget.size_mib=0.5",
        "teacher.epochs=3",
        "train.threads=2",
        "student={family: static}",
        "data.test=null",
        "name=a=b",
    )
    assert recipe.budget.size_mib == 0.5
    assert recipe.budget.keep == 0.98
    assert recipe.teacher is not None
    assert (recipe.teacher.model, recipe.teacher.epochs) == ("sentence-transformers/all-MiniLM-L6-v2", 3)
    assert (recipe.train.threads, recipe.student.family, recipe.data.test, recipe.name) == (2, "static", None, "a=b")


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("budget.size_mb=1", "--set budget.size_mb: unknown key, did you mean 'size_mib'?"),
        ("budget.size_mib=big", "--set budget.size_mib: expected a number, got 'big'"),
        ("latency_ms_p95=1", "--set latency_ms_p95: unknown key, did you mean 'budget.latency_ms_p95'?"),
        ("budget.size_mib", "--set budget.size_mib: write it as key.sub=value"),
        ("=1", "--set =1: write it as key.sub=value"),
        ("a..b=1", "--set a..b=1: write it as key.sub=value"),
        ("seed=[1", "--set seed=[1: '[1' is not valid YAML; put it in quotes"),
        ("seed.x=1", "--set seed: expected a whole number, got {'x': 1}"),
    ],
)
def test_faults_of_overrides(folder: Path, override: str, fault: str) -> None:
    assert _faults(folder, GOOD, override) == [fault]


def test_a_byte_order_mark_and_empty_sections_are_fine(folder: Path) -> None:
    recipe = _read(folder, b"\xef\xbb\xbf" + GOOD.encode() + b"gate:\nstudent:\nprune: ~\n")
    assert recipe.gate.parity_texts == 200


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "data: {train: a, text: [a, b]}\n",
        "data: {train: a}\nteacher: t\nname: ünï\n"
        "distil: {objectives: [{name: relations, weight: 0.5, layers: {0: 2, 1: 5}}, {name: kl}]}\n",
    ],
)
def test_dump_reads_back_as_the_same(folder: Path, text: str) -> None:
    recipe = _read(folder, text)
    dumped = dump(recipe)
    assert _read(folder, dumped) == recipe
    assert dump(_read(folder, dumped)) == dumped
    assert list(yaml.safe_load(dumped)) == list(type(recipe).model_fields)


def test_of_values_leaves_what_it_was_given() -> None:
    values = {"data": {"train": "a.csv"}, "teacher": "t", "student": None}
    assert of_values(values).data.train == "a.csv"
    assert values == {"data": {"train": "a.csv"}, "teacher": "t", "student": None}
    with pytest.raises(RecipeError) as raised:
        of_values({"data": {"train": "a.csv", "lable": "x"}})
    assert raised.value.faults == ["data.lable: unknown key, did you mean 'label'?"]


def test_importing_the_recipe_loads_nothing_heavy() -> None:
    code = "import sys, minikin.recipe.read; print([m for m in ('numpy', 'torch', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
