"""One SQLite file: traces, spans and scores as rows, everything else as documents."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic_core import from_json, to_json

from devstack.opik.errors import Refused
from devstack.opik.rules import from_us, new_id, now_us

P = ParamSpec("P")
T = TypeVar("T")
# Opik's documents are open: unknown fields are kept, so they stay dictionaries.
Doc = dict[str, Any]
DEFAULT_PROJECT = "Default Project"

SCHEMA = """
CREATE TABLE IF NOT EXISTS projects (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS traces (
    project_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT, status TEXT NOT NULL, user TEXT,
    start_us INTEGER NOT NULL, end_us INTEGER, created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, partial INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (project_id, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traces_id ON traces (id);
CREATE INDEX IF NOT EXISTS traces_start ON traces (project_id, start_us);
CREATE TABLE IF NOT EXISTS spans (
    project_id TEXT NOT NULL, trace_id TEXT NOT NULL, id TEXT NOT NULL, parent_span_id TEXT,
    name TEXT, type TEXT NOT NULL, provider TEXT, model TEXT, usage TEXT, cost_pico INTEGER,
    start_us INTEGER NOT NULL, end_us INTEGER, created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, partial INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (project_id, trace_id, id));
CREATE INDEX IF NOT EXISTS spans_id ON spans (id);
CREATE INDEX IF NOT EXISTS spans_trace ON spans (trace_id);
CREATE TABLE IF NOT EXISTS scores (
    entity TEXT NOT NULL, project_id TEXT NOT NULL, entity_id TEXT NOT NULL, name TEXT NOT NULL,
    value REAL NOT NULL, reason TEXT, category TEXT, source TEXT NOT NULL,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL,
    PRIMARY KEY (entity, entity_id, project_id, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id));
CREATE INDEX IF NOT EXISTS documents_name ON documents (kind, name);
CREATE INDEX IF NOT EXISTS documents_parent ON documents (kind, parent);
CREATE TABLE IF NOT EXISTS rule_triggers (trace_id TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
TABLES = ("projects", "traces", "spans", "scores", "documents", "rule_triggers")


class Store:
    """A SQLite file in WAL mode: any number of readers, one writer at a time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Few threads that stay, because each keeps a connection of its own.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="opik")
        self._local = threading.local()
        self._writing = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        with self.write() as db:
            # executescript would commit by itself, so the statements go one by one.
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do some work in a thread: SQLite and the JSON of a batch would hold up the event loop."""
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def read(self) -> sqlite3.Connection:
        """This thread's connection."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            # NORMAL survives a killed process, not a power cut: right for a development store.
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
            db.execute("PRAGMA busy_timeout=10000")
            self._local.db = db
            self._all.append(db)
        return db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction; an exception leaves nothing behind."""
        with self._writing:
            db = self.read()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def clear(self) -> None:
        """Forget everything."""
        with self.write() as db:
            for table in TABLES:
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        return sum(file.stat().st_size for file in self.path.parent.glob(f"{self.path.name}*"))

    def close(self) -> None:
        """End the threads and close their connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for db in self._all:
            db.close()
        self._all.clear()


def project_of(db: sqlite3.Connection, doc: Doc) -> str:
    """The id of the project a document names, made when it does not exist, as the server does."""
    if doc.get("project_id"):
        return str(doc["project_id"])
    name = doc.get("project_name") or DEFAULT_PROJECT
    found = find_project(db, name)
    if found is None:
        found, now = new_id(), now_us()
        db.execute("INSERT INTO projects VALUES (?, ?, NULL, ?, ?)", (found, name, now, now))
    return found


def find_project(db: sqlite3.Connection, name: str) -> str | None:
    """The id of a project by its name."""
    row = db.execute("SELECT id FROM projects WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row["id"])


def put_document(
    db: sqlite3.Connection, kind: str, body: Doc, *, parent: str = "", name: str = ""
) -> None:
    """Insert or replace a document; `body["id"]` is its key."""
    now = now_us()
    db.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET"
        " parent = excluded.parent, name = excluded.name, body = excluded.body,"
        " updated_us = excluded.updated_us",
        (kind, str(body["id"]), parent, name, now, now, to_json(body).decode()),
    )


def documents(
    db: sqlite3.Connection,
    kind: str,
    *,
    identity: str | None = None,
    parent: str | None = None,
    name: str | None = None,
) -> list[Doc]:
    """Documents of a kind in the order of their making, with the server's own times."""
    rows = db.execute(
        "SELECT body, created_us, updated_us FROM documents WHERE kind = ?"
        " AND (? IS NULL OR id = ?) AND (? IS NULL OR parent = ?) AND (? IS NULL OR name = ?)"
        " ORDER BY created_us, id",
        (kind, identity, identity, parent, parent, name, name),
    )
    return [
        {
            **from_json(row["body"]),
            "created_at": from_us(row["created_us"]),
            "last_updated_at": from_us(row["updated_us"]),
        }
        for row in rows
    ]


def document(db: sqlite3.Connection, kind: str, identity: str) -> Doc:
    """One document. Raises Refused(404)."""
    found = documents(db, kind, identity=identity)
    if not found:
        raise Refused(404, f"{kind.replace('_', ' ').capitalize()} not found")
    return found[0]
