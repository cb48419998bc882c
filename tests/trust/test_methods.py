"""Certificates in expectation, and conformal sets: what they promise holds, and the command line gives them."""

import csv
import json

import numpy as np
import pytest

import small
from minikin.base import manifest
from minikin.base.errors import CertificateError
from minikin.package import kin as package
from minikin.runtimes import open as open_kin
from minikin.trust.certify import certify, conformal_sets, labels_missing

ALPHA = 0.05
TEXTS = [f"{a} {b} {c}" for a in ("card", "pin", "money", "refund") for b in ("lost", "the", "my") for c in range(60)]


def test_the_expected_share_of_wrong_answers_among_all_texts_stays_below(answers):
    world, shares = answers(np.random.default_rng(1), 6000), []
    for repeat in range(40):
        order = np.random.default_rng([3, repeat]).permutation(len(world))
        found = certify(world.take(order[:300]), ALPHA, 0.05, labels_checked=True, method="crc")
        fresh = world.take(order[300:])
        given = found.scorer.scores(*fresh.given) >= found.chosen[""].threshold
        shares.append((given & fresh.wrong_N).mean())
    assert ALPHA / 2 < np.mean(shares) <= ALPHA + 2 * np.std(shares) / np.sqrt(len(shares))
    # in expectation only: with some labels the share lies above
    assert max(shares) > ALPHA


def test_in_expectation_more_is_answered_than_with_high_probability(answers, rng):
    labelled = answers(rng, 1000)
    kept = [certify(labelled, 0.1, 0.05, labels_checked=True, method=way).coverage for way in ("crc", "ltt")]
    assert kept[0] > kept[1]
    # 1 / (n + 1) ≤ α at the least
    assert labels_missing(0, ALPHA, 0.05, method="crc") == int(np.ceil(19 / 0.7)) + 1


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_hold_the_true_class_as_often_as_promised(answers, by_class):
    world, hits, of_class = answers(np.random.default_rng(2), 4000), [], []
    for repeat in range(40):
        order = np.random.default_rng([4, repeat]).permutation(len(world))
        sets = conformal_sets(world.take(order[:400]), 0.8, by_class)
        fresh = world.take(order[400:])
        known = fresh.labels_N >= 0
        inside = 1 - fresh.probabilities_NC <= sets.quantiles_C
        hit = inside[np.arange(len(fresh)), fresh.labels_N][known]
        hits.append(hit.mean())
        of_class.append([hit[fresh.labels_N[known] == c].mean() for c in range(6)])
    assert 0.79 < np.mean(hits) < 0.84
    if by_class:
        assert np.mean(of_class, axis=0).min() > 0.79


def test_too_few_labels_for_any_set_are_told(answers, rng):
    with pytest.raises(CertificateError, match="at least 99 labelled texts of a class"):
        conformal_sets(answers(rng, 60), 0.99, True)


@pytest.fixture
def kin(tmp_path):
    """A toy kin, and labels that are its own answers, some changed where it is unsure."""
    folder = tmp_path / "kin"
    folder.mkdir()
    package.write(folder, small.static(seed=1), recipe_yaml="task: classify\n", extra={"name": "toy"})
    made = open_kin(folder)
    p = np.asarray(made.probabilities(TEXTS))
    labels = p.argmax(1)
    changed = np.random.default_rng(0).choice(np.argsort(p.max(1))[:200], 90, replace=False)
    labels[changed] = (labels[changed] + 1) % p.shape[1]
    with (tmp_path / "labelled.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        writer.writerows(zip(TEXTS, [made.labels[i] for i in labels], strict=True))
    return folder


def certified(say, kin, *more):
    done = say("certify", kin, "--on", kin.parent / "labelled.csv", "--risk", "10%", "--labels-checked", *more)
    value = json.loads((kin / manifest.CERTIFICATE).read_text()) if done.exit_code == 0 else {}
    return done.exit_code, " ".join(done.output.split()), value


def test_candidates_come_with_each_answer(say, kin):
    _, told, value = certified(say, kin, "--sets", "90%")
    assert "hold the true one in 90 %" in told
    assert "candidates hold the true label in at least 90 %" in " ".join(value["promises"])
    made = open_kin(kin)
    p = np.asarray(made.probabilities(TEXTS))
    q = np.array(value["sets"]["quantiles"])
    for row, answer in zip(p, made(TEXTS), strict=True):
        inside = np.flatnonzero(1 - row.astype(np.float64) <= q)
        assert sorted(answer.candidates) == sorted(made.labels[i] for i in inside)
        assert not answer.candidates or answer.candidates[0] == answer.label
    assert np.mean([len(a.candidates) for a in made(TEXTS)]) == pytest.approx(value["sets"]["mean_size"], abs=1e-6)
    row = json.loads(say("run", kin, TEXTS[0]).stdout)
    assert row["candidates"] == list(made(TEXTS[0]).candidates)
    (kin.parent / "handover.yaml").write_text("audit: {share: 0}\n")
    said = say("run", kin, *TEXTS, "--hand-over", kin.parent / "handover.yaml").stdout
    rows = [json.loads(line) for line in said.splitlines()]
    assert {r["handed_over"] for r in rows} == {True, False}
    assert [r.get("candidates", []) for r in rows] == [list(a.candidates) for a in made(TEXTS)]


def test_a_class_with_too_few_texts_is_always_a_candidate(say, kin):
    _, _, value = certified(say, kin, "--sets", "99%", "--by-class")
    counts = {name: 0 for name in open_kin(kin).labels}
    with (kin.parent / "labelled.csv").open() as handle:
        for row in csv.DictReader(handle):
            counts[row["label"]] += 1
    few = [name for name, n in counts.items() if n < 99]
    assert few
    assert value["sets"]["by_class"]
    assert all(set(few) <= set(answer.candidates) for answer in open_kin(kin)(TEXTS[:50]))


def test_in_expectation_by_the_command_line(say, kin):
    _, told, value = certified(say, kin, "--method", "crc")
    assert "of all texts at most 10 % answered wrongly, in expectation" in told
    assert value["method"] == "crc"
    assert value["audit"] == []
    assert "in expectation" in value["promises"][0]
    assert any("with these very labels" in line for line in value["does_not_promise"])
    assert {answer.certified for answer in open_kin(kin)(TEXTS)} == {True, False}
    # an audit of answers tests another promise
    (kin.parent / "handover.yaml").write_text("audit: {share: 1}\n")
    refused = say("audit", kin, "--hand-over", kin.parent / "handover.yaml")
    assert refused.exit_code == 2
    assert "can't be audited" in refused.output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--method", "hope"), "give one of ltt, crc"),
        (("--sets", "2"), "give a share"),
        (("--by-class",), "give a share with --sets"),
        (("--verdict", "label"), "for kins that write"),
    ],
)
def test_bad_options_are_told(say, kin, more, words):
    code, told, _ = certified(say, kin, *more)
    assert code == 2
    assert words in told
    assert not (kin / manifest.CERTIFICATE).exists()
