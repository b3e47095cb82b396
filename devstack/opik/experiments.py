"""Experiments: a dataset's items, each with the trace of one try, and what the scores say."""

import sqlite3
from collections import defaultdict
from statistics import fmean

from pydantic import TypeAdapter
from starlette.responses import Response

from devstack.opik.calls import Call, Routes, json_lines, paged, stream_part
from devstack.opik.datasets import find, make
from devstack.opik.errors import Refused
from devstack.opik.queries import select
from devstack.opik.rules import new_id
from devstack.opik.store import Doc, document, documents, project_of, put_document
from devstack.opik.views import AUTHORS, placeholders, trace_docs

routes = Routes("/v1/private")


def items_of(db: sqlite3.Connection, experiment: str) -> list[Doc]:
    """Items in the order of their making."""
    return documents(db, "experiment_item", parent=experiment)


def traces_of(db: sqlite3.Connection, items: list[Doc]) -> dict[str, Doc]:
    """The traces of items by their ids."""
    ids = [item["trace_id"] for item in items]
    rows = select(db, "traces", f"e.id IN ({placeholders(ids)})", ids)
    return {doc["id"]: doc for doc in trace_docs(db, rows)}


def _averages(traces: list[Doc]) -> list[Doc]:
    """The average of every score name over traces."""
    values: dict[str, list[float]] = defaultdict(list)
    for trace in traces:
        for score in trace.get("feedback_scores") or ():
            values[score["name"]].append(score["value"])
    return [{"name": name, "value": fmean(each)} for name, each in sorted(values.items())]


def _prompt_links(db: sqlite3.Connection, versions: list[Doc]) -> list[Doc]:
    found = []
    for each in versions:
        for version in documents(db, "prompt_version", identity=str(each.get("id"))):
            prompt = document(db, "prompt", version["prompt_id"])
            link = {"id": version["id"], "prompt_version_id": version["id"]}
            link |= {"commit": version["commit"], "prompt_id": prompt["id"]}
            found.append({**link, "prompt_name": prompt["name"]})
    return found


def shown(db: sqlite3.Connection, experiment: Doc) -> Doc:
    """ExperimentPublic: the experiment with what its traces add up to."""
    items = items_of(db, experiment["id"])
    traces = list(traces_of(db, items).values())
    costs = [t["total_estimated_cost"] for t in traces if "total_estimated_cost" in t]
    links = _prompt_links(db, experiment.get("prompt_versions") or [])
    return {
        **experiment,
        "prompt_versions": links or None,
        "prompt_version": links[0] if links else None,
        "feedback_scores": _averages(traces),
        "trace_count": len(items),
        "dataset_item_count": len({item["dataset_item_id"] for item in items}),
        "total_estimated_cost": sum(costs) if costs else None,
    }


@routes("POST", "/experiments")
def create(call: Call) -> Response:
    """An experiment on a dataset, which is made when its name is new."""
    doc = call.doc()
    with call.store.write() as db:
        dataset = find(db, doc) or make(db, doc["dataset_name"], {**doc, "id": None})
        identity = _id(call, doc)
        experiment = {
            **doc,
            "id": identity,
            "name": doc.get("name") or f"experiment-{identity[-6:]}",
            "dataset_id": dataset["id"],
            "project_id": project_of(db, doc),
            "status": doc.get("status") or "running",
            "type": doc.get("type") or "regular",
            **AUTHORS,
        }
        _put(db, experiment)
    return call.created(identity)


def _id(call: Call, doc: Doc) -> str:
    if doc.get("id") is None:
        return new_id()
    call.rules.check_new(doc["id"], "experiment")
    return str(doc["id"])


def _put(db: sqlite3.Connection, experiment: Doc) -> None:
    parent, name = experiment["dataset_id"], str(experiment["name"])
    put_document(db, "experiment", experiment, parent=parent, name=name)


@routes("POST", "/experiments/items")
def add_items(call: Call) -> None:
    """Which trace belongs to which item; the trace need not exist yet."""
    with call.store.write() as db:
        for item in call.docs("experiment_items"):
            item = {**item, "id": _id(call, item), **AUTHORS}
            parent = str(item.get("experiment_id"))
            if not documents(db, "experiment", identity=parent):
                raise Refused(409, "Experiment not found")
            put_document(db, "experiment_item", item, parent=parent)


@routes("POST", "/experiments/finish")
def finish(call: Call) -> None:
    """Experiments whose items have all been sent."""
    with call.store.write() as db:
        for identity in call.doc().get("ids") or ():
            _put(db, {**document(db, "experiment", str(identity)), "status": "completed"})


@routes("POST", "/experiments/stream")
def stream(call: Call) -> Response:
    """Experiments of one name as a stream, newest first."""
    doc, db = call.doc(), call.store.read()
    found = documents(db, "experiment", name=str(doc.get("name")))[::-1]
    return json_lines(shown(db, each) for each in stream_part(found, doc))


@routes("GET", "/experiments/{id}")
def one(call: Call) -> Doc:
    """One experiment by id."""
    db = call.store.read()
    return shown(db, document(db, "experiment", call.params["id"]))


@routes("GET", "/datasets/{id}/items/experiments/items")
def compare(call: Call) -> Doc:
    """The dataset's items that any of the asked experiments tried, each with those tries."""
    db = call.store.read()
    tries: dict[str, list[Doc]] = defaultdict(list)
    for experiment in _experiment_ids(call):
        items = items_of(db, experiment)
        traces = traces_of(db, items)
        for item in items:
            found = compared(item, traces.get(item["trace_id"], {}))
            tries[item["dataset_item_id"]].append(found)
    content = [
        {**item, "experiment_items": tries[item["id"]]}
        for item in documents(db, "dataset_item", parent=call.params["id"])
        if item["id"] in tries
    ]
    return paged(call, content, columns=[])


def _experiment_ids(call: Call) -> list[str]:
    try:
        return TypeAdapter(list[str]).validate_json(call.query.get("experiment_ids", "[]"))
    except ValueError as error:
        raise Refused(400, "Invalid experiment_ids", str(error)) from error


def compared(item: Doc, trace: Doc) -> Doc:
    """ExperimentItemCompare."""
    names = ("input", "output", "feedback_scores", "total_estimated_cost", "duration", "usage")
    content = {name: trace[name] for name in names if name in trace}
    return {**item, **content, "trace_metadata": trace.get("metadata")}
