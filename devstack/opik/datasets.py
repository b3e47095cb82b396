"""Datasets, their items and versions. Every change of the items makes a version."""

import sqlite3
from typing import Any

from devstack.opik.http import Call, Doc, Refused, Reply, Routes, missing_is
from devstack.opik.paging import after, lines, named, paged
from devstack.opik.rows import project_of
from devstack.opik.rules import new_id
from devstack.opik.store import document, documents, put_document
from devstack.opik.views import AUTHOR

routes = Routes("/v1/private/datasets")


def versions_of(db: sqlite3.Connection, dataset: str) -> list[Doc]:
    """Versions, oldest first; `item_ids` says what each holds."""
    return documents(db, "dataset_version", parent=dataset)


def items_of(db: sqlite3.Connection, dataset: str, version: str | None = None) -> list[Doc]:
    """The items of a version (hash, name or id), else of the latest, in the order of insertion."""
    versions = versions_of(db, dataset)
    if version:
        keys = ("version_hash", "version_name", "id")
        versions = [each for each in versions if version in [each[key] for key in keys]]
    if not versions:
        return []
    held = {str(identity): order for order, identity in enumerate(versions[-1]["item_ids"])}
    found = [each for each in documents(db, "dataset_item", parent=dataset) if each["id"] in held]
    return sorted(found, key=lambda each: held[str(each["id"])])


def find(db: sqlite3.Connection, doc: Doc) -> Doc:
    """The dataset that a body names by id or by name. Raises Refused(404)."""
    if doc.get("dataset_id"):
        with missing_is(404, "Dataset not found"):
            return document(db, "dataset", str(doc["dataset_id"]))
    found = documents(db, "dataset", name=str(doc.get("dataset_name")))
    if not found:
        raise Refused(404, "Dataset not found")
    return found[0]


def make(db: sqlite3.Connection, doc: Doc) -> Doc:
    """A new dataset. Raises Refused(409 or 422)."""
    name = doc.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Refused(422, "name must not be blank")
    if documents(db, "dataset", name=name):
        raise Refused(409, "Dataset already exists")
    dataset = {
        "id": doc.get("id") or new_id(),
        "name": name,
        "description": doc.get("description"),
        "type": doc.get("type") or "dataset",
        "visibility": "private",
        "tags": doc.get("tags"),
        "project_id": project_of(db, doc, {}),
        "status": "completed",
        "created_by": AUTHOR,
        "last_updated_by": AUTHOR,
    }
    put_document(db, "dataset", dataset, name=name)
    return dataset


def _shown_version(version: Doc, latest: bool) -> Doc:
    shown = {key: value for key, value in version.items() if key not in ("item_ids", "group")}
    return {**shown, "is_latest": latest, "tags": ["latest"] if latest else []}


def _shown(db: sqlite3.Connection, dataset: Doc) -> Doc:
    versions = versions_of(db, str(dataset["id"]))
    latest = _shown_version(versions[-1], True) if versions else None
    return {
        **dataset,
        "dataset_items_count": latest["items_total"] if latest else 0,
        "experiment_count": len(documents(db, "experiment", parent=str(dataset["id"]))),
        "latest_version": latest,
    }


def new_version(
    db: sqlite3.Connection, dataset: str, ids: list[str], *, group: object = None, **more: Any
) -> Doc:
    """The version a change leaves; the parts of one batch group share a version."""
    versions = versions_of(db, dataset)
    last = versions[-1] if versions else None
    same = last is not None and group is not None and last["group"] == group
    identity = str(last["id"]) if last is not None and same else new_id()
    version = {
        "id": identity,
        "dataset_id": dataset,
        "version_hash": identity[-8:],
        "version_name": f"v{len(versions) + (0 if same else 1)}",
        "items_total": len(ids),
        "item_ids": ids,
        "group": group,
        "created_by": AUTHOR,
        **more,
    }
    put_document(db, "dataset_version", version, parent=dataset, name=version["version_hash"])
    return version


def put_items(db: sqlite3.Connection, dataset: str, items: list[Doc]) -> list[str]:
    """Insert or replace items; the ids of the dataset afterwards."""
    ids = [str(each["id"]) for each in items_of(db, dataset)]
    for item in items:
        item = {**item, "id": item.get("id") or new_id(), "dataset_id": dataset}
        if item.get("data") is None:
            raise Refused(422, "data must not be null")
        put_document(db, "dataset_item", item, parent=dataset)
        ids.append(str(item["id"]))
    return list(dict.fromkeys(ids))


@routes("POST", "")
def create(call: Call) -> Reply:
    """A dataset."""
    with call.store.write() as db:
        dataset = make(db, call.doc())
    return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{dataset['id']}"})


@routes("POST", "/retrieve")
def retrieve(call: Call) -> Reply:
    """A dataset by name, or 404."""
    db = call.store.read()
    return Reply(200, _shown(db, find(db, {"dataset_name": call.doc().get("dataset_name")})))


