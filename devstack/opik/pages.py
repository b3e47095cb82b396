"""Pages for people: traces, feedback, evaluations, datasets, configuration. Read only."""

import mimetypes
from collections.abc import Callable

from pydantic_core import from_json, to_json

from devstack.opik.faults import Faults
from devstack.opik.http import Call, Handler, Reply, Routes
from devstack.opik.lists import DATES, SCORES, SORTS, Filters, trace_list
from devstack.opik.page import HERE, SECURITY, Frame, html, missing
from devstack.opik.pages_datasets import dataset_page, datasets_page, experiment_page
from devstack.opik.reports import ANSWERS, DIMENSIONS, evaluations, feedback
from devstack.opik.store import TABLES
from devstack.opik.views import score_doc, scores_of
from devstack.opik.waterfall import waterfall

WINDOWS = (7, 30, 90)


def traces(call: Call, project: str | None = None) -> Reply:
    """The list of traces."""
    frame = Frame(call, project)
    found = trace_list(frame.db, Filters.read(frame.project, call.query))
    return html(
        call,
        "traces.html",
        frame=frame,
        tab="traces",
        list=found,
        scores=SCORES,
        dates=DATES,
        sorts=SORTS,
    )


def trace(call: Call, identity: str, project: str | None = None) -> Reply:
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
    scores = [
        {**score_doc(each), "updated_us": each["updated_us"]}
        for each in scores_of(db, "trace", [identity])[owner, identity]
    ]
    return html(
        call,
        "trace.html",
        frame=Frame(call, owner),
        tab="traces",
        id=identity,
        row=row,
        doc=from_json(row["body"]) if row else {},
        fall=fall,
        scores={each["name"]: each for each in scores},
        chosen=call.query.get("span", ""),
        dims=DIMENSIONS,
        answers=ANSWERS,
    )


def logs(call: Call) -> Reply:
    """Opik's own address of a trace, a thread, or a project's list."""
    project = call.params["project"]
    if call.query.get("trace"):
        return trace(call, call.query["trace"], project)
    return traces(call, project)


def _window(call: Call) -> int:
    days = call.query.get("days", "")
    return int(days) if days in [str(each) for each in WINDOWS] else WINDOWS[0]


def feedback_page(call: Call) -> Reply:
    """What users said."""
    frame, days = Frame(call), _window(call)
    found = feedback(frame.db, frame.project, days)
    return html(
        call,
        "feedback.html",
        frame=frame,
        tab="feedback",
        days=days,
        windows=WINDOWS,
        found=found,
    )


def evaluations_page(call: Call) -> Reply:
    """What the evaluator said."""
    frame, days = Frame(call), _window(call)
    found = evaluations(frame.db, frame.project, days)
    return html(
        call,
        "evaluations.html",
        frame=frame,
        tab="evaluations",
        days=days,
        windows=WINDOWS,
        found=found,
    )


def config_page(faults: Faults) -> Handler:
    """What this is, how to use the real Opik, what it holds, what it does wrong just now."""

    def page(call: Call) -> Reply:
        db = call.store.read()
        counts = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in TABLES
        }
        return html(
            call,
            "config.html",
            frame=Frame(call),
            tab="config",
            counts=counts,
            store=call.store,
            rules=call.rules,
            faults=[(fault, to_json(fault).decode()) for fault in faults.on],
        )

    return page


def static(call: Call) -> Reply:
    """The stylesheet and the keyboard script."""
    file = HERE / "static" / call.params["file"]
    if file.parent != HERE / "static" or not file.is_file():
        return missing(call)
    media = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    cached = {**SECURITY, "Cache-Control": "no-cache"}
    return Reply(200, file.read_bytes(), cached, media)


def page_routes(faults: Faults) -> Routes:
    """Every page."""
    table = Routes()
    shown: dict[str, Callable[[Call], Reply]] = {
        "/": traces,
        "/traces": traces,
        "/traces/{id}": lambda call: trace(call, call.params["id"]),
        "/feedback": feedback_page,
        "/evaluations": evaluations_page,
        "/datasets": datasets_page,
        "/datasets/{id}": dataset_page,
        "/experiments/{id}": experiment_page,
        "/config": config_page(faults),
        "/static/{file}": static,
        "/{workspace}/projects/{project}/logs": logs,
        "/{workspace}/projects/{project}/traces": logs,
        "/{workspace}/projects/{project}": logs,
    }
    for path, handler in shown.items():
        table("GET", path)(handler)
    return table
