"""Experiments side by side: a dataset's items, each with what every experiment made of it."""

from collections import defaultdict

from pydantic_core import from_json

from devstack.opik.experiments import compared, items_of, traces_of
from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.paging import paged
from devstack.opik.store import documents

routes = Routes("/v1/private/datasets")


@routes("GET", "/{id}/items/experiments/items")
def compare(call: Call) -> Reply:
    """The items that any of the asked experiments tried, also those deleted since."""
    db = call.store.read()
    tries: dict[str, list[Doc]] = defaultdict(list)
    for experiment in _ids(call.query.get("experiment_ids", "")):
        items = items_of(db, experiment)
        traces = traces_of(db, items)
        for item in items:
            found = compared(item, traces.get(str(item["trace_id"]), {}))
            tries[str(item["dataset_item_id"])].append(found)
    content = [
        {**item, "experiment_items": tries[str(item["id"])]}
        for item in documents(db, "dataset_item", parent=call.params["id"])
        if str(item["id"]) in tries
    ]
    return paged(call, content, columns=[])


def _ids(text: str) -> list[str]:
    """A JSON list of strings, in a query string. Raises Refused(400)."""
    try:
        ids = from_json(text or "[]")
    except ValueError as error:
        raise Refused(400, "Invalid experiment_ids", str(error)) from error
    if not isinstance(ids, list):
        raise Refused(400, "Invalid experiment_ids", "not a list")
    return [str(each) for each in ids]
