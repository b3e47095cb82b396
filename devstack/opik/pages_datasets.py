"""Pages for datasets, experiments and prompts."""

import sqlite3

from starlette.responses import Response

from devstack.opik.calls import Call
from devstack.opik.datasets import items_of
from devstack.opik.experiments import compared, shown, traces_of
from devstack.opik.experiments import items_of as tries_of
from devstack.opik.page import Frame, html
from devstack.opik.store import Doc, document, documents

# A page shows this many items of a dataset or of an experiment; the API has them all.
MOST_ROWS = 200


def _experiments(db: sqlite3.Connection, dataset: str | None = None) -> list[Doc]:
    return [shown(db, each) for each in documents(db, "experiment", parent=dataset)][::-1]


def datasets_page(call: Call) -> Response:
    """Datasets, experiments and prompts, newest first."""
    frame = Frame(call)
    db = frame.db
    datasets = [
        {**each, "items": len(items_of(db, each["id"]))} for each in documents(db, "dataset")
    ]
    prompts = [
        {**each, "versions": documents(db, "prompt_version", parent=each["id"])}
        for each in documents(db, "prompt")
    ]
    return html(
        call,
        "datasets.html",
        frame,
        tab="datasets",
        datasets=datasets[::-1],
        experiments=_experiments(db),
        prompts=prompts[::-1],
    )


def dataset_page(call: Call) -> Response:
    """One dataset: its experiments and its items."""
    frame = Frame(call)
    found = document(frame.db, "dataset", call.params["id"])
    items = items_of(frame.db, found["id"])
    return html(
        call,
        "dataset.html",
        frame,
        tab="datasets",
        dataset=found,
        total=len(items),
        items=items[:MOST_ROWS],
        experiments=_experiments(frame.db, found["id"]),
    )


def experiment_page(call: Call) -> Response:
    """One experiment: every item with its output and its scores."""
    frame = Frame(call)
    found = document(frame.db, "experiment", call.params["id"])
    items = tries_of(frame.db, found["id"])
    traces = traces_of(frame.db, items)
    data = {
        each["id"]: each["data"]
        for each in documents(frame.db, "dataset_item", parent=found["dataset_id"])
    }
    tries = [
        {
            **compared(item, traces.get(item["trace_id"], {})),
            "data": data.get(item["dataset_item_id"]),
        }
        for item in items[:MOST_ROWS]
    ]
    return html(
        call,
        "experiment.html",
        frame,
        tab="datasets",
        experiment=shown(frame.db, found),
        total=len(items),
        items=tries,
    )
