"""From the part of Opik's filter language that clients here use to SQL over the stored rows."""

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import from_json

from devstack.opik.errors import Refused
from devstack.opik.rules import to_us
from devstack.opik.store import Doc, find_project

Table = Literal["traces", "spans"]

TEXTS = {"id": "e.id", "name": "e.name"}
TIMES = {"start_time": "e.start_us", "end_time": "e.end_us"}
NUMBERS = {"duration": "((e.end_us - e.start_us) / 1000.0)"}
COMPARISONS = {"=": "=", "!=": "<>", ">": ">", ">=": ">=", "<": "<", "<=": "<="}


@dataclass
class Where:
    """Conditions joined by AND, with the values of their question marks."""

    parts: list[str] = field(default_factory=list)
    params: list[Any] = field(default_factory=list)

    def add(self, part: str, *params: object) -> None:
        """One more condition."""
        self.parts.append(part)
        self.params.extend(params)

    def sql(self) -> str:
        """The text after WHERE."""
        return " AND ".join(self.parts) or "1"


def containing(text: object) -> str:
    """A LIKE pattern for what holds a text, whose own wildcards are plain characters."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", str(text)) + "%"


def select(
    db: sqlite3.Connection, table: Table, where: str, params: list[Any], tail: str = ""
) -> list[sqlite3.Row]:
    """Rows of `e` that fit; `where` and `tail` are SQL of our own."""
    return db.execute(f"SELECT e.* FROM {table} e WHERE {where} {tail}", params).fetchall()  # noqa: S608


def _number(value: object, read: Callable[[str], float] = float) -> float:
    try:
        return read(str(value))
    except ValueError as error:
        raise Refused(400, f"Invalid value '{value}' in a filter") from error


def _compared(expression: str, operator: str) -> str:
    """A condition on `expression` with one question mark. Raises Refused(400)."""
    if operator == "contains":
        return f"{expression} LIKE ? ESCAPE '\\'"
    if operator not in COMPARISONS:
        raise Refused(
            400, f"Invalid operator '{operator}', or one the local receiver does not support"
        )
    return f"{expression} {COMPARISONS[operator]} ?"


def add_filter(where: Where, table: Table, asked: Doc) -> None:
    """One of Opik's filters {field, operator, key, value}. Raises Refused(400)."""
    name, operator = str(asked.get("field", "")), str(asked.get("operator", ""))
    base, _, rest = name.partition(".")
    key, value = str(asked.get("key") or rest), asked.get("value", "")
    text = containing(value) if operator == "contains" else value
    if name in TEXTS:
        where.add(_compared(TEXTS[name], operator), text)
    elif name in TIMES:
        where.add(_compared(TIMES[name], operator), _number(value, to_us))
    elif name in NUMBERS:
        where.add(_compared(NUMBERS[name], operator), _number(value))
    elif base == "feedback_scores":
        rows = "FROM scores f WHERE f.entity_id = e.id AND f.project_id = e.project_id"
        one = f"EXISTS (SELECT 1 {rows} AND f.entity = ? AND f.name = ? AND "
        where.add(one + _compared("f.value", operator) + ")", table[:-1], key, _number(value))
    elif base == "tags":
        tags = "EXISTS (SELECT 1 FROM json_each(e.body, '$.tags') g WHERE "
        where.add(tags + _compared("g.value", operator) + ")", text)
    elif base == "metadata" and key and '"' not in key:
        # A key with dots is a path or one name: both are tried.
        found = "coalesce(json_extract(e.body, ?), json_extract(e.body, ?))"
        paths = ('$.metadata."' + key.replace(".", '"."') + '"', f'$.metadata."{key}"')
        numeric = operator in (">", ">=", "<", "<=")
        cast = f"CAST({found} AS {'REAL' if numeric else 'TEXT'})"
        where.add(_compared(cast, operator), *paths, _number(value) if numeric else text)
    else:
        raise Refused(400, f"Invalid field '{name}', or one the local receiver does not support")


def _filters(value: object) -> list[Doc]:
    """The filters of a query string or of a body. Raises Refused(400)."""
    try:
        asked = from_json(value) if isinstance(value, str) and value else value
    except ValueError as error:
        raise Refused(400, "Invalid filters query parameter", str(error)) from error
    if not asked:
        return []
    if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked):
        raise Refused(400, "Invalid filters query parameter")
    return asked


def _project(db: sqlite3.Connection, asked: Doc) -> str:
    if asked.get("project_id"):
        return str(asked["project_id"])
    if not asked.get("project_name"):
        raise Refused(400, "Either 'project_name' or 'project_id' query params must be provided")
    found = find_project(db, str(asked["project_name"]))
    if found is None:
        raise Refused(404, f"Project name: {asked['project_name']} not found")
    return found


# Parameters that would change what is found, and that nobody has needed here.
UNSUPPORTED = ("search", "sorting", "from_time", "to_time", "type")


def where_of(db: sqlite3.Connection, table: Table, asked: Doc) -> Where:
    """Project, trace and filters of a query or a search body. Raises Refused(400 or 404)."""
    unsupported = [name for name in UNSUPPORTED if asked.get(name)]
    if unsupported:
        raise Refused(400, f"The local receiver does not support {', '.join(unsupported)}")
    where = Where()
    where.add("e.project_id = ?", _project(db, asked))
    if table == "spans" and asked.get("trace_id"):
        where.add("e.trace_id = ?", asked["trace_id"])
    for each in _filters(asked.get("filters")):
        add_filter(where, table, each)
    return where
