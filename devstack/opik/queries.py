"""From Opik's filters, sorting and search to SQL conditions over the stored rows."""

import re
import sqlite3
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import from_json

from devstack.opik.http import Call, Doc, Refused
from devstack.opik.rules import to_us
from devstack.opik.store import find_project

Table = Literal["traces", "spans"]
Params = list[Any]

_OF_TRACE = "FROM spans s WHERE s.trace_id = e.id AND s.project_id = e.project_id"
SHARED = {
    "id": "e.id",
    "name": "e.name",
    "start_time": "e.start_us",
    "end_time": "e.end_us",
    "created_at": "e.created_us",
    "last_updated_at": "e.updated_us",
    "duration": "((e.end_us - e.start_us) / 1000.0)",
    "input": "json_extract(e.body, '$.input')",
    "output": "json_extract(e.body, '$.output')",
    "error_info": "json_extract(e.body, '$.error_info')",
    "environment": "json_extract(e.body, '$.environment')",
    "source": "json_extract(e.body, '$.source')",
}
FIELDS: dict[Table, dict[str, str]] = {
    "traces": {
        **SHARED,
        "thread_id": "e.thread_id",
        "status": "e.status",
        "user": "e.user",
        "span_count": f"(SELECT count(*) {_OF_TRACE})",
        "llm_span_count": f"(SELECT count(*) {_OF_TRACE} AND s.type = 'llm')",
        "total_estimated_cost": f"(SELECT sum(s.cost_pico) / 1e12 {_OF_TRACE})",
        "providers": f"(SELECT group_concat(s.provider) {_OF_TRACE})",
    },
    "spans": {
        **SHARED,
        "trace_id": "e.trace_id",
        "parent_span_id": "e.parent_span_id",
        "type": "e.type",
        "model": "e.model",
        "provider": "e.provider",
        "total_estimated_cost": "(e.cost_pico / 1e12)",
    },
}
TIMES = {"start_time", "end_time", "created_at", "last_updated_at"}
SORTABLE = {table: [*fields, "feedback_scores.*"] for table, fields in FIELDS.items()}
COMPARISONS = {"=": "=", "!=": "<>", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
LIKES = {"contains": "%{}%", "starts_with": "{}%", "ends_with": "%{}"}


@dataclass
class Where:
    """Conditions joined by AND, with the values of their question marks."""

    parts: list[str] = field(default_factory=list)
    params: Params = field(default_factory=list)

    def add(self, part: str, *params: object) -> None:
        """One more condition."""
        self.parts.append(part)
        self.params.extend(params)

    def sql(self) -> str:
        """The text after WHERE."""
        return " AND ".join(self.parts) or "1"


def like(pattern: str, text: str) -> str:
    """A LIKE pattern around a text whose own wildcards are plain characters."""
    return pattern.format(re.sub(r"([\\%_])", r"\\\1", text))


def _path(key: str) -> str:
    if '"' in key:
        raise Refused(400, f"Invalid filter key '{key}'")
    return key if key.startswith("$") else f"$.{key}"


def _compared(expression: str, operator: str, value: object, params: Params) -> tuple[str, Params]:
    """`expression operator value`; `params` belong to the expression itself."""
    if operator == "is_empty":
        return f"coalesce({expression}, '') = ''", params
    if operator == "is_not_empty":
        return f"coalesce({expression}, '') <> ''", params
    if operator in COMPARISONS:
        return f"{expression} {COMPARISONS[operator]} ?", [*params, value]
    if operator == "not_contains":
        text = like(LIKES["contains"], str(value))
        return f"coalesce({expression}, '') NOT LIKE ? ESCAPE '\\'", [*params, text]
    if operator in LIKES:
        return f"{expression} LIKE ? ESCAPE '\\'", [*params, like(LIKES[operator], str(value))]
    raise Refused(400, f"Invalid operator '{operator}'")


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError as error:
        raise Refused(400, f"Invalid value '{text}' for a number") from error


def _score(where: Where, table: Table, key: str, operator: str, value: object) -> None:
    entity = table.removesuffix("s")
    exists = (
        f"EXISTS (SELECT 1 FROM scores f WHERE f.entity = '{entity}' AND f.entity_id = e.id"  # noqa: S608
        " AND f.project_id = e.project_id AND f.name = ?"
    )
    if operator in ("is_empty", "is_not_empty"):
        where.add(f"{'NOT ' * (operator == 'is_empty')}{exists})", key)
    elif operator in COMPARISONS:
        where.add(f"{exists} AND f.value {COMPARISONS[operator]} ?)", key, _number(value))
    else:
        raise Refused(400, f"Invalid operator '{operator}' for feedback_scores")


def _json_field(where: Where, name: str, key: str, operator: str, value: object) -> None:
    """A key of metadata, input or output: as a path, or as one name that holds dots itself."""
    path = _path(key).replace("$", f"$.{name}", 1)
    literal = f'$.{name}."{key}"'
    expression = "CAST(coalesce(json_extract(e.body, ?), json_extract(e.body, ?)) AS TEXT)"
    if operator in (">", ">=", "<", "<="):
        expression, value = expression.replace("TEXT", "REAL"), _number(value)
    sql, params = _compared(expression, operator, value, [path, literal])
    where.add(sql, *params)


def _usage(table: Table, name: str) -> str:
    one = f"json_extract({{}}.usage, '$.\"{name}\"')"
    if table == "spans":
        return one.format("e")
    return f"(SELECT sum({one.format('s')}) {_OF_TRACE})"


def _tags(where: Where, operator: str, value: object) -> None:
    exists = "EXISTS (SELECT 1 FROM json_each(e.body, '$.tags') g WHERE g.value LIKE ? ESCAPE '\\')"
    if operator in ("is_empty", "is_not_empty"):
        sql, params = _compared("json_extract(e.body, '$.tags')", operator, value, [])
        where.add(sql.replace("''", "'[]'"), *params)
        return
    pattern = "{}" if operator in ("=", "!=") else "%{}%"
    no = "NOT " if operator in ("not_contains", "!=") else ""
    where.add(no + exists, like(pattern, str(value)))


def add_filter(where: Where, table: Table, asked: Doc) -> None:
    """One of Opik's filters {field, operator, key, value}. Raises Refused(400)."""
    name, operator = str(asked.get("field", "")), str(asked.get("operator", ""))
    key, value = str(asked.get("key") or ""), asked.get("value", "")
    base, _, rest = name.partition(".")
    if base == "feedback_scores":
        _score(where, table, key or rest, operator, value)
    elif base == "tags":
        _tags(where, operator, value)
    elif base == "usage":
        if not re.fullmatch(r"[\w.]+", rest):
            raise Refused(400, f"Invalid field '{name}'")
        sql, params = _compared(_usage(table, rest), operator, _number(value), [])
        where.add(sql, *params)
    elif base in ("metadata", "input_json", "output_json", "input", "output") and (key or rest):
        _json_field(where, base.removesuffix("_json"), key or rest, operator, value)
    elif name in FIELDS[table] or base in ("metadata",):
        _plain(where, table, name, operator, value)
    else:
        raise Refused(400, f"Invalid field '{name}'")


def _plain(where: Where, table: Table, name: str, operator: str, value: object) -> None:
    expression = FIELDS[table].get(name, "json_extract(e.body, '$.metadata')")
    if name in TIMES and operator in COMPARISONS:
        try:
            value = to_us(value)
        except ValueError as error:
            raise Refused(400, f"Invalid value '{value}' for {name}") from error
    elif name in ("duration", "total_estimated_cost", "span_count", "llm_span_count"):
        value = _number(value) if operator in COMPARISONS else value
    sql, params = _compared(expression, operator, value, [])
    where.add(sql, *params)


def filters_of(value: object) -> list[Doc]:
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


def project_scope(db: sqlite3.Connection, asked: Doc) -> str:
    """The project of a query or of a search body. Raises Refused(400 or 404)."""
    if asked.get("project_id"):
        return str(asked["project_id"])
    if not asked.get("project_name"):
        raise Refused(400, "Either 'project_name' or 'project_id' query params must be provided")
    found = find_project(db, str(asked["project_name"]))
    if found is None:
        raise Refused(404, f"Project name: {asked['project_name']} not found")
    return found


def where_of(call: Call, table: Table, asked: Doc) -> Where:
    """Project, trace, kind, time, search and filters of a query or a search body."""
    where = Where()
    where.add("e.project_id = ?", project_scope(call.store.read(), asked))
    for name in ("trace_id", "type"):
        if table == "spans" and asked.get(name):
            where.add(f"e.{name} = ?", asked[name])
    try:
        if asked.get("from_time"):
            where.add("e.start_us >= ?", to_us(asked["from_time"]))
        if asked.get("to_time"):
            where.add("e.start_us <= ?", to_us(asked["to_time"]))
    except ValueError as error:
        raise Refused(400, "Invalid time", str(error)) from error
    if asked.get("search"):
        text = like(LIKES["contains"], str(asked["search"]))
        where.add("e.body LIKE ? ESCAPE '\\'", text)
    for each in filters_of(asked.get("filters")):
        add_filter(where, table, each)
    return where


def order_of(table: Table, value: object) -> tuple[str, Params]:
    """The text after ORDER BY; newest first when nothing is asked. Raises Refused(400)."""
    parts: list[str] = []
    params: Params = []
    for each in filters_of(value):
        name = str(each.get("field", ""))
        base, _, rest = name.partition(".")
        if base == "feedback_scores" and rest:
            entity = table.removesuffix("s")
            expression = (
                f"(SELECT f.value FROM scores f WHERE f.entity = '{entity}'"  # noqa: S608
                " AND f.entity_id = e.id AND f.project_id = e.project_id AND f.name = ?)"
            )
            params.append(rest)
        elif name in FIELDS[table]:
            expression = FIELDS[table][name]
        else:
            raise Refused(400, f"Invalid sorting field '{name}'")
        down = str(each.get("direction", "ASC")).upper() == "DESC"
        parts.append(f"{expression} {'DESC' if down else 'ASC'} NULLS LAST")
    return ", ".join([*parts, "e.id DESC"]), params
