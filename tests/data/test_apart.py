import numpy as np

from minikin.base.types import no_progress
from minikin.data.apart import Side, keep_apart
from minikin.data.clean import hash64
from minikin.data.faults import Bag

LONG = "I would like to know when the engineer is going to visit our house in {}"


def _side(texts: list[str], labels: list[int] | None = None) -> Side:
    codes_N = np.array(labels if labels is not None else [0] * len(texts))
    return Side(texts, codes_N, np.arange(1, len(texts) + 1), np.array([hash64(t) for t in texts], np.uint64))


def _kept(bag: Bag | None = None, **sides: Side) -> dict[str, list[int]]:
    return {k: v.tolist() for k, v in keep_apart(sides, bag or Bag(), 0, no_progress).indices.items()}


def test_equal_and_near_texts_leave_the_training_side_and_never_the_test() -> None:
    bag = Bag()
    train = _side(["fresh", "KNOWN!", LONG.format("Leeds"), "seen in validation"])
    test = _side(["known", LONG.format("Leads"), "known"])
    kept = _kept(bag, train=train, validation=_side(["seen in validation", "known"]), test=test)
    assert kept == {"test": [0, 1, 2], "validation": [0], "train": [0]}
    told = {(fault.kind, fault.message.split(":")[0]): fault.rows for fault in bag.faults()}
    assert told[("near-leak", "train")] == (3,)
    assert told[("leak", "validation")] == (2,)
    messages = " ".join(fault.message for fault in bag.faults())
    assert "equal to a text of test" in messages
    assert "equal to a text of validation" in messages


def test_near_duplicates_within_training_stay_in_one_cluster() -> None:
    sides = {"train": _side([LONG.format("Leeds"), "other", LONG.format("Leads")])}
    kept = keep_apart(sides, Bag(), 0, no_progress)
    assert kept.indices["train"].tolist() == [0, 1, 2]
    assert kept.clusters_N[0] == kept.clusters_N[2] != kept.clusters_N[1]


def test_repeats_and_conflicts_in_training() -> None:
    bag = Bag()
    train = _side(["a", "A.", "tie", "tie", "most", "most", "most", "b"], [0, 0, 0, 1, 0, 1, 1, 1])
    assert _kept(bag, train=train) == {"train": [0, 5, 7]}
    assert {fault.kind: fault.rows for fault in bag.faults()} == {"duplicate": (2,), "conflict": (3, 4, 5, 6, 7)}


def test_conflicts_in_test_are_told_and_kept() -> None:
    bag = Bag()
    assert _kept(bag, train=_side(["x"]), test=_side(["a", "a"], [0, 1]))["test"] == [0, 1]
    assert [fault.kind for fault in bag.faults()] == ["conflict-kept"]


def test_unlabelled_text_loses_what_others_hold() -> None:
    unlabelled = _side(["a", "new", "new", LONG.format("Leeds"), LONG.format("Lyon")], [-1] * 5)
    kept = _kept(train=_side(["a", LONG.format("Lyons")]), test=_side([LONG.format("Leads")]), unlabelled=unlabelled)
    assert 1 in kept["unlabelled"]
    assert not {0, 2, 3} & set(kept["unlabelled"])
