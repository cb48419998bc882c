"""The trivial baseline that always trains: TF-IDF with logistic regression. Called by the gate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.base.errors import DataError
from minikin.base.extras import need
from minikin.base.types import Array, Progress, Split, Text, no_progress

# Inverse regularisation, weakest model first, with the passes over the data that each adds: each fit goes on
# from the one before, so the whole path costs little more than one fit, and stopping early regularises too.
PATH = ((1.0, 5), (3.0, 4), (10.0, 4), (30.0, 4))
WITHOUT_VALIDATION = 10.0
BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Tfidf:
    """A fitted TF-IDF baseline; `weights_FC` and `bias_C` are a multinomial logistic regression."""

    labels: tuple[str, ...]
    vectorizers: tuple[Any, ...]
    weights_FC: Array
    bias_C: Array

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Return class probabilities (N, C); classes that were never seen in training get 0."""
        logits_NC = _features(self.vectorizers, texts) @ self.weights_FC + self.bias_C
        exponent_NC = np.exp(logits_NC - logits_NC.max(-1, keepdims=True))
        return np.asarray(exponent_NC / exponent_NC.sum(-1, keepdims=True))

    @property
    def size_mib(self) -> float:
        """MiB of what it needs to answer: float32 weights, and each n-gram's UTF-8 bytes with its IDF."""
        numbers = self.weights_FC.size + np.isfinite(self.bias_C).sum()
        grams = [gram for vectorizer in self.vectorizers for gram in vectorizer.vocabulary_]
        text_bytes = sum(len(gram.encode("utf-8", "surrogatepass")) + 1 for gram in grams)
        return float((BYTES_PER_WEIGHT * (numbers + len(grams)) + text_bytes) / 2**20)


def tfidf(
    train: Split,
    labels: tuple[str, ...],
    seed: int = 0,
    *,
    validation: Split | None = None,
    progress: Progress = no_progress,
) -> Tfidf:
    """Fit TF-IDF of word 1-2-grams and character 2-5-grams within words, and a logistic regression on it.

    The strength of its regularisation is the one with the best accuracy on `validation`, the stronger on a
    tie. The sides of a pair have features of their own. Raises DataError with fewer than two classes.
    """
    known = np.flatnonzero(np.asarray(train.labels_N) >= 0)
    seen_K, target_N = np.unique(np.asarray(train.labels_N)[known], return_inverse=True)
    if len(seen_K) < 2:
        raise DataError(f"A classifier needs texts of at least two labels; the training split has {len(seen_K)}.")
    texts = [train.texts[i] for i in known.tolist()]
    progress(0.0, "counting n-grams")
    vectorizers, train_NF = _fit_vectorizers(texts)
    weights_KF, bias_K = _path(train_NF, target_N, seen_K, vectorizers, validation, seed, progress)
    return _whole(labels, vectorizers, seen_K, weights_KF, bias_K)


def _path(
    train_NF: Any,
    target_N: Array,
    seen_K: Array,
    vectorizers: tuple[Any, ...],
    validation: Split | None,
    seed: int,
    progress: Progress,
) -> tuple[Array, Array]:
    """Fit along `PATH`; return the weights (K, F) and biases (K) of the chosen strength."""
    linear = need("sklearn.linear_model")
    judged = validation is not None and len(validation) > 0
    held_out_MF = _features(vectorizers, validation.texts) if validation is not None and judged else None
    model = linear.LogisticRegression(solver="saga", warm_start=True, random_state=seed)
    best: tuple[float, Array, Array] | None = None
    for step, (strength, passes) in enumerate(PATH):
        model.set_params(C=strength, max_iter=passes)
        with warnings.catch_warnings():
            # A set number of passes is meant, so not having converged is no news.
            warnings.simplefilter("ignore")
            model.fit(train_NF, target_N)
        share = 0.0
        if validation is not None and held_out_MF is not None:
            share = float(np.mean(seen_K[model.predict(held_out_MF)] == np.asarray(validation.labels_N)))
        if best is None or (share > best[0] if judged else strength <= WITHOUT_VALIDATION):
            best = (share, model.coef_.copy(), model.intercept_.copy())
        progress((step + 1) / len(PATH), f"logistic regression, C = {strength:g}")
    assert best is not None
    return best[1:]


def _whole(
    labels: tuple[str, ...],
    vectorizers: tuple[Any, ...],
    seen_K: Array,
    weights_KF: Array,
    bias_K: Array,
) -> Tfidf:
    """Spread the fitted classes over all labels; a label without training text never answers."""
    if len(weights_KF) == 1:  # two classes: scikit-learn keeps only the second one's side
        weights_KF, bias_K = np.concatenate([-weights_KF, weights_KF]) / 2, np.array([-bias_K[0], bias_K[0]]) / 2
    # Features first, so that one text reads only its own rows.
    weights_FC = np.zeros((weights_KF.shape[1], len(labels)), np.float32)
    bias_C = np.full(len(labels), -np.inf, np.float32)
    weights_FC[:, seen_K], bias_C[seen_K] = weights_KF.T, bias_K
    return Tfidf(labels, vectorizers, weights_FC, bias_C)


def _fit_vectorizers(texts: Sequence[Text]) -> tuple[tuple[Any, ...], Any]:
    """Vectorizers of words and of characters with the features (N, F) of `texts`.

    N-grams that occur once are left out, unless that leaves none.
    """
    text_tools = need("sklearn.feature_extraction.text")
    kinds = (
        {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b|[?!]"},
        {"ngram_range": (2, 5), "analyzer": "char_wb"},
    )
    fitted, parts = [], []
    for options in kinds:
        analyse = _sides(text_tools.TfidfVectorizer(**options).build_analyzer())
        for at_least in (2, 1):
            vectorizer = text_tools.TfidfVectorizer(
                analyzer=analyse, sublinear_tf=True, min_df=at_least, dtype=np.float32
            )
            try:
                parts.append(vectorizer.fit_transform(texts))
            except ValueError:  # nothing occurs so often
                continue
            fitted.append(vectorizer)
            break
    if not fitted:
        raise DataError("The training texts hold no words at all, so a lexical baseline can't be fitted.")
    return tuple(fitted), need("scipy.sparse").hstack(parts).tocsr()


def _sides(analyse: Callable[[str], list[str]]) -> Callable[[Text], list[str]]:
    """An analyser that marks the n-grams of a pair with the side they are from."""

    def grams(text: Text) -> list[str]:
        if isinstance(text, str):
            return analyse(text)
        return [f"{side}\x1f{gram}" for side, part in enumerate(text) for gram in analyse(part)]

    return grams


def _features(vectorizers: tuple[Any, ...], texts: Sequence[Text]) -> Any:
    return need("scipy.sparse").hstack([v.transform(texts) for v in vectorizers]).tocsr()
