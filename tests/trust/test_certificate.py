import datetime
import json
import math
import shutil
import time

import numpy as np
import pytest

import small
from minikin.base import atomic, manifest, tensors
from minikin.base.errors import KinError
from minikin.commands.trust import familiar_to
from minikin.package import kin as package
from minikin.runtimes import open as open_kin
from minikin.trust import certificate
from minikin.trust.certify import Labelled, certify
from minikin.trust.guard import BELOW, MISSING, NAMELESS, Guard
from minikin.trust.words import table

TODAY = datetime.date(2030, 5, 1)
TEXTS = [f"{a} {b} {c}" for a in ("card", "pin", "money", "refund") for b in ("lost", "the", "my") for c in range(60)]


@pytest.fixture(scope="module")
def certified_kin(tmp_path_factory):
    """A toy kin whose own answers are the labels, a few changed, certified on them."""
    folder = tmp_path_factory.mktemp("kins") / "kin"
    folder.mkdir()
    words = table(TEXTS[::9], np.arange(len(TEXTS[::9])) % 2)
    known = np.arange(3, dtype=np.uint64)
    student, extra = small.static(seed=1), {"name": "toy"}
    package.write(folder, student, recipe_yaml="task: classify\n", extra=extra, trained_on=known)
    package.remember(folder, {"bits_B": words})
    certify_folder(folder)
    return folder


def certify_folder(folder, groups=None, today=TODAY):
    kin = open_kin(folder)
    p, h = kin.both(TEXTS)
    labels = p.argmax(1)
    rng = np.random.default_rng(0)
    p = np.asarray(p)
    unsure = np.argsort(p.max(1))[:200]
    changed = rng.choice(unsure, 90, replace=False)
    labels[changed] = (labels[changed] + 1) % p.shape[1]
    familiar_N2 = familiar_to(kin, TEXTS, p)
    found = certify(Labelled(p, h, labels, groups_N=groups, familiar_N2=familiar_N2), 0.1, 0.1, labels_checked=True)
    source = certificate.Source("0" * 64, 2, True, "labelled.csv")
    return certificate.write(folder, kin.manifest, found, source, engine=kin.engine, today=today, days=30)


@pytest.fixture
def folder(certified_kin, tmp_path):
    return shutil.copytree(certified_kin, tmp_path / "kin")


def test_a_certificate_holds_and_decides_as_it_counted(folder):
    guard = Guard.of(folder, TODAY)
    assert (guard.state, guard.reason, guard.alpha, guard.delta) == ("certified", "", 0.1, 0.1)
    kin = open_kin(folder)
    p, h = kin.both(TEXTS)
    scores, accepted = guard.decide(p, h, TEXTS)
    assert 0 < accepted.sum() < len(TEXTS)
    assert (accepted == (scores >= guard.value["lambda"])).all()
    assert guard.value["bound"] <= 0.1
    assert guard.value["k"] <= guard.value["n"] <= guard.value["labels"]["certified"]
    assert len(guard.calibration_scores_N) == guard.value["labels"]["certified"]
    reasons = [guard.one(p[i], h[i], int(p[i].argmax()), float(p[i].max()), TEXTS[i]) for i in range(len(p))]
    assert np.mean([not r for r in reasons] == accepted) > 0.995
    assert [guard.why(float(s)) for s in scores] == ["" if a else BELOW for a in accepted]


def test_the_certificate_says_everything(folder):
    value = json.loads((folder / manifest.CERTIFICATE).read_text())
    assert set(value["sha256"]) == {"weights", "tokenizer", "preprocessing", "grid", "calibration", "scorer"}
    assert value["valid"] == {"from": "2030-05-01", "until": "2030-05-31"}
    assert [row["expected_answers"] for row in certificate.delays(0.02, 0.05)] == [378, 36]
    assert set(value["evidence"]["ece"]) >= {"as it is", "temperature", "isotonic", "score"}
    assert set(value["evidence"]["auroc"]) >= {
        "max_probability",
        "energy",
        "mahalanobis",
        "nearest_neighbour",
        "combined",
    }
    words = " ".join([*value["promises"], *value["does_not_promise"]])
    for word in ("10 %", "90 %", "2030-05-31", "exchangeable", "deceive", "out of scope"):
        assert word in words
    arrays, _ = tensors.read(folder / manifest.SCORER)
    assert (np.diff(arrays["grid_J"]) < 0).all()


@pytest.mark.parametrize(
    ("day", "state", "words"),
    [
        (TODAY, "certified", ""),
        (datetime.date(2030, 5, 31), "certified", ""),
        (datetime.date(2030, 6, 1), "void", "expired on 2030-05-31"),
        (datetime.date(2030, 4, 30), "void", "begins on 2030-05-01"),
    ],
)
def test_days(folder, day, state, words):
    guard = Guard.of(folder, day)
    assert guard.state == state
    assert words in guard.reason
    p, h = open_kin(folder).both(TEXTS[:50])
    assert guard.decide(p, h, TEXTS[:50])[1].any() == (state == "certified")


def test_it_expires_while_it_is_in_use(folder, monkeypatch):
    guard = Guard.of(folder, datetime.date(2030, 5, 31))
    assert guard.state == "certified"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    p, h = open_kin(folder).both(["pin"])
    assert "expired" in guard.one(p[0], h[0], 0, 0.5, TEXTS[0])
    assert guard.state == "void"


def edit(key, value):
    def do(folder):
        path = folder / manifest.CERTIFICATE
        held = json.loads(path.read_text())
        held[key] = value
        atomic.write_json(path, held)

    return do


def append(name):
    def do(folder):
        with (folder / name).open("ab") as handle:
            handle.write(b" ")

    return do


