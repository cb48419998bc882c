"""Every recipe that ships: it reads, it describes students that exist, and each distinct kind of it really builds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

import minikin
from minikin.base.errors import RecipeError
from minikin.measure import speed
from minikin.recipe.read import dump, of_values, read
from minikin.recipe.schema import Recipe
from minikin.steps.fit import candidates_of
from toys import LABELS, toy_checkpoint, toy_csv

ROOT = Path(__file__).resolve().parents[2]
BOX = ROOT / "src" / "minikin" / "box" / "helpdesk" / "recipe.yaml"
SHIPPED = [*sorted((ROOT / "recipes").glob("*.yaml")), *sorted((ROOT / "bench" / "recipes").glob("*.yaml")), BOX]
MINILM = (6, 384, 12, 1536)
TOY = (2, 32, 2, 64)

QUICK = (
    "budget={}",
    "distil.epochs=1",
    "train.batch=32",
    "train.threads=1",
    "gate.skip_control=true",
    "gate.max_flips=1.0",
    "quantize=int8",
    "data.max_length=24",
)
"""Overrides that make any recipe a matter of a second; what they leave alone is the recipe's own."""


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def test_there_are_recipes_to_look_at() -> None:
    assert {p.stem for p in SHIPPED} >= {
        "helpdesk",
        "banking77",
        "sst2",
        "clinc150",
        "mrpc",
        "gold-only",
        "static-only",
    }
    assert {p.stem for p in SHIPPED if p.parent.parent.name == "bench"} == {
        "banking77",
        "clinc150",
        "clinc150_oos",
        "glue_mrpc",
        "glue_sst2",
        "tinystories",
        "wikitext2",
    }


@pytest.mark.parametrize("path", SHIPPED, ids=identity)
def test_reads_and_proposes_students(path: Path) -> None:
    recipe = read(path)
    shape = MINILM if recipe.teacher else None
    found = candidates_of(recipe, shape)
    assert found, "the recipe allows no student at all"
    if recipe.student.family != "auto":
        assert {c.family for c in found} == {recipe.student.family}
    if recipe.student.start == "cut":
        assert {c.start for c in found} == {"cut"}
    if recipe.quantize != "auto":
        assert {c.schemes for c in found} == {(recipe.quantize,)}


@pytest.mark.parametrize("path", SHIPPED, ids=identity)
def test_says_what_it_is_for_and_survives_its_own_dump(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "a shipped recipe opens with a comment"
    recipe = read(path)
    assert of_values(yaml.safe_load(dump(recipe))) == recipe


@pytest.mark.parametrize("path", SHIPPED, ids=identity)
def test_local_data_is_where_the_recipe_says(path: Path) -> None:
    data = read(path).data
    files = [f for f in (data.train, data.test, data.validation) if f and not f.startswith("hf:")]
    for file in files:
        made_by_bench = (ROOT / "bench" / "runs") in Path(file).resolve().parents
        assert made_by_bench or Path(file).is_file()


def test_a_slip_in_a_shipped_recipe_would_be_noticed(tmp_path: Path) -> None:
    slipped = tmp_path / "recipe.yaml"
    slipped.write_text(BOX.read_text(encoding="utf-8").replace("budget:", "budgte:"), encoding="utf-8")
    with pytest.raises(RecipeError, match="budgte"):
        read(slipped)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    toy_csv(folder, 160)
    toy_csv(folder, 160, pair=True)
    toy_checkpoint(folder / "teacher")
    return folder


def on_toys(path: Path, toy: Path, more: Sequence[str] = ()) -> Recipe:
    """The recipe with its data, its teacher and its size exchanged for toys."""
    shipped = read(path)
    pair = not isinstance(shipped.data.text, str)
    data = toy / ("pairs.csv" if pair else "data.csv")
    overrides = [*QUICK, f"data={{train: {data}, text: {'[left, right]' if pair else 'text'}, max_length: 24}}"]
    if shipped.teacher:
        overrides += [
            f"teacher.model={toy / 'teacher'}",
            "teacher.epochs=1",
            "teacher.revision=null",
            "distil.augment=1",
        ]
    if shipped.student.family != "static" and shipped.teacher:
        overrides += [
            "student.embedding=null",
            "student.layers=1",
            "student.hidden=32",
            "student.feed_forward=32",
            "student.heads=2",
        ]
        overrides += [] if shipped.student.family == "encoder" else ["student.family=encoder"]
    return read(path, [*overrides, *more])


@pytest.mark.parametrize("path", [path for path in SHIPPED if read(path).task == "classify"], ids=identity)
def test_fits_toy_data_with_a_few_overrides(path: Path, toy: Path) -> None:
    recipe = on_toys(path, toy)
    assert len(candidates_of(recipe, TOY if recipe.teacher else None)) == 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing that takes a few calls only: what is timed here, nobody reads."""
    latency, throughput = speed.latency, speed.throughput
    monkeypatch.setattr(speed, "_no_collection", nullcontext)
    monkeypatch.setattr(speed, "latency", lambda kin, texts, **_: latency(kin, texts, warmup=1, repeats=3, seconds=1.0))
    monkeypatch.setattr(speed, "throughput", lambda kin, texts, **_: throughput(kin, texts, seconds=0.0))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", ["sst2", "mrpc", "gold-only", "static-only"])
def test_builds_end_to_end(name: str, toy: Path, tmp_path: Path) -> None:
    shipped = read(ROOT / "recipes" / f"{name}.yaml")
    kin = minikin.build(on_toys(ROOT / "recipes" / f"{name}.yaml", toy), tmp_path / "kin", quiet=True)
    assert set(kin.labels) == set(LABELS)
    assert kin.manifest.pair == (name == "mrpc")
    assert kin.manifest.family == ("static" if name == "static-only" else "encoder")
    assert (kin.manifest.raw["teacher"] is None) == (shipped.teacher is None)
    text = ("my parcel is late", "where is it?") if name == "mrpc" else "my parcel is late"
    assert kin(text).label in LABELS


@pytest.mark.usefixtures("hasty")
def test_student_seed_leaves_the_teacher_alone(toy: Path, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "helpdesk.yaml"
    run = tmp_path / "run"
    kins = [
        minikin.build(on_toys(recipe, toy, [f"distil.seed={seed}"]), tmp_path / f"kin{seed}", run=run, quiet=True)
        for seed in (1, 2)
    ]
    steps = sorted(p.parent.name.rsplit("-", 1)[0] for p in run.glob("*/step.json"))
    assert steps.count("teacher") == steps.count("signals") == steps.count("plan") == 1
    assert steps.count("student") == 2
    weights = [kin.manifest.raw["files"][kin.manifest.model]["sha256"] for kin in kins]
    assert weights[0] != weights[1]
    assert [kin.manifest.raw["seeds"]["student"] for kin in kins] == [1, 2]
    assert kins[0].manifest.raw["seeds"]["recipe"] == 0
