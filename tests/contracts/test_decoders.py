"""One row per decoder family: taken, cut, saved and reloaded it answers as it should."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import causal
from minikin.base import decoders
from minikin.base.errors import UserError
from minikin.base.types import Saliency
from minikin.compress import prune_decoder
from minikin.feed.causal import model_of
from minikin.package import transformers as package
from minikin.students.decoder import probe

FAMILIES = list(causal.FAMILIES)
IDS = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(0))


def scored(shape, seed=0):
    rng = np.random.default_rng(seed)
    return Saliency(
        rng.random(shape.hidden),
        rng.random((shape.layers, shape.groups)),
        rng.random((shape.layers, shape.feed_forward)),
        rng.random(shape.layers),
    )


@torch.no_grad()
def answers(student):
    return model_of(student)(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_as_a_value_it_answers_as_transformers_does(family):
    model, student = causal.model_of(family), causal.student(family)
    with torch.no_grad():
        assert torch.allclose(answers(student), model(IDS).logits, atol=1e-5)
    assert student.family == "decoder"
    assert student.max_length == 64
    assert ("lm_head.weight" in student.tensors) != bool(student.config["tie_word_embeddings"])
    json.dumps(student.config)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_that_keeps_everything_is_the_teacher(family):
    student = causal.student(family)
    shape = decoders.sizes(student.config)
    same = prune_decoder.to_shape(student, scored(shape))
    assert torch.equal(answers(same), answers(student))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_reloads_in_transformers_and_answers_alike(family, tmp_path):
    student = causal.student(family)
    layout, shape = decoders.layout(student.config), decoders.sizes(student.config)
    wanted = {"layers": 3, "hidden": 16, "groups": 2 if layout.bound else 1, "feed_forward": 20}
    cut = prune_decoder.to_shape(student, scored(shape), **wanted)
    made = decoders.sizes(cut.config)
    assert {key: getattr(made, key) for key in wanted} == wanted
    assert made.head_width == shape.head_width
    assert cut.parameters < student.parameters / 2
    package.write(tmp_path, cut)
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert torch.allclose(model.eval()(IDS).logits, answers(cut), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_do_nothing_are_found_and_cutting_them_changes_nothing(family):
    """Silence one key/value group, eight neurons and one layer: the probe must rank them last."""
    student = causal.student(family)
    layout, shape = decoders.layout(student.config), decoders.sizes(student.config)
    tensors = {name: np.array(t) for name, t in student.tensors.items()}
    share = shape.heads // shape.groups * shape.head_width

    def silence(layer, module, columns):
        weight = tensors[f"{layout.layers}.{layer}.{module}.weight"]
        (weight if layout.flipped else weight.T)[columns] = 0.0
        if columns == slice(None) and f"{layout.layers}.{layer}.{module}.bias" in tensors:
            tensors[f"{layout.layers}.{layer}.{module}.bias"][:] = 0.0

    for layer in range(shape.layers):
        silence(layer, layout.heads_out, slice(0, share))
        silence(layer, layout.neurons_out, slice(3, 11))
    for module in (layout.heads_out, layout.neurons_out):
        silence(2, module, slice(None))
    idle = replace(student, tensors=tensors)
    found = probe(idle, causal.rows())
    assert found.blocks_L.argmin() == 2
    assert abs(found.blocks_L[2]) < 1e-6
    assert (found.heads_LA[:2].argmin(1) == 0).all()
    assert all(set(np.argsort(scores)[:8]) == set(range(3, 11)) for scores in found.neurons_LF[[0, 1, 3]])
    groups = {} if layout.bound else {"groups": shape.groups - 1}
    cut = prune_decoder.to_shape(idle, found, layers=3, feed_forward=shape.feed_forward - 8, **groups)
    assert torch.allclose(answers(cut), answers(idle), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "shape", "words"),
    [
        ("llama", {"layers": 5}, "layers 5 > 4"),
        ("llama", {"hidden": 64, "feed_forward": 64}, "hidden 64 > 32, feed_forward 64 > 48"),
        ("llama", {"hidden": 18}, "no multiple of 4 heads"),
        ("gpt_neox", {"hidden": 16, "groups": 3}, "3 heads of 8 make 24, not 16"),
    ],
)
def test_shapes_that_no_cut_gives_are_refused(family, shape, words):
    student = causal.student(family)
    with pytest.raises(UserError, match=words):
        prune_decoder.to_shape(student, scored(decoders.sizes(student.config)), **shape)


@pytest.mark.parametrize(("kind", "words"), [("gpt_neo", "two kinds of attention"), ("mixtral", "experts"), ("x", "x")])
def test_families_that_are_not_known_are_refused_with_the_reason(kind, words):
    with pytest.raises(UserError, match=words):
        decoders.layout({"model_type": kind})


def test_a_tensor_that_the_table_does_not_know_is_refused():
    student = causal.student()
    odd = replace(student, tensors={**student.tensors, "model.layers.0.mlp.extra.weight": np.ones(2)})
    with pytest.raises(UserError, match=r"mlp\.extra"):
        prune_decoder.to_shape(odd, scored(decoders.sizes(student.config)), layers=2)


def test_weights_that_do_not_fit_are_refused():
    student = causal.student()
    fewer = replace(student, tensors={k: v for k, v in student.tensors.items() if "norm" not in k})
    with pytest.raises(UserError, match="missing"):
        model_of(fewer)
