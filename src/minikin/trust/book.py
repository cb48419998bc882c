"""Small facts beside the queue: the state of the watch, a log with its evidence, and what was spent.

`Book` keeps them in the queue's database, where all workers share them; `Memory` for one process without a queue.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from minikin.trust.store import Store, Transaction

TABLES = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS notes (at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS spending (day TEXT PRIMARY KEY, amount DOUBLE PRECISION NOT NULL)",
)


class Facts(Protocol):
    """What the watch and the purse need of a book."""

    def change(self, name: str, how: Callable[[Any], Any]) -> Any:
        """Replace the fact `name` (None at first) by `how` of it, alone among all workers; return the new one."""
        ...

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Log something that happened, with its evidence."""
        ...

    def reserve(self, amount: float, cap: float | None) -> bool:
        """Add to what was spent today; False, and nothing, if that would then be more than `cap`."""
        ...


class Book:
    """Facts in a database."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock

    def change(self, name: str, how: Callable[[Any], Any]) -> Any:
        """Replace the fact `name` (None at first) by `how` of it, alone among all workers; return the new one."""
        with self._store.transaction() as do:
            claim = "INSERT INTO facts VALUES (:name, 'null') ON CONFLICT (name) DO UPDATE SET value = facts.value"
            do.run(claim, name=name)  # on a server too, the row is now ours until the end
            value = how(json.loads(do.rows("SELECT value FROM facts WHERE name = :name", name=name)[0]["value"]))
            do.run("UPDATE facts SET value = :value WHERE name = :name", name=name, value=json.dumps(value))
        return value

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Log something that happened, with its evidence."""
        with self._store.transaction() as do:
            self.write(do, kind, body)

    def write(self, do: Transaction, kind: str, body: Mapping[str, Any]) -> None:
        """Log as a part of a transaction that is under way."""
        do.run("INSERT INTO notes VALUES (:at, :kind, :body)", at=self._clock(), kind=kind, body=json.dumps(body))

    def notes(self) -> list[dict[str, Any]]:
        """Everything that was logged, oldest first."""
        with self._store.transaction() as do:
            rows = do.rows("SELECT at, kind, body FROM notes ORDER BY at")
        return [{"at": row["at"], "kind": row["kind"], **json.loads(row["body"])} for row in rows]

    def reserve(self, amount: float, cap: float | None) -> bool:
        """Add to what all workers spent today; False, and nothing, if that would then be more than `cap`."""
        values: dict[str, Any] = {"day": _day(self._clock()), "amount": amount}
        room = ""
        if cap is not None and amount > 0:
            room, values["cap"] = "AND amount + :amount <= :cap", cap
        with self._store.transaction() as do:
            do.run("INSERT INTO spending VALUES (:day, 0) ON CONFLICT (day) DO NOTHING", day=values["day"])
            touched: int = do.run(f"UPDATE spending SET amount = amount + :amount WHERE day = :day {room}", **values)
        return touched > 0

    def spent(self) -> float:
        """What was spent on all days together."""
        with self._store.transaction() as do:
            return float(do.rows("SELECT COALESCE(SUM(amount), 0) AS amount FROM spending")[0]["amount"])


class Memory:
    """Facts of this process alone."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.RLock()
        self._facts: dict[str, Any] = {}
        self._days: dict[str, float] = {}
        self._notes: list[dict[str, Any]] = []

    def change(self, name: str, how: Callable[[Any], Any]) -> Any:
        """Replace the fact `name` by `how` of it; return the new one."""
        with self._lock:
            self._facts[name] = how(self._facts.get(name))
            return self._facts[name]

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Keep what happened."""
        with self._lock:
            self._notes.append({"at": self._clock(), "kind": kind, **body})

    def notes(self) -> list[dict[str, Any]]:
        """Everything that was logged, oldest first."""
        with self._lock:
            return list(self._notes)

    def reserve(self, amount: float, cap: float | None) -> bool:
        """Add to what was spent today; False, and nothing, if that would then be more than `cap`."""
        day = _day(self._clock())
        with self._lock:
            total = self._days.get(day, 0.0) + amount
            if cap is not None and amount > 0 and total > cap:
                return False
            self._days[day] = total
            return True

    def spent(self) -> float:
        """What was spent on all days together."""
        with self._lock:
            return sum(self._days.values())


def _day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))
