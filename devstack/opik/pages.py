"""Pages for people: traces, feedback, evaluations, datasets, configuration. Read only."""

import mimetypes
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic_core import from_json, to_json

from devstack.opik.faults import Faults
from devstack.opik.http import Call, Doc, Handler, Refused, Reply, Routes
from devstack.opik.lists import DATES, SCORES, Filters, trace_list
from devstack.opik.present import FILTERS
from devstack.opik.projects import all_projects
from devstack.opik.reports import evaluations, feedback
from devstack.opik.store import TABLES, document, documents, find_project
from devstack.opik.views import score_doc, scores_of
from devstack.opik.waterfall import waterfall

HERE = Path(__file__).parent
# A page shows this many items of a dataset or of an experiment; the API has them all.
MOST_ROWS = 200
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
WINDOWS = (7, 30, 90)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.tests["match_prefix"] = str.startswith
    return made


ENVIRONMENT = _environment()


def _html(call: Call, template: str, status: int = 200, **values: object) -> Reply:
    text = ENVIRONMENT.get_template(template).render(base=call.base, **values)
    return Reply(status, text.encode(), SECURITY, "text/html; charset=utf-8")


class Frame:
    """What every page shows around its own part: the projects, and the one it is about."""

    def __init__(self, call: Call, project: str | None = None) -> None:
        self.db = call.store.read()
        self.projects = all_projects(self.db)
        wanted = project or call.query.get("project", "")
        named = find_project(self.db, wanted)
        known = [row["id"] for row in self.projects]
        self.project: str = next((i for i in (wanted, named) if i in known), (known or [""])[0])

    @property
    def name(self) -> str:
        """The project's name."""
        found = [row["name"] for row in self.projects if row["id"] == self.project]
        return found[0] if found else "no project yet"


def traces(call: Call, project: str | None = None) -> Reply:
    """The list of traces."""
    frame = Frame(call, project)
    found = trace_list(frame.db, Filters.read(frame.project, call.query))
    return _html(
        call, "traces.html", frame=frame, tab="traces", list=found, scores=SCORES, dates=DATES
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
    return _html(
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
    return _html(
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
    return _html(
        call,
        "evaluations.html",
        frame=frame,
        tab="evaluations",
        days=days,
        windows=WINDOWS,
        found=found,
    )


def _scored(db: sqlite3.Connection, traces: list[str]) -> dict[str, float]:
    """Average of every score name over the traces of an experiment."""
    if not traces:
        return {}
    sums: dict[str, list[float]] = {}
    for rows in scores_of(db, "trace", traces).values():
        for row in rows:
            sums.setdefault(row["name"], []).append(row["value"])
    return {name: sum(values) / len(values) for name, values in sorted(sums.items())}


def _experiments(db: sqlite3.Connection, dataset: str | None = None) -> list[Doc]:
    found = []
    for each in documents(db, "experiment", parent=dataset):
        items = documents(db, "experiment_item", parent=str(each["id"]))
        ids = [str(item["trace_id"]) for item in items]
        found.append({**each, "items": len(items), "scores": _scored(db, ids)})
    return found[::-1]


def datasets_page(call: Call) -> Reply:
    """Datasets, experiments and prompts, newest first."""
    db = call.store.read()
    sets = [
        {**each, "items": len(documents(db, "dataset_item", parent=str(each["id"])))}
        for each in documents(db, "dataset")
    ]
    prompts = [
        {**each, "versions": documents(db, "prompt_version", parent=str(each["id"]))}
        for each in documents(db, "prompt")
    ]
    return _html(
        call,
        "datasets.html",
        frame=Frame(call),
        tab="datasets",
        datasets=sets[::-1],
        experiments=_experiments(db),
        prompts=prompts[::-1],
    )


def dataset_page(call: Call) -> Reply:
    """One dataset: its experiments and its items."""
    db = call.store.read()
    try:
        found = document(db, "dataset", call.params["id"])
    except LookupError:
        return missing(call, "No such dataset.")
    items = documents(db, "dataset_item", parent=str(found["id"]))
    return _html(
        call,
        "dataset.html",
        frame=Frame(call),
        tab="datasets",
        dataset=found,
        total=len(items),
        items=items[:MOST_ROWS],
        experiments=_experiments(db, str(found["id"])),
    )


def experiment_page(call: Call) -> Reply:
    """One experiment: every item with its output and its scores."""
    db = call.store.read()
    try:
        found = document(db, "experiment", call.params["id"])
    except LookupError:
        return missing(call, "No such experiment.")
    items = documents(db, "experiment_item", parent=str(found["id"]))
    ids = [str(item["trace_id"]) for item in items]
    shown = []
    for item in items[:MOST_ROWS]:
        row = db.execute("SELECT * FROM traces WHERE id = ?", (item["trace_id"],)).fetchone()
        data = documents(db, "dataset_item", identity=str(item["dataset_item_id"]))
        scores = _scored(db, [str(item["trace_id"])])
        body = from_json(row["body"]) if row else {}
        shown.append({**item, "data": data[0]["data"] if data else None, "trace": body})
        shown[-1]["scores"] = scores
    return _html(
        call,
        "experiment.html",
        frame=Frame(call),
        tab="datasets",
        experiment=found,
        total=len(items),
        items=shown,
        scores=_scored(db, ids),
    )


def config_page(faults: Faults) -> Handler:
    """What this is, how to use the real Opik, what it holds, what it does wrong just now."""

    def page(call: Call) -> Reply:
        db = call.store.read()
        counts = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in TABLES
        }
        return _html(
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


def missing(call: Call, why: str = "There is no such page.") -> Reply:
    """A page for what is not there."""
    return _html(call, "missing.html", 404, frame=Frame(call), tab="", why=why)


def static(call: Call) -> Reply:
    """The stylesheet and the keyboard script."""
    file = HERE / "static" / call.params["file"]
    if file.parent != HERE / "static" or not file.is_file():
        return missing(call)
    media = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    cached = {**SECURITY, "Cache-Control": "no-cache"}
    return Reply(200, file.read_bytes(), cached, media)


def redirect(call: Call) -> Reply:
    """The link the SDK prints: on to the trace it names."""
    identity = call.query.get("trace_id", "")
    row = call.store.read().execute("SELECT project_id FROM traces WHERE id = ?", (identity,))
    found = row.fetchone()
    if found is None:
        raise Refused(404, "Trace not found")
    query = urlencode({"logsType": "traces", "trace": identity})
    path = f"/default/projects/{found['project_id']}/logs?{query}"
    return Reply(303, None, {"Location": path})


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
