"""Single scores, their names, their removal, and comments."""

from devstack.opik.http import Call, Refused, Reply, Routes, missing_is
from devstack.opik.rows import project_of
from devstack.opik.rules import from_us, new_id, now_us
from devstack.opik.stats import score_names
from devstack.opik.store import document, put_document
from devstack.opik.views import AUTHOR, marks
from devstack.opik.writes import put_scores

routes = Routes("/v1/private")


def _score_one(entity: str, table: str) -> None:
    @routes("PUT", f"/{table}/{{id}}/feedback-scores")
    def put(call: Call) -> Reply:
        row = (
            call.store.read()
            .execute(
                f"SELECT project_id FROM {table} WHERE id = ?",  # noqa: S608
                (call.params["id"],),
            )
            .fetchone()
        )
        if row is None:
            raise Refused(404, f"{entity.capitalize()} not found")
        doc = {**call.doc(), "id": call.params["id"], "project_id": row["project_id"]}
        return put_scores(call, entity, [doc])

    @routes("POST", f"/{table}/{{id}}/feedback-scores/delete")
    def delete(call: Call) -> Reply:
        sql = "DELETE FROM scores WHERE entity = ? AND entity_id = ? AND name = ?"
        with call.store.write() as db:
            db.execute(sql, (entity, call.params["id"], call.doc().get("name")))
        return Reply(204)


def _names(entity: str, path: str) -> None:
    @routes("GET", path)
    def names(call: Call) -> Reply:
        project = call.query.get("project_id")
        return Reply(200, {"scores": score_names(call.store.read(), entity, project)})


def _comments(entity: str, path: str) -> None:
    kind = f"comment:{entity}"

    @routes("POST", f"{path}/{{id}}/comments")
    def add(call: Call) -> Reply:
        doc = call.doc()
        if not isinstance(doc.get("text"), str) or not doc["text"].strip():
            raise Refused(422, "text must not be blank")
        at = from_us(now_us())
        times = {"created_at": at, "last_updated_at": at}
        comment = {"id": doc.get("id") or new_id(), "text": doc["text"], "created_by": AUTHOR}
        with call.store.write() as db:
            put_document(db, kind, {**comment, **times}, parent=call.params["id"])
        where = f"{call.base}/api{call.path}/{comment['id']}"
        return Reply(201, None, {"Location": where})

    @routes("GET", f"{path}/{{id}}/comments/{{comment}}")
    def one(call: Call) -> Reply:
        with missing_is(404, "Comment not found"):
            return Reply(200, document(call.store.read(), kind, call.params["comment"]))

    @routes("POST", f"{path}/comments/delete")
    def delete(call: Call) -> Reply:
        ids = [str(each) for each in call.doc().get("ids") or ()]
        sql = f"DELETE FROM documents WHERE kind = ? AND id IN ({marks(ids)})"  # noqa: S608
        with call.store.write() as db:
            db.execute(sql, (kind, *ids))
        return Reply(204)


@routes("POST", "/traces/threads/feedback-scores/delete")
def delete_thread_scores(call: Call) -> Reply:
    """Take scores off a thread by their names."""
    doc = call.doc()
    names = [str(each) for each in doc.get("names") or ()]
    with call.store.write() as db:
        project = project_of(db, doc, {})
        db.execute(
            "DELETE FROM scores WHERE entity = 'thread' AND project_id = ? AND entity_id = ?"  # noqa: S608
            f" AND name IN ({marks(names)})",
            (project, doc.get("thread_id"), *names),
        )
    return Reply(204)


for each, plural in (("trace", "traces"), ("span", "spans")):
    _score_one(each, plural)
    _names(each, f"/{plural}/feedback-scores/names")
    _comments(each, f"/{plural}")
_comments("thread", "/traces/threads")
_names("thread", "/traces/threads/feedback-scores/names")
_names("", "/projects/feedback-scores/names")
