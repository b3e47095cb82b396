"""Experiments: a dataset's items, each with the trace of one try, and what the scores say."""

import sqlite3
from collections import defaultdict

from devstack.opik.datasets import find, make
from devstack.opik.http import Call, Doc, Refused, Reply, Routes, missing_is
from devstack.opik.paging import after, lines, named, paged
from devstack.opik.reads import select
from devstack.opik.rows import project_of
from devstack.opik.rules import BadId, new_id
from devstack.opik.stats import percentiles
from devstack.opik.store import document, documents, put_document
from devstack.opik.views import AUTHOR, marks, trace_docs

routes = Routes("/v1/private/experiments")
CHANGES = ("name", "metadata", "tags", "type", "status", "experiment_scores")


def items_of(db: sqlite3.Connection, experiment: str) -> list[Doc]:
    """Items in the order of their making."""
    return documents(db, "experiment_item", parent=experiment)


def traces_of(db: sqlite3.Connection, items: list[Doc]) -> dict[str, Doc]:
    """The traces of items by their ids."""
    ids = [str(item["trace_id"]) for item in items]
    rows = select(db, "traces", f"e.id IN ({marks(ids)})", ids)
    return {str(doc["id"]): doc for doc in trace_docs(db, rows)}


def averages(traces: list[Doc]) -> list[Doc]:
    """The average of every score name over traces."""
    values: dict[str, list[float]] = defaultdict(list)
    for trace in traces:
        for score in trace.get("feedback_scores") or ():
            values[score["name"]].append(score["value"])
    return [{"name": name, "value": sum(v) / len(v)} for name, v in sorted(values.items())]


def _links(db: sqlite3.Connection, versions: list[Doc]) -> list[Doc]:
    found = []
    for each in versions:
        for version in documents(db, "prompt_version", identity=str(each.get("id"))):
            prompt = document(db, "prompt", str(version["prompt_id"]))
            found.append(
                {
                    "id": version["id"],
                    "prompt_version_id": version["id"],
                    "commit": version["commit"],
                    "prompt_id": prompt["id"],
                    "prompt_name": prompt["name"],
                }
            )
    return found


def shown(db: sqlite3.Connection, experiment: Doc) -> Doc:
    """ExperimentPublic: the experiment with what its traces add up to."""
    items = items_of(db, str(experiment["id"]))
    traces = list(traces_of(db, items).values())
    costs = [t["total_estimated_cost"] for t in traces if "total_estimated_cost" in t]
    usage: dict[str, list[int]] = defaultdict(list)
    for trace in traces:
        for name, value in (trace.get("usage") or {}).items():
            usage[name].append(value)
    links = _links(db, experiment.get("prompt_versions") or [])
    return {
        **experiment,
        "prompt_versions": links or None,
        "prompt_version": links[0] if links else None,
        "feedback_scores": averages(traces),
        "trace_count": len(items),
        "dataset_item_count": len({item["dataset_item_id"] for item in items}),
        "duration": percentiles([t["duration"] for t in traces if "duration" in t]),
        "total_estimated_cost": sum(costs) if costs else None,
        "total_estimated_cost_avg": sum(costs) / len(costs) if costs else None,
        "usage": {name: sum(v) / len(v) for name, v in usage.items()} or None,
    }


@routes("POST", "")
def create(call: Call) -> Reply:
    """An experiment on a dataset, which is made when its name is new."""
    doc = call.doc()
    if not doc.get("dataset_name"):
        raise Refused(422, "datasetName must not be blank")
    with call.store.write() as db:
        try:
            dataset = find(db, {"dataset_name": doc["dataset_name"]})
        except Refused:
            dataset = make(db, {**doc, "id": None, "name": doc["dataset_name"]})
        identity = _id(call, doc.get("id"))
        experiment = {
            **doc,
            "id": identity,
            "name": doc.get("name") or f"experiment-{identity[-6:]}",
            "dataset_id": dataset["id"],
            "project_id": project_of(db, doc, {}),
            "status": doc.get("status") or "running",
            "type": doc.get("type") or "regular",
            "created_by": AUTHOR,
            "last_updated_by": AUTHOR,
        }
        _put(db, experiment)
    return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{identity}"})


def _id(call: Call, value: object) -> str:
    if value is None:
        return new_id()
    try:
        call.rules.check_new(value, "experiment")
    except BadId as error:
        raise Refused(400, *error.args) from error
    return str(value)


def _put(db: sqlite3.Connection, experiment: Doc) -> None:
    parent = str(experiment["dataset_id"])
    put_document(db, "experiment", experiment, parent=parent, name=str(experiment["name"]))


