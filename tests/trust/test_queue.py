from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minikin.base.errors import MissingExtra, QueueError
from minikin.data import load
from minikin.trust import store
from minikin.trust.queue import AUDIT, GOLD, HANDED_OVER, NONE, SILVER, WAITING, Entry, Queue, text_id
from minikin.trust.rows import export, labelled

POSTGRES = os.environ.get("MINIKIN_POSTGRES_URL", "")
"""An empty database to test with, such as postgresql://me@localhost/test; its tables are removed."""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


# SQLite through SQLAlchemy is here to test the statements; it doesn't make writers take turns as both others do.
MANY = pytest.mark.parametrize("open_queue", ["file", "postgres"], indirect=True)


@pytest.fixture(params=["file", "through SQLAlchemy", "postgres"])
def open_queue(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Queue]]:
    """Opens the same queue again and again, in each of the databases."""
    at = str(tmp_path / "queue.db")
    if request.param != "file":
        alchemy = pytest.importorskip("sqlalchemy")
    if request.param == "through SQLAlchemy":
        monkeypatch.setattr("minikin.trust.queue.connect", lambda at: store.Server(f"sqlite:///{at}"))
    if request.param == "postgres":
        if not POSTGRES:
            pytest.skip("no MINIKIN_POSTGRES_URL")
        at = POSTGRES
        with alchemy.create_engine(at.replace("postgresql:", "postgresql+psycopg:")).begin() as connection:
            connection.execute(alchemy.text("DROP TABLE IF EXISTS facts, notes, spending, items"))
    opened: list[Queue] = []

    def opener(**more) -> Queue:
        opened.append(Queue(at, **more))
        return opened[-1]

    yield opener
    for one in opened:
        one.close()


@pytest.fixture
def queue(open_queue) -> Queue:
    return open_queue(clock=Clock())


def entry(text, **more) -> Entry:
    return Entry(text, "not sure enough", **more)


def test_a_text_waits_is_leased_and_answered(queue: Queue) -> None:
    (id,) = queue.put([entry("where is it?", guess="delivery")])
    (task,) = queue.lease("ann")
    assert (task.id, task.text) == (id, "where is it?")
    assert queue.lease("ben") == []
    assert queue.answer(id, "outage", "ann") is True
    (row,) = queue.items()
    assert (row["state"], row["gold"], row["gold_by"], row["waits"], row["lease_by"]) == (
        GOLD,
        "outage",
        "ann",
        0,
        None,
    )
    assert queue.known("where is it?") == (GOLD, "outage")
    assert queue.known("something else") is None


def test_an_answer_given_twice_counts_once(queue: Queue) -> None:
    (id,) = queue.put([entry("a")])
    assert [queue.answer(id, "x", by) for by in ("ann", "ann", "ben")] == [True, False, False]
    with pytest.raises(QueueError, match="was answered 'x' by ann"):
        queue.answer(id, "y", "ben")
    assert queue.answer(id, "y", "ben", replace=True) is True
    assert queue.items()[0]["gold"] == "y"
    assert [(note["kind"], note["before"], note["by"]) for note in queue.book.notes()] == [
        ("answer replaced", "x", "ben")
    ]


@pytest.mark.parametrize("id", ["nope", "", "'; DROP TABLE items; --"])
def test_an_answer_to_nothing(queue: Queue, id: str) -> None:
    with pytest.raises(QueueError, match="There is no text"):
        queue.answer(id, "x", "ann")
    (real,) = queue.put([entry("a")])
    with pytest.raises(QueueError, match="needs a label"):
        queue.answer(real, "", "ann")


def test_a_lease_runs_out(queue: Queue) -> None:
    queue.put([entry("a")])
    (task,) = queue.lease("ann", seconds=0.0005)
    (again,) = queue.lease("ben", seconds=100)
    assert again == task
    assert queue.answer(task.id, "x", "ann") is True  # late, but the first to answer
    assert queue.answer(task.id, "x", "ben") is False


def test_who_waits_comes_first_then_the_oldest(queue: Queue) -> None:
    queue.put([entry("audited", kind=AUDIT, local=True, waits=False), entry("first"), entry("second")])
    assert [task.text for task in queue.lease("ann", 3)] == ["first", "second", "audited"]


def test_the_same_text_is_one_item_but_each_draw_of_the_audit_its_own(queue: Queue) -> None:
    same = [entry("a")] * 3 + [entry("a", kind=AUDIT)] * 2
    ids = queue.put(same)
    assert len(set(ids)) == 3
    assert queue.counts() == {(AUDIT, WAITING): 2, (HANDED_OVER, WAITING): 1}
    assert {row["times"] for row in queue.items(kind=HANDED_OVER)} == {3}


