import numpy as np
import pytest

from minikin.base.extras import extension
from minikin.equations.logistic import auroc
from minikin.trust.scores import NOTHING, REJECTED, Quick, Scorer, probability_parts
from minikin.trust.words import shares, table


@pytest.mark.parametrize("reject", [-1, 2])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("worded", [True, False])
@pytest.mark.parametrize("compiled", [None, extension()], ids=["numpy", "extension"])
def test_one_answer_scores_as_many_do(answers, rng, reject, pooled, worded, compiled):
    fitting, fresh = answers(rng, 400, reject=reject), answers(rng, 200, reject=reject)
    h = fitting.pooled_NF if pooled else None
    texts, bits_B = [f"a text {i % 7} of {i % 11}" for i in range(200)], table(["a text 1 of 2"], np.array([1]))
    of_fitting, of_fresh = (
        shares(bits_B, (texts * 2)[: len(part)], part.probabilities_NC) if worded else None for part in (fitting, fresh)
    )
    scorer = Scorer.fit(fitting.probabilities_NC, h, of_fitting, fitting.labels_N, ~fitting.wrong_N, reject)
    assert len(scorer.weights_K) == len(scorer.names)
    many = scorer.scores(fresh.probabilities_NC, fresh.pooled_NF if pooled else None, of_fresh)
    quick = Quick(scorer, fresh.probabilities_NC.shape[1], compiled, bits_B if worded else NOTHING)
    one = [
        quick.score(row, h if pooled else None, int(row.argmax()), float(row.max()), text)
        for row, h, text in zip(fresh.probabilities_NC, fresh.pooled_NF, texts, strict=True)
    ]
    assert one == pytest.approx(many, abs=2e-3)
    assert (many[fresh.probabilities_NC.argmax(1) == reject] == REJECTED).all()


def test_vectors_tell_more_than_probabilities_alone(answers, rng):
    fitting, fresh = answers(rng, 1500, outside=0.3), answers(rng, 3000, outside=0.3)
    found = []
    for pooled in (fitting.pooled_NF, None):
        scorer = Scorer.fit(fitting.probabilities_NC, pooled, None, fitting.labels_N, ~fitting.wrong_N)
        scores = scorer.scores(fresh.probabilities_NC, None if pooled is None else fresh.pooled_NF)
        found.append(auroc(scores, ~fresh.wrong_N))
    assert found[0] > found[1]


def test_examples_do_not_vouch_for_themselves(answers, rng):
    fitting = answers(rng, 300)
    scorer = Scorer.fit(fitting.probabilities_NC, fitting.pooled_NF, None, fitting.labels_N, ~fitting.wrong_N)
    answers_N = fitting.probabilities_NC.argmax(1)
    fresh = scorer.space.parts(fitting.pooled_NF, answers_N)
    known = np.flatnonzero(fitting.labels_N >= 0)
    own = np.full(300, -1)
    own[known[np.argsort(fitting.labels_N[known], kind="stable")]] = np.arange(len(known))
    apart = scorer.space.parts(fitting.pooled_NF, answers_N, own)
    right = fitting.labels_N == answers_N
    assert fresh[right, 1] == pytest.approx(1.0, abs=1e-2)
    assert (apart[right, 1] < 0.999).mean() > 0.95
    assert (apart[right, 2] >= fresh[right, 2] - 1e-6).all()
    wrong = fitting.labels_N != answers_N
    assert apart[wrong] == pytest.approx(fresh[wrong])


def test_probabilities_of_zero_and_one_have_finite_parts():
    assert np.isfinite(probability_parts(np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]), 2)).all()


def test_a_class_without_examples_is_the_farthest(answers, rng):
    fitting = answers(rng, 200)
    labels = np.where(fitting.labels_N == 3, -1, fitting.labels_N)
    scorer = Scorer.fit(fitting.probabilities_NC, fitting.pooled_NF, None, labels, ~fitting.wrong_N)
    parts = scorer.space.parts(fitting.pooled_NF, np.full(200, 3))
    assert (parts[:, 1] == -1).all()
    assert (parts[:, 2] == scorer.space.farthest).all()


def test_where_all_answers_are_right_the_largest_probability_orders_them(answers, rng):
    fitting = answers(rng, 300)
    p, h = fitting.probabilities_NC, fitting.pooled_NF
    scorer = Scorer.fit(p, h, None, p.argmax(1), np.ones(300, bool))
    order = np.argsort(p.max(1))
    assert (np.diff(scorer.scores(p, h)[order]) >= -1e-6).all()
    with pytest.raises(ValueError, match="some wrong"):
        Scorer.fit(p, h, None, p.argmax(1), np.zeros(300, bool))


@pytest.mark.skipif(not hasattr(extension(), "score"), reason="this install has no kernel")
def test_arrays_that_do_not_fit_are_refused():
    def zeros(*shape, kind=np.float32):
        return np.zeros(shape, kind)

    vectors = (zeros(5), zeros(5), zeros(4), zeros(4, 3), zeros(3), zeros(2, 3))
    fitting = (*vectors, zeros(14, kind=np.float64), zeros(8, kind=np.uint8))
    assert extension().score(*fitting, 0.5, 0, "a") == 0.0
    far = np.array([0, 0, 0, 0, 5, *[0] * 9], np.float64)  # the place of a class that is not there
    spoilt = [(1, zeros(4)), (3, zeros(4, 2)), (5, zeros(4)), (4, zeros(0)), (4, zeros(300)), (6, zeros(14)), (6, far)]
    spoilt.append((7, zeros(3, kind=np.uint8)))
    for place, wrong in spoilt:
        with pytest.raises(ValueError, match="fit"):
            extension().score(*fitting[:place], wrong, *fitting[place + 1 :], 0.5, 0, "a")
    with pytest.raises(TypeError, match="str"):
        extension().score(*fitting, 0.5, 0, b"a")
