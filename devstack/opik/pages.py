"""Pages for people: traces, datasets, experiments, configuration. Read only."""

from collections.abc import Callable

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from devstack.opik.calls import Call
from devstack.opik.errors import Refused
from devstack.opik.faults import Fault
from devstack.opik.lists import DATES, SCORES, Filters, trace_list
from devstack.opik.page import HERE, Frame, html, missing
from devstack.opik.pages_datasets import dataset_page, datasets_page, experiment_page
from devstack.opik.rules import Rules
from devstack.opik.store import TABLES, Store, documents
from devstack.opik.views import scores_of
from devstack.opik.waterfall import waterfall
from devstack.standin import FaultPlan

Page = Callable[[Call], Response]


def traces(call: Call, project: str | None = None) -> Response:
    """The list of traces."""
    frame = Frame(call, project)
    found = trace_list(frame.db, Filters.read(frame.project, call.query))
    return html(call, "traces.html", frame, tab="traces", list=found, scores=SCORES, dates=DATES)


def trace(call: Call, identity: str, project: str | None = None) -> Response:
    """One trace as a waterfall; its spans may have come before it."""
    db = call.store.read()
    row = db.execute(
        "SELECT * FROM traces WHERE id = ? ORDER BY (project_id = ?) DESC, updated_us DESC LIMIT 1",
        (identity, project),
    ).fetchone()
    spans = db.execute("SELECT * FROM spans WHERE trace_id = ?", (identity,)).fetchall()
    if row is None and not spans:
        return missing(call, f"No trace {identity} has been received.")
    owner = (row or spans[0])["project_id"]
    fall = waterfall(spans, row and row["start_us"], row and row["end_us"])
    by_span = scores_of(db, "span", [bar.id for bar in fall.bars])
    for bar in fall.bars:
        bar.scores = by_span[owner, bar.id]
    triggers = db.execute("SELECT count FROM rule_triggers WHERE trace_id = ?", (identity,))
    return html(
        call,
        "trace.html",
        Frame(call, owner),
        tab="traces",
        id=identity,
        row=row,
        doc=from_json(row["body"]) if row else {},
        fall=fall,
        scores=scores_of(db, "trace", [identity])[owner, identity],
        triggers=next((each["count"] for each in triggers), 0),
        attachments=documents(db, "attachment", parent=identity),
        chosen=call.query.get("span", ""),
    )


def logs(call: Call) -> Response:
    """Opik's own address of a trace, or of a project's list."""
    project = call.params["project"]
    if call.query.get("trace"):
        return trace(call, call.query["trace"], project)
    return traces(call, project)


def _config_page(faults: FaultPlan[Fault]) -> Page:
    """What this is, how to use the real Opik, what it holds, which faults are on."""

    def page(call: Call) -> Response:
        db = call.store.read()
        counts = {
            table.replace("_", " "): db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in TABLES
        }
        return html(
            call,
            "config.html",
            Frame(call),
            tab="config",
            counts=counts,
            store=call.store,
            rules=call.rules,
            faults=faults.faults,
        )

    return page


def page_routes(store: Store, rules: Rules, faults: FaultPlan[Fault]) -> list[BaseRoute]:
    """Every page, and a page for every other address."""
    pages: dict[str, Page] = {
        "/": traces,
        "/traces": traces,
        "/traces/{id}": lambda call: trace(call, call.params["id"]),
        "/datasets": datasets_page,
        "/datasets/{id}": dataset_page,
        "/experiments/{id}": experiment_page,
        "/config": _config_page(faults),
        "/{workspace}/projects/{project}/logs": logs,
        "/{path:path}": missing,
    }

    def route(path: str, page: Page) -> Route:
        async def endpoint(request: Request) -> Response:
            return await store.run(_shown, page, Call(request, b"", store, rules))

        return Route(path, endpoint)

    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    return [static, *(route(path, page) for path, page in pages.items())]


def _shown(page: Page, call: Call) -> Response:
    try:
        return page(call)
    except Refused as refused:
        return missing(call, f"{refused.detail}.")
