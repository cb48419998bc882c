import numpy as np
import pytest

from minikin.base.errors import DataError
from minikin.base.types import Runtime, Split
from minikin.measure.baselines import tfidf
from minikin.measure.quality import quality

WORDS = {
    0: ["router", "blinking", "wifi", "signal", "drops", "network", "slow"],
    1: ["invoice", "refund", "charged", "price", "bill", "pay"],
    2: ["move", "house", "address", "cancel", "contract", "leave"],
}
LABELS = ("outage", "billing", "moving")


def texts_of(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return [" ".join(["my", "the", *rng.choice(WORDS[c], 3)]) for c in labels.tolist()], labels


def split(n, seed):
    texts, labels = texts_of(n, seed)
    return Split(texts, labels, np.arange(1, n + 1))


@pytest.fixture(scope="module")
def fitted():
    return tfidf(split(240, 0), LABELS, validation=split(60, 1))


def test_learns_the_words(fitted):
    assert isinstance(fitted, Runtime)
    assert quality(fitted, split(90, 2)).accuracy > 0.97
    p = fitted.probabilities(["refund my bill pls", ""])
    assert p.shape == (2, 3)
    assert p.sum(1) == pytest.approx([1, 1], abs=1e-5)
    assert p[0].argmax() == 1


def test_answers_as_scikit_learn_would(fitted):
    from scipy.sparse import hstack
    from sklearn.linear_model import LogisticRegression

    test = split(20, 3)
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.arange(3), fitted.weights_FC.T, fitted.bias_C
    features = hstack([v.transform(test.texts) for v in fitted.vectorizers]).tocsr()
    assert fitted.probabilities(test.texts) == pytest.approx(model.predict_proba(features), abs=1e-5)


def test_same_seed_same_weights(fitted):
    again = tfidf(split(240, 0), LABELS, validation=split(60, 1))
    assert np.array_equal(again.weights_FC, fitted.weights_FC)
    assert np.array_equal(again.bias_C, fitted.bias_C)


def test_size_counts_weights_and_n_grams(fitted):
    features = len(fitted.weights_FC)
    grams = [g for v in fitted.vectorizers for g in v.vocabulary_]
    assert len(grams) == features
    expected = features * 3 * 4 + 3 * 4 + features * 4 + sum(len(g.encode()) + 1 for g in grams)
    assert fitted.size_mib == pytest.approx(expected / 2**20)


def test_sides_of_a_pair_are_told_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    texts = [("cat here", "dog there") if c else ("dog there", "cat here") for c in labels]
    runtime = tfidf(Split(texts, labels, np.arange(200)), ("no", "yes"))
    assert runtime.probabilities([("cat here", "dog there"), ("dog there", "cat here")]).argmax(1).tolist() == [1, 0]


def test_two_classes_label_unseen_and_unlabelled_rows():
    texts = ["good great fine"] * 20 + ["bad awful poor"] * 20 + ["who knows"] * 5
    labels = np.repeat([0, 2, -1], [20, 20, 5])
    p = tfidf(Split(texts, labels, np.arange(45)), ("good", "never", "bad")).probabilities(["great", "awful"])
    assert p.argmax(1).tolist() == [0, 2]
    assert p[:, 1].tolist() == [0, 0]


def test_odd_texts_do_not_break_it(fitted):
    odd = ["\x00\ud800", "x" * 100_000, "   ", "🙂", "refund"]
    assert np.isfinite(fitted.probabilities(odd)).all()


@pytest.mark.parametrize(
    ("texts", "labels", "words"),
    [(["a b", "c d"], [0, 0], "at least two labels"), ([], [], "at least two"), ([" ", ""], [0, 1], "no words")],
)
def test_what_cannot_be_learned_is_refused(texts, labels, words):
    with pytest.raises(DataError, match=words):
        tfidf(Split(texts, np.array(labels, int), np.arange(len(texts))), ("a", "b"))
