"""Annotation queues, environments and feedback definitions: small documents of their own."""

import sqlite3

from devstack.opik.http import Call, Doc, Refused, Reply, Routes, missing_is
from devstack.opik.paging import named, paged
from devstack.opik.rules import new_id
from devstack.opik.store import document, documents, put_document
from devstack.opik.views import AUTHOR, marks

routes = Routes("/v1/private")
SCOPES = ("trace", "thread", "span")


def _queue(db: sqlite3.Connection, queue: Doc) -> Doc:
    return {**queue, "items_count": len(documents(db, f"queue_item:{queue['id']}"))}


@routes("POST", "/annotation-queues")
def create_queue(call: Call) -> Reply:
    """A queue of traces or threads that people are to look at."""
    doc = call.doc()
    if not doc.get("name") or not doc.get("project_id") or doc.get("scope") not in SCOPES:
        raise Refused(422, "name, project_id and scope must not be null")
    queue = {**doc, "id": doc.get("id") or new_id(), "created_by": AUTHOR}
    with call.store.write() as db:
        put_document(db, "annotation_queue", queue, name=str(doc["name"]))
    return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{queue['id']}"})


@routes("GET", "/annotation-queues")
def queues(call: Call) -> Reply:
    """Queues by a part of their name, newest first."""
    db = call.store.read()
    found = named(documents(db, "annotation_queue"), call.query.get("name", ""))
    return paged(call, [_queue(db, queue) for queue in found[::-1]])


@routes("GET", "/annotation-queues/{id}")
def queue(call: Call) -> Reply:
    """One queue by id."""
    db = call.store.read()
    with missing_is(404, "Annotation queue not found"):
        return Reply(200, _queue(db, document(db, "annotation_queue", call.params["id"])))


@routes("PATCH", "/annotation-queues/{id}")
def update_queue(call: Call) -> Reply:
    """Change what the body gives."""
    said = {k: v for k, v in call.doc().items() if v is not None and k not in ("id", "scope")}
    with call.store.write() as db, missing_is(404, "Annotation queue not found"):
        new = {**document(db, "annotation_queue", call.params["id"]), **said}
        put_document(db, "annotation_queue", new, name=str(new["name"]))
    return Reply(204)


@routes("POST", "/annotation-queues/delete")
def delete_queues(call: Call) -> Reply:
    """Delete queues."""
    _delete(call, "annotation_queue")
    return Reply(204)


def _delete(call: Call, kind: str) -> None:
    ids = [str(each) for each in call.doc().get("ids") or ()]
    sql = f"DELETE FROM documents WHERE kind = ? AND id IN ({marks(ids)})"  # noqa: S608
    with call.store.write() as db:
        db.execute(sql, (kind, *ids))


@routes("POST", "/annotation-queues/{id}/items/add")
def add_items(call: Call) -> Reply:
    """Put entities into a queue; one that is in it already stays once."""
    with call.store.write() as db, missing_is(404, "Annotation queue not found"):
        found = document(db, "annotation_queue", call.params["id"])
        for identity in call.doc().get("ids") or ():
            put_document(db, f"queue_item:{found['id']}", {"id": str(identity)})
    return Reply(204)


@routes("POST", "/annotation-queues/{id}/items/delete")
def remove_items(call: Call) -> Reply:
    """Take entities out of a queue."""
    _delete(call, f"queue_item:{call.params['id']}")
    return Reply(204)


@routes("POST", "/annotation-queues/{id}/items/search")
def search_items(call: Call) -> Reply:
    """Which of the given entities are in the queue."""
    held = {each["id"] for each in documents(call.store.read(), f"queue_item:{call.params['id']}")}
    asked = call.doc().get("ids") or ()
    return Reply(200, {"ids": [each for each in asked if each in held]})


def _documents_of(kind: str, path: str, what: str) -> None:
    """List, create, read, update and delete for a kind that is nothing but a named document."""

    @routes("GET", path)
    def page(call: Call) -> Reply:
        return paged(call, named(documents(call.store.read(), kind), call.query.get("name", "")))

    @routes("POST", path)
    def create(call: Call) -> Reply:
        doc = call.doc()
        if not doc.get("name"):
            raise Refused(422, "name must not be blank")
        new = {**doc, "id": doc.get("id") or new_id(), "created_by": AUTHOR}
        with call.store.write() as db:
            if documents(db, kind, name=str(doc["name"])):
                raise Refused(409, f"{what} already exists")
            put_document(db, kind, new, name=str(doc["name"]))
        return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{new['id']}"})

    @routes("GET", path + "/{id}")
    def one(call: Call) -> Reply:
        with missing_is(404, f"{what} not found"):
            return Reply(200, document(call.store.read(), kind, call.params["id"]))

    @routes("POST", path + "/delete")
    def delete(call: Call) -> Reply:
        _delete(call, kind)
        return Reply(204)


_documents_of("environment", "/environments", "Environment")
_documents_of("feedback_definition", "/feedback-definitions", "Feedback definition")