def test_silver_is_kept_apart_and_waits_for_nobody(queue: Queue) -> None:
    silver = entry("a", waits=False, silver="x", silver_by="gpt")
    (id,) = queue.put([silver])
    assert queue.known("a") == (SILVER, "x")
    assert queue.lease("ann") == []
    assert [task.id for task in queue.lease("ann", silver=True)] == [id]
    queue.answer(id, "y", "ann")
    queue.put([silver])
    assert queue.known("a") == (GOLD, "y")
    assert queue.items()[0]["state"] == GOLD
    # when nobody answers it the next time, a person gets it
    queue.put([replace(silver, text="b"), entry("b")])
    assert [task.text for task in queue.lease("ann")] == ["b"]


def test_the_audit_is_blind_and_belongs_to_a_certificate(queue: Queue) -> None:
    drawn = [entry(t, kind=AUDIT, guess="x", local=True, waits=False, certificate="c1") for t in "abc"]
    queue.put([*drawn, replace(drawn[0], certificate="c2"), replace(drawn[0], local=False)])
    for task in queue.lease("ann", 10):
        assert not hasattr(task, "guess")
        queue.answer(task.id, "y" if task.text == "b" else "x", "ann")
    assert queue.audited("c1") == [("x", "x"), ("x", "y"), ("x", "x")]
    assert queue.audited("c2") == [("x", "x")]


def test_a_dropped_text_is_gone(queue: Queue) -> None:
    (id,) = queue.put([entry(("secret", "pair"))])
    queue.drop(id)
    (row,) = queue.items()
    assert (row["text"], row["second"], row["state"]) == ("", None, "dropped")
    assert queue.lease("ann") == []
    for call in (lambda: queue.answer(id, "x", "ann"), lambda: queue.drop("nope")):
        with pytest.raises(QueueError, match="There is no text"):
            call()


@pytest.mark.parametrize("text", ["", "naïve ☃ 漢字", "a\0b", "\ud800", "x" * 100_000, ("left", "right")])
def test_any_text_can_wait(queue: Queue, text) -> None:
    (id,) = queue.put([entry(text)])
    (task,) = queue.lease("ann")
    assert task.id == id == text_id(text)
    assert isinstance(task.text, type(text))


def test_export_is_read_as_training_data(queue: Queue, tmp_path: Path) -> None:
    texts = [f'a sentence, with "quotes"\nand lines, number {i}' for i in range(12)]
    ids = queue.put([entry(text) for text in texts])
    for i, id in enumerate(ids):
        queue.answer(id, ("cold", "warm", NONE)[i % 3], "ann")
    queue.put([entry("only silver", waits=False, silver="cold", silver_by="gpt"), entry("nobody yet")])
    queue.put([entry(texts[0], kind=AUDIT)])
    assert export(queue, tmp_path / "gold.csv", ["words"], "mood") == 7
    found = load.read(str(tmp_path / "gold.csv"), text="words", label="mood", cache=tmp_path / "cache")
    assert found.labels == ("cold", "warm")
    read = [text for split in (found.train, found.validation, found.calibration, found.test) for text in split.texts]
    assert len(read) == 7
    assert not any("number 0" in text for text in read)  # the audit's own
    assert export(queue, tmp_path / "all.jsonl", silver=True, none_as="oos") == 12
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert sum(row["label"] == "oos" for row in rows) == 4
    assert [row["source"] for row in rows if row["text"] == "only silver"] == [SILVER]


def test_the_audit_is_exported_apart_and_gold_alone(queue: Queue) -> None:
    a, _, _ = queue.put(
        [entry("a", kind=AUDIT), entry("b", kind=AUDIT, silver="x", silver_by="gpt"), entry(("c", "d"))]
    )
    queue.answer(a, "x", "ann")
    assert list(labelled(queue, "audit", silver=True)) == [("a", "x", GOLD)]


@MANY
def test_two_workers_never_hold_the_same_text(open_queue) -> None:
    first = open_queue()
    first.put([entry(f"text {i}") for i in range(60)])
    taken: list[str] = []

    def work(by: str) -> None:
        mine = open_queue()
        while tasks := mine.lease(by, 3, 60):
            taken.extend(task.id for task in tasks)
            for task in tasks:
                mine.answer(task.id, by, by)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 60
    assert first.counts() == {(HANDED_OVER, GOLD): 60}


