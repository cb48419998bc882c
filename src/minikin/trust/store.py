"""The two databases a queue can lie in, SQLite and PostgreSQL, behind one way to run a transaction. Used by `queue`."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from minikin.base.errors import QueueError
from minikin.base.extras import need

BUSY_S = 30.0
"""How long a worker waits for another's transaction."""

Row = Mapping[str, Any]


class Transaction(Protocol):
    """Runs statements with named parameters (`:name`); all of them count, or none."""

    def run(self, statement: str, **values: Any) -> int:
        """Run a statement; return how many rows it touched."""
        ...

    def rows(self, statement: str, **values: Any) -> list[Row]:
        """Run a query, or a statement with RETURNING; return its rows by column name."""
        ...


class Store(Protocol):
    """A database: `skip_locked` is what a query says to pass over rows that another worker is taking."""

    skip_locked: str

    def transaction(self) -> Any:
        """Return a context manager that yields a `Transaction`, commits at its end, or undoes everything."""
        ...

    def close(self) -> None:
        """Let the connections go."""
        ...


def connect(at: str | Path) -> Store:
    """Open a store: `postgresql://…`, `env:NAME` that holds such a URL, or the path (or sqlite:///path) of a file.

    Raises QueueError when it can't be opened, and MissingExtra when PostgreSQL's packages are not installed.
    """
    name = str(at)
    if name.startswith("env:"):
        variable = name.removeprefix("env:")
        name = os.environ.get(variable, "")
        if not name:
            raise QueueError(f"The environment variable {variable}, which names the queue, is not set. Set it.")
    name = name.removeprefix("sqlite:///")
    return Server(name) if "://" in name else File(Path(name))


class File:
    """A SQLite file in WAL mode, every commit on the disk before it returns; one connection for each thread."""

    skip_locked = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise QueueError(f"There can be no queue at {path}: {error.strerror}. Give another place.") from error
        with self._said():
            self._connection()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin at once (so that two writers take turns), commit at the end, undo everything on an error."""
        with self._said():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Plain(connection)
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            with self._lock:
                self._open.append(found)
            self._local.connection = found
        return found

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise QueueError(f"The queue {self.path}: {error}. {_remedy(str(error))}") from error


def _remedy(said: str) -> str:
    if "full" in said:
        return "The disk is full; free some space. Nothing that was in the queue is lost."
    if "readonly" in said or "unable to open" in said:
        return "Give a place that you may read and write."
    if "not a database" in said or "malformed" in said:
        return "Another kind of file stands there, or it is damaged: give another place, and keep it for rescue."
    if "locked" in said:
        return f"Another process has held it for {BUSY_S:.0f} s; end that, then try again."
    return "Try again, or give another place."


class _Plain:
    """A transaction of the standard library's sqlite3."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, **values: Any) -> int:
        return self._connection.execute(statement, values).rowcount

    def rows(self, statement: str, **values: Any) -> list[Row]:
        return [dict(row) for row in self._connection.execute(statement, values).fetchall()]


class Server:
    """A database server by URL, through SQLAlchemy. Its URL can hold a password, so no message shows it."""

    def __init__(self, url: str) -> None:
        self._alchemy = need("sqlalchemy", "postgres")
        # Without a driver in it, a URL means the one that the extra installs.
        url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
        self.skip_locked = "FOR UPDATE SKIP LOCKED" if url.startswith("postgresql") else ""
        try:
            self._engine = self._alchemy.create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            need(str(error.name), "postgres")
            raise
        except self._alchemy.exc.ArgumentError:
            raise QueueError("The URL of the queue is not one that SQLAlchemy reads. Check it.") from None
        with self.transaction():
            pass

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit at the end, undo everything on an error."""
        try:
            with self._engine.begin() as connection:
                yield _Through(connection, self._alchemy.text)
        except self._alchemy.exc.SQLAlchemyError as error:
            where = self._engine.url.render_as_string(hide_password=True)
            why = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()
            raise QueueError(f"The queue {where}: {why[0] if why else error}. Is the server there?") from None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


class _Through:
    """A transaction of SQLAlchemy."""

    def __init__(self, connection: Any, text: Any) -> None:
        self._connection, self._text = connection, text

    def run(self, statement: str, **values: Any) -> int:
        return int(self._connection.execute(self._text(statement), values).rowcount)

    def rows(self, statement: str, **values: Any) -> list[Row]:
        return [dict(row) for row in self._connection.execute(self._text(statement), values).mappings()]