@routes("PUT", "/items")
def upsert_items(call: Call) -> Reply:
    """Items of one dataset, named by id or name; a new name makes the dataset."""
    doc = call.doc()
    items = call.docs("items")
    with call.store.write() as db:
        try:
            dataset = find(db, doc)
        except Refused:
            dataset = make(db, {**doc, "name": doc.get("dataset_name")})
        ids = put_items(db, str(dataset["id"]), items)
        new_version(db, str(dataset["id"]), ids, group=doc.get("batch_group_id"))
    return Reply(204, items=len(items))


@routes("POST", "/items/delete")
def delete_items(call: Call) -> Reply:
    """The next version is without these items; older versions keep them."""
    doc = call.doc()
    gone = {str(each) for each in doc.get("item_ids") or ()}
    with call.store.write() as db:
        sets = [find(db, doc)] if doc.get("dataset_id") else documents(db, "dataset")
        for dataset in sets:
            ids = [str(each["id"]) for each in items_of(db, str(dataset["id"]))]
            kept = [each for each in ids if each not in gone]
            if len(kept) < len(ids):
                new_version(db, str(dataset["id"]), kept, group=doc.get("batch_group_id"))
    return Reply(204)


@routes("POST", "/{id}/items/changes")
def change_items(call: Call) -> Reply:
    """Add, edit and delete in one version; a base that is not the latest is a conflict."""
    doc, identity = call.doc(), call.params["id"]
    with call.store.write() as db, missing_is(404, "Dataset or item not found"):
        document(db, "dataset", identity)
        versions = versions_of(db, identity)
        base = doc.get("base_version")
        stale = bool(versions) and base != versions[-1]["id"]
        if stale and call.query.get("override") != "true":
            raise Refused(409, "Version conflict: baseVersion is not the latest")
        items = [*(doc.get("added_items") or ()), *_edits(db, doc)]
        gone = {str(each) for each in doc.get("deleted_ids") or ()}
        ids = [each for each in put_items(db, identity, items) if each not in gone]
        names = ("change_description", "evaluators", "execution_policy", "metadata")
        more = {name: doc[name] for name in names if doc.get(name) is not None}
        version = new_version(db, identity, ids, **more)
    return Reply(201, _shown_version(version, True))


def _edits(db: sqlite3.Connection, doc: Doc) -> list[Doc]:
    edits = doc.get("edited_items") or ()
    return [{**document(db, "dataset_item", str(each["id"])), **each} for each in edits]


@routes("POST", "/items/stream")
def stream_items(call: Call) -> Reply:
    """Items as a stream; `last_retrieved_id` is the cursor."""
    doc = call.doc()
    db = call.store.read()
    items = items_of(db, str(find(db, doc)["id"]), doc.get("dataset_version"))
    limit = min(int(doc.get("steam_limit") or doc.get("stream_limit") or 2000), 2000)
    return lines(after(items, doc.get("last_retrieved_id"), limit))


@routes("GET", "/items/{id}")
def item(call: Call) -> Reply:
    """One item by id."""
    with missing_is(404, "Dataset item not found"):
        return Reply(200, document(call.store.read(), "dataset_item", call.params["id"]))


@routes("GET", "")
def page(call: Call) -> Reply:
    """Datasets by a part of their name, newest first."""
    db = call.store.read()
    found = named(documents(db, "dataset"), call.query.get("name", ""))
    return paged(call, [_shown(db, dataset) for dataset in found[::-1]])


@routes("POST", "/delete")
def delete_by_name(call: Call) -> Reply:
    """Delete a dataset by its name."""
    with call.store.write() as db:
        _delete(db, str(find(db, call.doc())["id"]))
    return Reply(204)


@routes("DELETE", "/{id}")
def delete(call: Call) -> Reply:
    """Delete a dataset by id; experiments on it stay."""
    with call.store.write() as db:
        _delete(db, call.params["id"])
    return Reply(204)


def _delete(db: sqlite3.Connection, identity: str) -> None:
    db.execute("DELETE FROM documents WHERE kind = 'dataset' AND id = ?", (identity,))
    db.execute("DELETE FROM documents WHERE kind LIKE 'dataset_%' AND parent = ?", (identity,))


@routes("GET", "/{id}")
def one(call: Call) -> Reply:
    """One dataset by id."""
    db = call.store.read()
    with missing_is(404, "Dataset not found"):
        return Reply(200, _shown(db, document(db, "dataset", call.params["id"])))


@routes("GET", "/{id}/items")
def items_page(call: Call) -> Reply:
    """A page of items, of a version when one is named."""
    items = items_of(call.store.read(), call.params["id"], call.query.get("version"))
    return paged(call, items, columns=[])


@routes("GET", "/{id}/versions")
def versions_page(call: Call) -> Reply:
    """Versions, newest first."""
    found = versions_of(call.store.read(), call.params["id"])
    shown = [_shown_version(each, each is found[-1]) for each in found]
    return paged(call, shown[::-1])


@routes("POST", "/{id}/versions/retrieve")
def version(call: Call) -> Reply:
    """One version by name."""
    found = versions_of(call.store.read(), call.params["id"])
    for each in found:
        if each["version_name"] == call.doc().get("version_name"):
            return Reply(200, _shown_version(each, each is found[-1]))
    raise Refused(404, "Dataset version not found")