def overwrite(name, content):
    return lambda folder: (folder / name).write_bytes(content)


SPOILT = [
    (edit("lambda", -50.0), "edited"),
    (edit("valid", {"from": "2030-05-01", "until": "2999-01-01"}), "edited"),
    (lambda f: (f / manifest.CERTIFICATE).unlink(), "no certificate"),
    (lambda f: (f / manifest.SCORER).unlink(), "missing"),
    (append(manifest.SCORER), "was changed"),
    (append("tokenizer.json"), "the tokenizer changed"),
    (append("config.json"), "configuration changed"),
    (append("model.safetensors"), "the weights changed"),
    (overwrite(manifest.CERTIFICATE, b"{"), "damaged"),
    (overwrite(manifest.CERTIFICATE, b"[]"), "no certificate"),
    (overwrite(manifest.CERTIFICATE, b"\xff\xfe"), "damaged"),
    (overwrite(manifest.CERTIFICATE, b"[" * 100_000), "damaged"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_whatever_does_not_fit_voids_it_aloud(folder, spoil, words):
    spoil(folder)
    guard = Guard.of(folder, TODAY)
    assert guard.state == "void"
    assert words in guard.reason
    p = np.array([[0.99, 0.01]])
    assert not guard.decide(p, np.ones((1, 3)), TEXTS[:1])[1].any()
    told = guard.reason if guard.reason == MISSING else "void"
    assert told in guard.why(1.0)
    assert told in guard.one(p[0], None, 0, 0.99, TEXTS[0])


def test_another_engine_is_not_what_was_certified(folder):
    made_with = open_kin(folder).engine
    assert Guard.of(folder, TODAY, engine=made_with).state == "certified"
    guard = Guard.of(folder, TODAY, engine="torch")
    assert guard.state == "void"
    assert "engine" in guard.reason


def test_a_folder_that_is_no_kin_is_an_error(tmp_path):
    with pytest.raises(KinError):
        Guard.of(tmp_path)


def test_groups_have_thresholds_of_their_own(folder):
    groups = np.array(["shop", "bank", "web"])[np.arange(len(TEXTS)) % 3]
    value = certify_folder(folder, groups)
    assert value["lambda"] is None
    assert set(value["groups"]) == {"shop", "bank", "web"}
    guard = Guard.of(folder, TODAY)
    p, h = open_kin(folder).both(TEXTS)
    assert guard.state == "certified"
    assert not guard.decide(p, h, TEXTS)[1].any()
    _, accepted = guard.decide(p, h, TEXTS, groups.tolist())
    assert accepted.any()
    assert not guard.decide(p, h, TEXTS, ["elsewhere"] * len(p))[1].any()
    assert guard.why(99.0) == NAMELESS
    assert "not on the certificate" in guard.why(99.0, "elsewhere")


def test_numbers_that_are_none_are_not_covered(folder):
    guard = Guard.of(folder, TODAY)
    p, h = open_kin(folder).both(TEXTS[:3])
    p, h = np.array(p), np.array(h)
    h[0] = math.nan
    p[1] = math.nan
    accepted = guard.decide(p, h, TEXTS[:3])[1]
    assert not accepted[:2].any()
    assert guard.one(p[0], h[0], 0, float(p[0].max()), TEXTS[0]) == BELOW


def test_a_kin_says_of_each_answer_whether_it_is_covered(certified_kin, tmp_path):
    folder = shutil.copytree(certified_kin, tmp_path / "kin")
    plain = open_kin(folder)("my pin is lost")
    assert not plain.certified
    assert "begins on 2030-05-01" in plain.reason
    certify_folder(folder, today=datetime.datetime.now(datetime.UTC).date())
    kin = open_kin(folder)
    answers = kin(TEXTS)
    assert {a.certified for a in answers} == {True, False}
    assert all(a.certified == (a.reason == "") for a in answers)
    assert [kin(t).certified for t in TEXTS[:20]] == [a.certified for a in answers[:20]]
    (folder / manifest.CERTIFICATE).unlink()
    bare = open_kin(folder)("my pin is lost")
    assert (bare.certified, bare.reason) == (False, "")


@pytest.mark.parametrize("engine", ["kernel", "onnx"])
@pytest.mark.parametrize("family", ["static", "encoder"])
@pytest.mark.parametrize("pair", [False, True])
def test_engines_give_both_at_once(tmp_path, engine, family, pair):
    package.write(tmp_path, getattr(small, family)(pair=pair), recipe_yaml="", extra={"pair": pair})
    if engine == "kernel" and manifest.read(tmp_path).kernel is None:
        pytest.skip("this toy has no kernel file")
    kin = open_kin(tmp_path, engine=engine)
    texts = [(t, "pin") if pair else t for t in ("card", "my pin is lost", "where is my money, please?")]
    p, h = kin.both(texts)
    assert p == pytest.approx(kin.probabilities(texts), abs=1e-6)
    assert h == pytest.approx(kin.both(texts)[1], abs=1e-6)
    assert [len(x) for x in kin.both([])] == [0, 0]
    assert kin.both(texts[:1])[1].shape[1] == h.shape[1]


def test_the_writer_of_arrays_is_read_back(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array([1, 2], np.uint64), "c": np.zeros(0)}
    (tmp_path / "x.safetensors").write_bytes(tensors.save(arrays))
    held, _ = tensors.read(tmp_path / "x.safetensors")
    from safetensors.numpy import load_file

    theirs = load_file(tmp_path / "x.safetensors")
    for name, value in arrays.items():
        assert held[name].dtype == theirs[name].dtype == value.dtype
        assert (held[name] == value).all()
        assert (theirs[name] == value).all()
