"""The queue of what was handed over and what is audited: kept until answered, whatever is killed meanwhile.

`handover` puts texts in, people and workers take them on lease and answer, `rows` turns answers into training rows.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from minikin.base.errors import QueueError
from minikin.base.joined import readable
from minikin.base.types import Text
from minikin.trust.book import TABLES, Book
from minikin.trust.store import Row, connect

SCHEMA_VERSION: Final = 1
NONE: Final = "(none)"
"""The answer "none of these labels"."""
HANDED_OVER, AUDIT = "handed over", "audit"
WAITING, LEASED, SILVER, GOLD, DROPPED = "waiting", "leased", "silver", "gold", "dropped"
STATES = (WAITING, LEASED, SILVER, GOLD, DROPPED)

_TABLES = (
    *TABLES,
    """CREATE TABLE IF NOT EXISTS items (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL, second TEXT, reason TEXT NOT NULL, guess TEXT,
        local INTEGER NOT NULL, waits INTEGER NOT NULL, state TEXT NOT NULL, silver TEXT, silver_by TEXT, gold TEXT,
        gold_by TEXT, lease_by TEXT, lease_until DOUBLE PRECISION, times INTEGER NOT NULL, certificate TEXT NOT NULL,
        arrived DOUBLE PRECISION NOT NULL, answered DOUBLE PRECISION)""",
    "CREATE INDEX IF NOT EXISTS items_by_state ON items (state, waits, arrived)",
)
# A text that comes again is counted, and waits again if this time nobody answered it.
_PUT = """INSERT INTO items (id, kind, text, second, reason, guess, local, waits, state, silver, silver_by, times,
        certificate, arrived) VALUES (:id, :kind, :text, :second, :reason, :guess, :local, :waits, :state, :silver,
        :silver_by, 1, :certificate, :arrived)
    ON CONFLICT (id) DO UPDATE SET times = items.times + 1,
        waits = CASE WHEN items.gold IS NULL AND excluded.waits = 1 THEN 1 ELSE items.waits END,
        silver = COALESCE(excluded.silver, items.silver),
        silver_by = COALESCE(excluded.silver_by, items.silver_by),
        state = CASE WHEN items.state = 'silver' THEN excluded.state ELSE items.state END"""
_LEASE = """UPDATE items SET state = 'leased', lease_by = :by, lease_until = :until WHERE id IN (
        SELECT id FROM items WHERE (state = 'waiting' OR (state = 'leased' AND lease_until < :now)
            OR (state = 'silver' AND :silver = 1)) AND (:kind = '' OR kind = :kind)
        ORDER BY waits DESC, arrived, id LIMIT :most {skip_locked})
    RETURNING id, text, second, waits, arrived"""


@dataclass(frozen=True)
class Entry:
    """One text for the queue. `guess` is what the small model said, `local` whether that was the answer given,
    `waits` whether nobody has answered yet, `silver` what a large model answered."""

    text: Text
    reason: str
    kind: str = HANDED_OVER
    guess: str | None = None
    local: bool = False
    waits: bool = True
    silver: str | None = None
    silver_by: str | None = None
    certificate: str = ""

    @property
    def id(self) -> str:
        """Under which it lies: the same for the same text, but each draw of the audit has its own."""
        if self.kind == AUDIT:
            return uuid.uuid4().hex[:16]
        return text_id(self.text)


@dataclass(frozen=True)
class Task:
    """What a person sees: the text alone, so that every answer is blind."""

    id: str
    text: Text


class Queue:
    """Texts and their answers in SQLite or PostgreSQL; safe for several threads and several processes."""

    def __init__(self, at: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open it, or make it. Raises QueueError when it can't be, or was written by a newer version."""
        self._store, self._clock = connect(at), clock
        self.book = Book(self._store, clock)
        with self._store.transaction() as do:
            for statement in _TABLES:
                do.run(statement)
            do.run("INSERT INTO facts VALUES ('schema', :v) ON CONFLICT (name) DO NOTHING", v=str(SCHEMA_VERSION))
            version = do.rows("SELECT value FROM facts WHERE name = 'schema'")[0]["value"]
        if version != str(SCHEMA_VERSION):
            self.close()
            raise QueueError(f"The queue is of schema {version}, this minikin reads {SCHEMA_VERSION}. Upgrade minikin.")

    def put(self, entries: Sequence[Entry]) -> list[str]:
        """Keep entries, all or none; when it returns they are on the disk. Return their ids, in order."""
        rows = [self._row(entry) for entry in entries]
        with self._store.transaction() as do:
            for row in rows:
                do.run(_PUT, **row)
        return [row["id"] for row in rows]

    def known(self, text: Text) -> tuple[str, str] | None:
        """What this very text was answered before: ("gold", label), ("silver", label), or None."""
        with self._store.transaction() as do:
            found = do.rows("SELECT gold, silver FROM items WHERE id = :id", id=text_id(text))
        row = found[0] if found else {"gold": None, "silver": None}
        return (GOLD, row["gold"]) if row["gold"] else (SILVER, row["silver"]) if row["silver"] else None

    def lease(
        self, by: str, most: int = 1, seconds: float = 900.0, *, silver: bool = False, kind: str | None = None
    ) -> list[Task]:
        """Take up to `most` texts for `seconds`: those that somebody waits for first, then the oldest.

        Nobody else gets them until the lease runs out. With `silver`, those that only a large model answered too;
        with `kind`, only what was handed over, or only the audit.
        """
        now = self._clock()
        statement = _LEASE.format(skip_locked=self._store.skip_locked)
        with self._store.transaction() as do:
            rows = do.rows(
                statement, by=by, until=now + seconds, now=now, silver=int(silver), kind=kind or "", most=most
            )
        rows.sort(key=lambda row: (-row["waits"], row["arrived"], row["id"]))
        return [Task(row["id"], text_of(row)) for row in rows]

    def answer(self, id: str, label: str, by: str, *, replace: bool = False) -> bool:
        """Keep a person's (gold) answer; True if it is new, False if the same answer stands there already.

        Raises QueueError when there is no such text, or another answer stands there and `replace` is not given.
        """
        if not label:
            raise QueueError(f"An answer needs a label; {NONE} says that none of them fits.")
        where = "id = :id AND state <> 'dropped'" + ("" if replace else " AND gold IS NULL")
        with self._store.transaction() as do:
            before = do.rows("SELECT gold, gold_by, state FROM items WHERE id = :id", id=id)
            if not before or before[0]["state"] == DROPPED:
                raise QueueError(f"There is no text {id} in the queue. `minikin queue KIN list` shows what there is.")
            if before[0]["gold"] == label:
                return False
            statement = (
                "UPDATE items SET gold = :gold, gold_by = :by, state = 'gold', waits = 0, lease_by = NULL, "
                f"lease_until = NULL, answered = :now WHERE {where}"
            )
            if do.run(statement, id=id, gold=label, by=by, now=self._clock()):
                if before[0]["gold"]:
                    self.book.write(do, "answer replaced", {"id": id, "before": before[0]["gold"], "by": by})
                return True
            held = do.rows("SELECT gold, gold_by FROM items WHERE id = :id", id=id)[0]
        if held["gold"] == label:
            return False
        raise QueueError(f"{id} was answered '{held['gold']}' by {held['gold_by']}. Give --replace to change that.")

    def drop(self, id: str) -> None:
        """Forget a text for good: only that there was one stays. Raises QueueError when there is none."""
        with self._store.transaction() as do:
            statement = "UPDATE items SET state = 'dropped', text = '', second = NULL, waits = 0 WHERE id = :id"
            if not do.run(statement, id=id):
                raise QueueError(f"There is no text {id} in the queue.")

    def items(self, *states: str, kind: str | None = None, most: int | None = None) -> list[Row]:
        """Rows by state and kind (all of them by default), as `lease` would give them out."""
        wanted = ", ".join(f"'{state}'" for state in (states or STATES) if state in STATES)
        of_kind, limit = ("AND kind = :kind" if kind else ""), (f"LIMIT {int(most)}" if most is not None else "")
        statement = f"SELECT * FROM items WHERE state IN ({wanted}) {of_kind} ORDER BY waits DESC, arrived, id {limit}"
        with self._store.transaction() as do:
            found: list[Row] = do.rows(statement, **({"kind": kind} if kind else {}))
        return found

    def counts(self) -> dict[tuple[str, str], int]:
        """How many texts there are of each (kind, state)."""
        with self._store.transaction() as do:
            rows = do.rows("SELECT kind, state, COUNT(*) AS n FROM items GROUP BY kind, state ORDER BY kind, state")
        return {(row["kind"], row["state"]): row["n"] for row in rows}

    def audited(self, certificate: str) -> list[tuple[str, str]]:
        """(what the small model answered, what a person says) of audited *local* answers, in order of answering."""
        statement = (
            "SELECT guess, gold FROM items WHERE kind = 'audit' AND local = 1 AND gold IS NOT NULL "
            "AND certificate = :certificate ORDER BY answered, id"
        )
        with self._store.transaction() as do:
            return [(row["guess"], row["gold"]) for row in do.rows(statement, certificate=certificate)]

    def close(self) -> None:
        """Let the database go."""
        self._store.close()

    def _row(self, entry: Entry) -> dict[str, Any]:
        first, second = (entry.text, None) if isinstance(entry.text, str) else entry.text
        return {
            "id": entry.id,
            "kind": entry.kind,
            "text": _storable(first),
            "second": second if second is None else _storable(second),
            "reason": entry.reason,
            "guess": entry.guess,
            "local": int(entry.local),
            "waits": int(entry.waits),
            "state": SILVER if entry.silver and entry.kind == HANDED_OVER else WAITING,
            "silver": entry.silver,
            "silver_by": entry.silver_by,
            "certificate": entry.certificate,
            "arrived": self._clock(),
        }


def text_id(text: Text) -> str:
    """16 hexadecimal digits that stand for a text."""
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]


def text_of(row: Row) -> Text:
    """The text, or pair, of a row."""
    return row["text"] if row["second"] is None else (row["text"], row["second"])


def _storable(text: str) -> str:
    """A text as a database takes it: without NUL, and with lone surrogates replaced."""
    return readable(text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
