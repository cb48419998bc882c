"""Candidates: what a teacher's shape allows, and forecasts that are near the packaged size."""

from __future__ import annotations

import json

import pytest

from minikin.compress.quantize import quantize
from minikin.package import kin as package
from minikin.plan.candidates import BITS, SHALLOW, Candidate, propose
from minikin.runtimes import open as open_kin
from small import encoder, static, tokenizer_json, vocabulary_size

MINILM = (6, 384, 12, 1536)


def test_names_are_unique():
    found = propose(["static", "encoder"], ["cut", "grown"], MINILM)
    assert len({c.name for c in found}) == len(found)
    assert {(c.family, c.start) for c in found} == {("static", "grown"), ("encoder", "cut"), ("encoder", "grown")}


@pytest.mark.parametrize("shape", [MINILM, (2, 128, 2, 512), (12, 768, 12, 3072), (1, 32, 2, 64)])
def test_cuts_fit_into_their_teacher(shape):
    layers, hidden, heads, neurons = shape
    for c in propose(["encoder"], ["cut"], shape):
        assert c.layers <= layers
        assert c.hidden <= hidden
        assert c.feed_forward <= neurons
        assert c.hidden == c.heads * (hidden // heads)
        assert c.embedding < c.hidden


@pytest.mark.parametrize("size_mib", [1.0, 1.5, 2.0, 3.5, 4.5, 6.0])
def test_a_budget_has_shallow_cuts_and_deep_ones_of_nearly_its_size(size_mib):
    sizes = {False: 0.0, True: 0.0}
    for c in propose(["encoder"], ["cut"], MINILM):
        size = c.size_mib("int4", 5000, 64, 24, 75_000)
        if size <= size_mib:
            sizes[c.layers > SHALLOW] = max(size, sizes[c.layers > SHALLOW])
    assert min(sizes.values()) >= 0.6 * size_mib


def test_without_a_teacher_nothing_is_cut():
    assert propose(["encoder"], ["cut"], None) == []
    assert {c.start for c in propose(["encoder"], ["cut", "grown"], None)} == {"grown"}


@pytest.mark.parametrize("scheme", ["int8", "int4", "int4-int8"])
@pytest.mark.parametrize(
    ("student", "shape"),
    [
        (static(hidden=64, window=3), Candidate("static", "grown", 64, window=3)),
        (encoder(2, 96, 3, 192), Candidate("encoder", "cut", 96, 2, 3, 192)),
        (encoder(2, 96, 3, 192, embedding=32), Candidate("encoder", "cut", 96, 2, 3, 192, embedding=32)),
    ],
    ids=lambda value: value.name if isinstance(value, Candidate) else "",
)
def test_a_forecast_is_near_the_packaged_size(student, shape, scheme, tmp_path):
    package.write(tmp_path, quantize(student, scheme), recipe_yaml="", extra={})
    size = open_kin(tmp_path, threads=1).manifest.size_mib
    tokenizer = len(json.dumps(json.loads(tokenizer_json())))
    assert shape.size_mib(scheme, vocabulary_size(), 24, 5, tokenizer) == pytest.approx(size, rel=0.3)
    assert scheme in BITS
