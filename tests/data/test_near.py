import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.data import near
from minikin.data.clean import normal


def _jaccard(a: str, b: str) -> float:
    sets = [{t[k : k + 5] for k in range(len(t) - 4)} for t in (normal(a).ljust(5), normal(b).ljust(5))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab c.é😀", max_size=14), max_size=12))
def test_pairs_equal_brute_force_on_small_alphabets(texts: list[str]) -> None:
    found = {tuple(pair) for pair in near.pairs(texts).tolist()}
    similarity = {(i, j): _jaccard(texts[i], texts[j]) for i, j in itertools.combinations(range(len(texts)), 2)}
    assert found <= {pair for pair, value in similarity.items() if value >= 0.8}
    # The chance of missing a pair is 0.002 at 0.8 and under 1e-5 from 0.9 on.
    assert {pair for pair, value in similarity.items() if value > 0.9} <= found


def test_recall_on_edited_texts() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(3000)]
    texts = [" ".join(rng.choice(words, 20)) for _ in range(400)]
    edited = [text[:40] + "X" + text[41:] for text in texts]
    found = {tuple(pair) for pair in near.pairs([*texts, *edited]).tolist()}
    close = {(i, i + 400) for i in range(400) if _jaccard(texts[i], edited[i]) >= 0.8}
    assert len(close) > 390
    assert len(close - found) <= 4
    assert found <= close


def test_same_seed_same_pairs_and_nothing_from_nothing() -> None:
    assert near.pairs([]).shape == (0, 2)
    assert near.pairs(["", "x"]).tolist() == []
    texts = ["please cancel my order today", "please cancel my order today!", "what is the weather like in Rome"]
    assert near.pairs(texts).tolist() == near.pairs(texts).tolist() == [[0, 1]]


def test_pairs_of_texts_count_both_sides() -> None:
    texts = [("the first long sentence", "the second one"), ("the first long sentence", "no such thing at all")]
    assert near.pairs(texts).tolist() == []


def test_a_huge_bucket_stays_bounded_and_in_one_cluster() -> None:
    texts = ["the same long sentence again and again, number one"] * 500
    found = near.pairs(texts)
    assert len(found) <= 500 * near.FULL_BUCKET
    assert set(near.clusters(500, found)) == {0}


def test_clusters_are_connected_components() -> None:
    assert near.clusters(6, np.array([[0, 1], [4, 5], [1, 3]])).tolist() == [0, 0, 2, 0, 4, 4]
    assert near.clusters(2, np.zeros((0, 2), np.int64)).tolist() == [0, 1]


def test_what_is_only_similar_is_no_duplicate() -> None:
    texts = ["when will my new card arrive at home", "when will my new card arrive at work"]
    assert 0.6 < _jaccard(*texts) < 0.8
    assert near.pairs(texts).tolist() == []
    assert near.pairs(texts, threshold=0.6).tolist() == [[0, 1]]