@MANY
def test_one_queue_serves_many_threads(open_queue) -> None:
    queue = open_queue()
    threads = [
        threading.Thread(target=lambda i=i: [queue.put([entry(f"{i} {j}")]) for j in range(10)]) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.counts() == {(HANDED_OVER, WAITING): 40}


@MANY
def test_facts_are_changed_by_one_worker_at_a_time(open_queue) -> None:
    books = [open_queue().book for _ in range(4)]

    def count(book) -> None:
        for _ in range(10):
            book.change("n", lambda n: (n or 0) + 1)

    threads = [threading.Thread(target=count, args=(book,)) for book in books]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert books[0].change("n", lambda n: n) == 40


def test_all_workers_together_keep_to_the_cap(open_queue) -> None:
    clock = Clock()
    books = [open_queue(clock=clock).book for _ in range(3)]
    assert sum(book.reserve(0.3, 1.0) for book in books * 4) == 3
    assert books[0].reserve(-0.2, 1.0) is True
    assert books[1].spent() == pytest.approx(0.7)
    clock.now += 86_400
    assert books[2].reserve(0.9, 1.0) is True


WORKER = """
import os, sys
from minikin.trust.queue import Entry, Queue
queue = Queue(sys.argv[1])
for i in range(10**6):
    ids = queue.put([Entry(f"{i} {j}", "why") for j in range(3)])
    if i % 2:
        queue.answer(ids[0], "x", "w")
    print(i, flush=True)
"""


def test_nothing_is_lost_when_a_worker_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    source = str(Path(store.__file__).parents[2])
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": source},
        )
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(30)]
        os.kill(child.pid, signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split()]
        child.wait()
        child.stdout.close()
        queue = Queue(path)
        texts = {row["text"]: row for row in queue.items()}
        for i in told:
            assert all(f"{i} {j}" in texts for j in range(3))
            assert texts[f"{i} 0"]["gold"] == ("x" if i % 2 else None)
        assert len(texts) % 3 == 0  # all of a batch, or none
        queue.close()


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.db")
    kept = queue.put([entry("kept")])
    connection = queue._store._connection()
    connection.execute("PRAGMA max_page_count = 1")  # SQLite answers as on a full disk
    with pytest.raises(QueueError, match="disk is full; free some space"):
        queue.put([entry("x" * 50_000), entry("y")])
    connection.execute("PRAGMA max_page_count = 1000000")
    assert [row["id"] for row in queue.items()] == kept
    queue.put([entry("later")])
    assert len(queue.items()) == 2


def test_a_read_only_disk(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.db")
    queue._store._connection().execute("PRAGMA query_only = 1")
    with pytest.raises(QueueError, match=r"readonly database. Give a place that you may read and write"):
        queue.put([entry("a")])
    queue.close()
    if Path("/proc").is_dir():
        with pytest.raises(QueueError, match=r"There can be no queue at /proc/no/queue.db"):
            Queue("/proc/no/queue.db")


def test_a_sqlite_url_is_the_path_in_it(tmp_path: Path) -> None:
    Queue(f"sqlite:///{tmp_path / 'by-url.db'}").close()
    assert (tmp_path / "by-url.db").is_file()


def test_other_files_and_newer_queues_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.db").write_bytes(b"\x89PNG not a database" * 100)
    with pytest.raises(QueueError, match="Another kind of file"):
        Queue(tmp_path / "photo.db")
    assert (tmp_path / "photo.db").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(QueueError, match="unable to open"):
        Queue(tmp_path)
    Queue(tmp_path / "new.db").close()
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("UPDATE facts SET value = '2' WHERE name = 'schema'")
    with pytest.raises(QueueError, match=r"schema 2.*Upgrade"):
        Queue(tmp_path / "new.db")


def test_a_url_from_the_environment_and_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueueError, match=r"NO_SUCH_QUEUE.*is not set"):
        Queue("env:NO_SUCH_QUEUE")
    pytest.importorskip("psycopg")
    monkeypatch.setenv("SOME_QUEUE", "postgresql://me:hush@127.0.0.1:1/none")
    with pytest.raises(QueueError) as raised:
        Queue("env:SOME_QUEUE")
    assert "127.0.0.1:1" in str(raised.value)
    assert "hush" not in str(raised.value)


def test_without_sqlalchemy_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"minikin\[postgres\]"):
        Queue("postgresql://localhost/x")
