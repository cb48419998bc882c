from __future__ import annotations

import math
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from fake_api import serving
from minikin.base.errors import QueueError
from minikin.base.types import Runtime, Split
from minikin.base.wire import Patience
from minikin.measure.quality import quality
from minikin.measure.speed import latency
from minikin.trust.drift import Watch
from minikin.trust.egress import Egress
from minikin.trust.endpoint import Endpoint
from minikin.trust.handover import NOBODY, HandOver, Policy
from minikin.trust.large import KinLarge
from minikin.trust.queue import AUDIT, GOLD, HANDED_OVER, NONE, SILVER, WAITING, Queue

from .pieces import LABELS, Small, Threshold


class Sure:
    """A runtime that always says the same."""

    def __init__(self, label: str, labels=LABELS) -> None:
        self.labels, self._label = labels, label

    def probabilities(self, texts):
        return np.tile([float(label == self._label) for label in self.labels], (len(texts), 1))


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.db")


def pair(queue=None, **more) -> HandOver:
    return HandOver(Small(), queue=queue, **{"guard": Threshold(), **more})


def test_what_is_sure_is_answered_here_and_the_rest_waits(queue: Queue) -> None:
    both = pair(queue)
    assert isinstance(both, Runtime)
    sure, unsure = both(["billing 0.9 x", "outage 0.5 y"])
    assert (sure.label, sure.confidence, sure.certified, sure.handed_over, sure.reason) == (
        "billing",
        0.9,
        True,
        False,
        "",
    )
    assert (unsure.label, unsure.certified, unsure.handed_over) == ("", False, True)
    assert math.isnan(unsure.confidence)
    assert unsure.reason == "its score is below 0.8; it waits for a person"
    (row,) = queue.items()
    assert (row["text"], row["guess"], row["state"]) == ("outage 0.5 y", "outage", WAITING)
    assert (row["local"], row["waits"]) == (0, 1)
    assert both("delivery 1 x").label == "delivery"
    assert both([]) == []
    assert both.tally == {"local": 2, "waiting": 1}


def test_without_a_certificate_nothing_is_answered_here(queue: Queue) -> None:
    answer = HandOver(Small(), queue=queue)("billing 1 x")
    assert (answer.label, answer.certified) == ("", False)
    assert "no certificate" in answer.reason
    guard = Threshold()
    both = pair(queue, guard=guard)
    assert both("billing 1 x").certified
    guard.state, guard.reason = "void", "it expired yesterday"
    assert "void: it expired yesterday" in both("billing 1 x").reason


def test_a_cascade_of_runtimes(queue: Queue) -> None:
    middle = KinLarge(Small(), LABELS, Threshold(), "middle")
    foreign = Sure("weather", ("weather", *LABELS))
    both = pair(queue, large=[middle, foreign, Sure("delivery")])
    answer = both("outage 0.5 y")
    assert (answer.label, answer.confidence, answer.handed_over, answer.certified) == ("delivery", 1.0, True, False)
    for words in ("below 0.8", "middle is not sure enough", "'weather', which is none", "answered by kin"):
        assert words in answer.reason
    (row,) = queue.items()
    assert (row["state"], row["silver"], row["silver_by"], row["waits"]) == (SILVER, "delivery", "kin", 0)
    assert pair(large=Sure("outage"))("billing 0.1 x").label == "outage"


def test_nobody_else() -> None:
    assert pair()("outage 0.5 y").reason.endswith("nobody else could answer")


def test_what_a_person_said_before_is_used_again(queue: Queue) -> None:
    both = pair(queue, large=Sure("delivery"))
    both(["outage 0.5 y", "outage 0.5 z"])
    first, second = queue.lease("ann", 2, silver=True)
    queue.answer(first.id, "billing", "ann")
    queue.answer(second.id, NONE, "ann")
    said = {answer.reason.split("; ")[1]: answer for answer in both([first.text, second.text])}
    assert said["a person answered this very text before"].label == "billing"
    none = said["a person said of this very text that no label fits"]
    assert none.label == ""
    assert "waits" not in none.reason
    assert [row["waits"] for row in queue.items()] == [0, 0]


def test_critical_labels_are_peoples(queue: Queue) -> None:
    policy = Policy(critical=frozenset({"outage"}))
    both = pair(queue, large=Sure("outage"), policy=policy)
    sure, by_large = both(["outage 0.99 x", "billing 0.5 y"])
    assert sure.label == by_large.label == ""
    assert "'outage' is left to people" in sure.reason
    assert "says 'outage', which is left to people" in by_large.reason


def test_the_queue_that_cannot_keep_is_told(queue: Queue) -> None:
    both = pair(queue)
    queue._store._connection().execute("PRAGMA query_only = 1")
    assert both("billing 0.9 x").label == "billing"
    with pytest.raises(QueueError, match="readonly"):
        both("billing 0.2 x")


# What may leave


@pytest.fixture
def api():
    with serving(lambda _: "delivery") as served:
        yield served


def to(api) -> Endpoint:
    return Endpoint(api.url, "big", LABELS, patience=Patience(5.0, 0))


@pytest.mark.parametrize("egress", [None, Egress(), Egress(allow=False, never=())])
def test_nothing_leaves_when_denied(api, queue: Queue, egress) -> None:
    both = pair(queue, large=to(api), egress=egress)
    for answer in both([f"outage 0.5 {i}" for i in range(20)]):
        assert answer.label == ""
        assert "egress is not allowed" in answer.reason
    both("billing 0.1 mail me at a@b.example")
    assert api.bodies == []
    assert len(queue.items(WAITING)) == 21


