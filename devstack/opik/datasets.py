"""Datasets, their items and versions. Every change of the items makes a version."""

import sqlite3

from starlette.responses import Response

from devstack.opik.calls import Call, Routes, json_lines, paged, stream_part
from devstack.opik.errors import Refused
from devstack.opik.rules import new_id
from devstack.opik.store import Doc, document, documents, project_of, put_document
from devstack.opik.views import AUTHORS

routes = Routes("/v1/private/datasets")


def _versions(db: sqlite3.Connection, dataset: str) -> list[Doc]:
    """Versions, oldest first; `item_ids` says what each holds."""
    return documents(db, "dataset_version", parent=dataset)


def items_of(db: sqlite3.Connection, dataset: str, version: str | None = None) -> list[Doc]:
    """The items of a version (hash, name or id), else of the latest, in the order of insertion."""
    versions = _versions(db, dataset)
    if version:
        keys = ("version_hash", "version_name", "id")
        versions = [each for each in versions if version in [each[key] for key in keys]]
    if not versions:
        return []
    order = {identity: place for place, identity in enumerate(versions[-1]["item_ids"])}
    found = [each for each in documents(db, "dataset_item", parent=dataset) if each["id"] in order]
    return sorted(found, key=lambda each: order[each["id"]])


def find(db: sqlite3.Connection, doc: Doc) -> Doc | None:
    """The dataset that a body names by id or by name. Raises Refused(404, or 422 without both)."""
    if doc.get("dataset_id"):
        return document(db, "dataset", doc["dataset_id"])
    if not doc.get("dataset_name"):
        raise Refused(422, "datasetName must not be blank")
    return next(iter(documents(db, "dataset", name=doc["dataset_name"])), None)


def make(db: sqlite3.Connection, name: str, doc: Doc) -> Doc:
    """A new dataset."""
    dataset = {
        "id": doc.get("id") or new_id(),
        "name": name,
        "description": doc.get("description"),
        "type": doc.get("type") or "dataset",
        "visibility": "private",
        "tags": doc.get("tags"),
        "project_id": project_of(db, doc),
        "status": "completed",
        **AUTHORS,
    }
    put_document(db, "dataset", dataset, name=name)
    return dataset


def _shown(db: sqlite3.Connection, dataset: Doc) -> Doc:
    return {**dataset, "dataset_items_count": len(items_of(db, dataset["id"]))}


def _new_version(db: sqlite3.Connection, dataset: str, ids: list[str], group: str | None) -> None:
    """The version a change leaves; the parts of one batch group share a version."""
    versions = _versions(db, dataset)
    last = versions[-1] if versions else None
    same = last is not None and group is not None and last["group"] == group
    identity = last["id"] if last is not None and same else new_id()
    version = {
        "id": identity,
        "dataset_id": dataset,
        "version_hash": identity[-8:],
        "version_name": f"v{len(versions) + (0 if same else 1)}",
        "items_total": len(ids),
        "item_ids": ids,
        "group": group,
        **AUTHORS,
    }
    put_document(db, "dataset_version", version, parent=dataset)


def _put_items(db: sqlite3.Connection, dataset: str, items: list[Doc]) -> list[str]:
    """Insert or replace items; the ids of the dataset afterwards."""
    ids = [each["id"] for each in items_of(db, dataset)]
    for item in items:
        if item.get("data") is None:
            raise Refused(422, "data must not be null")
        item = {**item, "id": item.get("id") or new_id(), "dataset_id": dataset}
        put_document(db, "dataset_item", item, parent=dataset)
        ids.append(item["id"])
    return list(dict.fromkeys(ids))


@routes("POST", "")
def create(call: Call) -> Response:
    """A dataset."""
    with call.store.write() as db:
        if documents(db, "dataset", name=call.name()):
            raise Refused(409, "Dataset already exists")
        dataset = make(db, call.name(), call.doc())
    return call.created(dataset["id"])


@routes("POST", "/retrieve")
def retrieve(call: Call) -> Doc:
    """A dataset by name, or 404."""
    db = call.store.read()
    return _shown(db, _existing(db, {"dataset_name": call.doc().get("dataset_name")}))


def _existing(db: sqlite3.Connection, doc: Doc) -> Doc:
    dataset = find(db, doc)
    if dataset is None:
        raise Refused(404, "Dataset not found")
    return dataset


@routes("PUT", "/items")
def upsert_items(call: Call) -> None:
    """Items of one dataset, named by id or name; a new name makes the dataset."""
    doc, items = call.doc(), call.docs("items")
    with call.store.write() as db:
        dataset = find(db, doc) or make(db, doc["dataset_name"], doc)
        ids = _put_items(db, dataset["id"], items)
        _new_version(db, dataset["id"], ids, doc.get("batch_group_id"))


@routes("POST", "/items/delete")
def delete_items(call: Call) -> None:
    """The next version is without these items; older versions keep them."""
    doc = call.doc()
    deleted = {str(each) for each in doc.get("item_ids") or ()}
    with call.store.write() as db:
        chosen = [_existing(db, doc)] if doc.get("dataset_id") else documents(db, "dataset")
        for dataset in chosen:
            ids = [each["id"] for each in items_of(db, dataset["id"])]
            kept = [each for each in ids if each not in deleted]
            if len(kept) < len(ids):
                _new_version(db, dataset["id"], kept, doc.get("batch_group_id"))


@routes("POST", "/items/stream")
def stream_items(call: Call) -> Response:
    """Items as a stream; `last_retrieved_id` is the cursor."""
    doc, db = call.doc(), call.store.read()
    items = items_of(db, _existing(db, doc)["id"], doc.get("dataset_version"))
    return json_lines(stream_part(items, doc))


@routes("GET", "/{id}")
def one(call: Call) -> Doc:
    """One dataset by id."""
    db = call.store.read()
    return _shown(db, document(db, "dataset", call.params["id"]))


@routes("GET", "/{id}/items")
def items_page(call: Call) -> Doc:
    """A page of items, of a version when one is named."""
    items = items_of(call.store.read(), call.params["id"], call.query.get("version"))
    return paged(call, items, columns=[])


@routes("GET", "/{id}/versions")
def versions_page(call: Call) -> Doc:
    """Versions, newest first."""
    found = _versions(call.store.read(), call.params["id"])
    return paged(call, [{**each, "is_latest": each is found[-1]} for each in found[::-1]])
