import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import causal
import talk
from minikin.base.errors import UserError
from minikin.equations.saliency import principal_axes
from minikin.recipe import ladder
from minikin.students import decoder, inherit, store


def grown(point="pico", seed=0, **more):
    shape = ladder.decoder(point)
    config = decoder.config_of(**shape._asdict(), vocabulary=300, max_length=64, eos=299, **more)
    return decoder.grow(config, talk.byte_level(297), talk.byte_config(), seed)


@pytest.mark.parametrize("point", ["pico", "nano", "micro", "tiny", "slim"])
def test_every_point_of_the_dial_grows_and_forecasts_its_weights(point):
    student, shape = grown(point), ladder.decoder(point)
    norms = (2 * shape.layers + 1) * shape.hidden
    assert student.parameters == shape.weights + norms + 300 * shape.hidden
    assert "lm_head.weight" not in student.tensors
    assert student.max_length == 64


def test_the_dial_rises_and_its_shapes_are_whole():
    shapes = list(ladder.DECODERS.values())
    assert list(ladder.DECODERS) == list(ladder.ENCODERS)
    assert [s.weights for s in shapes] == sorted(s.weights for s in shapes)
    for shape in shapes:
        assert shape.hidden % shape.heads == shape.heads % shape.groups == 0
        assert shape.hidden % 32 == shape.feed_forward % 32 == 0
    with pytest.raises(KeyError, match="did you mean 'tiny'"):
        ladder.decoder("tinny")


def test_growing_depends_on_the_seed_and_leaves_the_callers_randomness():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, same, other = grown(seed=1), grown(seed=1), grown(seed=2)
    assert torch.rand(1) == expected
    name = "model.embed_tokens.weight"
    assert np.array_equal(one.tensors[name], same.tensors[name])
    assert not np.array_equal(one.tensors[name], other.tensors[name])


def test_embeddings_are_handed_down_by_their_principal_axes():
    rng = np.random.default_rng(0)
    teacher_VH = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 96))
    student = grown()
    name = "model.embed_tokens.weight"
    got = np.asarray(inherit.embeddings(student, teacher_VH, np.ones(300)).tensors[name])
    assert got.shape == (300, 64)
    assert got.std() == pytest.approx(student.tensors[name].std(), rel=1e-3)
    # five directions hold all there is, so that no distance is lost
    centred = teacher_VH - teacher_VH.mean(0)
    assert principal_axes(centred, 5)[1] == pytest.approx(1.0)
    scale = np.linalg.norm(got[3] - got[9]) / np.linalg.norm(centred[3] - centred[9])
    for i, j in ((0, 1), (20, 200), (150, 299)):
        assert np.linalg.norm(got[i] - got[j]) == pytest.approx(
            scale * np.linalg.norm(centred[i] - centred[j]), rel=1e-3
        )


def test_embeddings_of_another_vocabulary_are_refused():
    with pytest.raises(UserError, match="same vocabulary"):
        inherit.embeddings(grown(), np.zeros((301, 96)), np.ones(301))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_a_student_comes_back_from_disk_as_it_was(family, tmp_path):
    student = causal.student(family)
    store.save(student, tmp_path)
    back = store.load(tmp_path)
    assert back.config == student.config
    assert back.tokenizer_config == student.tokenizer_config
    assert back.tokenizer_json == student.tokenizer_json
    assert np.array_equal(causal.logits(back, causal.rows()), causal.logits(student, causal.rows()))


def test_training_moves_the_weights_and_gives_them_back_tied():
    from minikin.feed.causal import model_of, state

    student, ids = grown(), torch.arange(12)[None]
    model = model_of(student)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(input_ids=ids).logits.square().mean().backward()
    optimizer.step()
    trained = replace(student, tensors=state(model))
    assert trained.tensors.keys() == student.tensors.keys()
    assert not np.array_equal(
        trained.tensors["model.embed_tokens.weight"], student.tensors["model.embed_tokens.weight"]
    )
    with torch.no_grad():
        assert torch.allclose(model_of(trained)(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-6)
    json.dumps(trained.config)
