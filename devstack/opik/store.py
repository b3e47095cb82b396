"""One SQLite file: traces, spans and scores as rows, everything else as documents."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from devstack.opik.errors import Refused
from devstack.opik.rules import from_us, new_id, now_us

# Opik's documents are open: unknown fields are kept, so they stay dictionaries.
Doc = dict[str, Any]
DEFAULT_PROJECT = "Default Project"

SCHEMA = """
CREATE TABLE IF NOT EXISTS projects (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS traces (
    project_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT, status TEXT NOT NULL, user TEXT,
    thread_id TEXT, start_us INTEGER NOT NULL, end_us INTEGER, created_us INTEGER NOT NULL,
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
CREATE INDEX IF NOT EXISTS scores_name ON scores (entity, name, updated_us);
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
        self._local = threading.local()
        self._writing = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        with self.write() as db:
            # executescript would commit by itself, so the statements go one by one.
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)

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
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close every thread's connection."""
        for db in self._all:
            db.close()
        self._all.clear()


def project_id(db: sqlite3.Connection, name: str | None) -> str:
    """The id of a project, made when it does not exist: the server's getOrCreate."""
    wanted = name or DEFAULT_PROJECT
    found = find_project(db, wanted)
    if found is not None:
        return found
    identity, now = new_id(), now_us()
    db.execute("INSERT INTO projects VALUES (?, ?, NULL, ?, ?)", (identity, wanted, now, now))
    return identity


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