@routes("POST", "/items")
def add_items(call: Call) -> Reply:
    """Which trace belongs to which item; the trace need not exist yet."""
    items = call.docs("experiment_items")
    with call.store.write() as db:
        for item in items:
            item = {**item, "id": _id(call, item.get("id")), "created_by": AUTHOR}
            with missing_is(409, "Experiment not found"):
                document(db, "experiment", str(item.get("experiment_id")))
            put_document(db, "experiment_item", item, parent=str(item["experiment_id"]))
    return Reply(204, items=len(items))


@routes("POST", "/items/delete")
def delete_items(call: Call) -> Reply:
    """Take items out."""
    ids = [str(each) for each in call.doc().get("ids") or ()]
    with call.store.write() as db:
        db.execute(
            f"DELETE FROM documents WHERE kind = 'experiment_item' AND id IN ({marks(ids)})",  # noqa: S608
            ids,
        )
    return Reply(204)


@routes("POST", "/finish")
def finish(call: Call) -> Reply:
    """Experiments whose items have all been sent."""
    with call.store.write() as db:
        for identity in call.doc().get("ids") or ():
            for found in documents(db, "experiment", identity=str(identity)):
                _put(db, {**found, "status": "completed"})
    return Reply(204)


@routes("PATCH", "/{id}")
def update(call: Call) -> Reply:
    """Change what the body gives."""
    said = {k: v for k, v in call.doc().items() if k in CHANGES and v is not None}
    with call.store.write() as db, missing_is(404, "Experiment not found"):
        _put(db, {**document(db, "experiment", call.params["id"]), **said})
    return Reply(204)


@routes("POST", "/delete")
def delete(call: Call) -> Reply:
    """Delete experiments; their traces stay."""
    ids = [str(each) for each in call.doc().get("ids") or ()]
    some = marks(ids)
    with call.store.write() as db:
        db.execute(f"DELETE FROM documents WHERE kind = 'experiment' AND id IN ({some})", ids)  # noqa: S608
        db.execute(
            f"DELETE FROM documents WHERE kind = 'experiment_item' AND parent IN ({some})",  # noqa: S608
            ids,
        )
    return Reply(204)


@routes("GET", "")
def page(call: Call) -> Reply:
    """Experiments by name, dataset, prompt, project or ids; newest first."""
    db, query = call.store.read(), call.query
    found = named(documents(db, "experiment", parent=query.get("datasetId")), query.get("name", ""))
    docs = [shown(db, each) for each in found[::-1]]
    if query.get("project_id"):
        docs = [each for each in docs if each["project_id"] == query["project_id"]]
    if query.get("prompt_id"):
        prompt = query["prompt_id"]
        docs = [
            each
            for each in docs
            if prompt in [link["prompt_id"] for link in each["prompt_versions"] or ()]
        ]
    if query.get("experiment_ids"):
        docs = [each for each in docs if str(each["id"]) in query["experiment_ids"]]
    return paged(call, docs)


@routes("POST", "/stream")
def stream(call: Call) -> Reply:
    """Experiments of one name as a stream."""
    doc, db = call.doc(), call.store.read()
    found = documents(db, "experiment", name=str(doc.get("name")))[::-1]
    part = after(found, doc.get("last_retrieved_id"), int(doc.get("limit") or 500))
    return lines(shown(db, each) for each in part)


@routes("POST", "/items/stream")
def stream_items(call: Call) -> Reply:
    """Items of the newest experiment of a name, each with its trace's content and scores."""
    doc, db = call.doc(), call.store.read()
    found = documents(db, "experiment", name=str(doc.get("experiment_name")))
    if not found:
        raise Refused(404, "Experiment not found")
    items = items_of(db, str(found[-1]["id"]))
    part = after(items, doc.get("last_retrieved_id"), int(doc.get("limit") or 500))
    traces = traces_of(db, items)
    return lines(compared(item, traces.get(str(item["trace_id"]), {})) for item in part)


def compared(item: Doc, trace: Doc) -> Doc:
    """ExperimentItemCompare."""
    names = ("input", "output", "feedback_scores", "comments", "total_estimated_cost")
    content = {name: trace[name] for name in (*names, "duration", "usage") if name in trace}
    return {**item, **content, "trace_metadata": trace.get("metadata")}


@routes("GET", "/items/{id}")
def item(call: Call) -> Reply:
    """One item by id."""
    with missing_is(404, "Experiment item not found"):
        return Reply(200, document(call.store.read(), "experiment_item", call.params["id"]))


@routes("GET", "/feedback-scores/names")
def score_names(call: Call) -> Reply:
    """The names of all scores of experiments."""
    db = call.store.read()
    traces = traces_of(db, documents(db, "experiment_item"))
    names = [each["name"] for each in averages(list(traces.values()))]
    return Reply(200, {"scores": [{"name": name} for name in names]})


@routes("GET", "/{id}")
def one(call: Call) -> Reply:
    """One experiment by id."""
    db = call.store.read()
    with missing_is(404, "Experiment not found"):
        return Reply(200, shown(db, document(db, "experiment", call.params["id"])))