def test_what_may_leave_does_and_the_rest_is_redacted_or_stays(api, queue: Queue) -> None:
    texts = ["outage 0.5 plain", "outage 0.5 to a@b.example", "billing 0.9 never asked c@d.example"]
    answers = pair(queue, large=to(api), egress=Egress(allow=True))(texts)
    assert [answer.label for answer in answers] == ["delivery", "delivery", "billing"]
    assert sorted(api.texts) == ["outage 0.5 plain", "outage 0.5 to [email]"]
    api.bodies.clear()
    answers = pair(large=to(api), egress=Egress(allow=True, redact=False))(texts)
    assert [answer.label for answer in answers] == ["delivery", "", "billing"]
    assert api.texts == ["outage 0.5 plain"]
    assert queue.known(texts[1]) == (SILVER, "delivery")  # at home it is kept as it came


def test_an_endpoint_that_fails_leaves_it_to_people(queue: Queue) -> None:
    with serving(lambda _: (500, {}, b"")) as api:
        answer = pair(queue, large=to(api), egress=Egress(allow=True))("outage 0.5 y")
    assert answer.label == ""
    assert "big: the endpoint answered 500; it waits for a person" in answer.reason
    assert len(queue.lease("ann")) == 1


# As a runtime, measured


def test_the_pair_is_measured_as_one() -> None:
    texts = ["billing 0.9 a", "outage 0.9 b", "outage 0.5 c", "billing 0.5 d"]
    split = Split(texts, np.array([0, 2, 1, 0]), np.arange(4))
    alone, cascade = quality(pair(), split), quality(pair(large=Sure("delivery")), split)
    assert (alone.accuracy, cascade.accuracy) == (0.5, 0.75)
    rows_NC = pair().probabilities(texts)
    assert rows_NC.shape == (4, len(LABELS) + 1)
    np.testing.assert_allclose(rows_NC.sum(-1), 1)
    assert pair().labels[-1] == NOBODY
    assert rows_NC[2].argmax() == len(LABELS)
    assert latency(pair(), texts, warmup=1, repeats=3).n == 3


def test_many_threads_share_a_pair(queue: Queue) -> None:
    both = pair(queue, large=Sure("delivery"))

    def ask(i: int) -> None:
        for j in range(10):
            assert both(f"billing 0.9 {i} {j}").label == "billing"
            assert both(f"billing 0.1 {i} {j}").label == "delivery"

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert both.tally == {"local": 40, "kin": 40}
    assert queue.counts() == {(HANDED_OVER, SILVER): 40}


# The audit, and the watch


def watched(queue: Queue, share: float = 1.0, reference=()) -> tuple[HandOver, Watch]:
    watch = Watch("c1", 0.02, dict(reference), book=queue.book, together=1)
    return pair(queue, watch=watch, policy=Policy(audit_share=share)), watch


def test_the_audit_draws_from_all_that_comes_at_random(queue: Queue) -> None:
    both, _ = watched(queue, 0.3)
    both._chance = random.Random(3).random
    both([f"billing {0.9 if i % 2 else 0.6} {i}" for i in range(400)])
    drawn = queue.items(kind=AUDIT)
    assert 90 < len(drawn) < 150
    assert 0.35 < np.mean([row["local"] for row in drawn]) < 0.65
    # what was handed over and drawn is in the queue once, and somebody waits for it
    assert len(queue.items(kind=HANDED_OVER)) + sum(1 - row["local"] for row in drawn) == 200
    assert all(row["waits"] == 1 - row["local"] for row in drawn)


def test_wrong_audited_answers_void_the_certificate(queue: Queue) -> None:
    both, watch = watched(queue)
    both([f"billing {0.8 + i % 20 / 100:.2f} {i}" for i in range(30)])
    assert both.state[0] == "certified"
    for task in queue.lease("ann", 30):
        queue.answer(task.id, "delivery", "ann")
    both.look()
    assert both.state[0] == "void"
    answer = both("billing 0.9 again")
    assert answer.handed_over
    assert "the audit found 30 wrong of 30 answers, where at most 2.0% were promised" in answer.reason
    (note,) = [note for note in queue.book.notes() if note["kind"] == "transition"]
    assert (note["from"], note["to"], note["audited"], note["errors"]) == ("certified", "void", 30, 30)
    # another worker finds it so, and a new certificate starts anew
    assert Watch("c1", 0.02, {}, book=queue.book).state == "void"
    assert Watch("c2", 0.02, {}, book=queue.book).state == "certified"
    assert watch.standing.errors == 30


def test_right_answers_keep_it(queue: Queue) -> None:
    both, watch = watched(queue)
    both([f"billing 0.9 {i}" for i in range(30)])
    for task in queue.lease("ann", 30):
        queue.answer(task.id, "billing", "ann")
    both.look()
    assert (both.state[0], watch.standing.audited, watch.standing.errors) == ("certified", 30, 0)
    assert queue.counts()[(AUDIT, GOLD)] == 30


def test_scores_that_change_make_it_suspect(queue: Queue) -> None:
    both, watch = watched(queue, 0.0, {"scores": np.random.default_rng(0).uniform(0.5, 1, 500)})
    rng = np.random.default_rng(1)
    both([f"billing {p:.3f} same" for p in rng.uniform(0.5, 1, 300)])
    assert both.state == ("certified", "")
    for p in rng.uniform(0.4, 0.6, 100):
        both(f"billing {p:.3f} lower")
    assert both.state[0] == "suspect"
    assert "what comes in has changed" in both("billing 0.99 x").reason
    assert watch.standing.drift_e >= 20
