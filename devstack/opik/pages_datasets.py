"""Pages for datasets, experiments and prompts."""

import sqlite3

from pydantic_core import from_json

from devstack.opik.datasets import items_of
from devstack.opik.http import Call, Doc, Reply
from devstack.opik.page import Frame, html, missing
from devstack.opik.store import document, documents
from devstack.opik.views import scores_of

# A page shows this many items of a dataset or of an experiment; the API has them all.
MOST_ROWS = 200


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
        {**each, "items": len(items_of(db, str(each["id"])))} for each in documents(db, "dataset")
    ]
    prompts = [
        {**each, "versions": documents(db, "prompt_version", parent=str(each["id"]))}
        for each in documents(db, "prompt")
    ]
    return html(
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
    items = items_of(db, str(found["id"]))
    return html(
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
    return html(
        call,
        "experiment.html",
        frame=Frame(call),
        tab="datasets",
        experiment=found,
        total=len(items),
        items=shown,
        scores=_scored(db, ids),
    )
