"""The write routes of feedback scores."""

from devstack.opik.calls import Call, Routes
from devstack.opik.errors import Refused
from devstack.opik.rules import now_us, score_value
from devstack.opik.shapes import ScoreShape, check_shape
from devstack.opik.store import project_of

routes = Routes("/v1/private")

UPSERT = """
INSERT INTO scores (entity, project_id, entity_id, name, value, reason, category, source,
    created_us, updated_us)
VALUES (:entity, :project_id, :entity_id, :name, :value, :reason, :category, :source, :now, :now)
ON CONFLICT (entity, entity_id, project_id, name) DO UPDATE SET value = excluded.value,
    reason = excluded.reason, category = excluded.category, source = excluded.source,
    updated_us = excluded.updated_us
"""


def _put(call: Call, entity: str, key: str = "id") -> None:
    """Upsert by (entity, name); the project is found by name, the entity need not exist."""
    docs = call.docs("scores")
    for doc in docs:
        check_shape(ScoreShape, doc)
        if not doc.get("name") or not doc.get(key):
            raise Refused(422, f"name and {key} must not be blank")
        if key == "id":
            call.rules.check_known(doc["id"], entity)
    values = [score_value(doc.get("value")) for doc in docs]
    with call.store.write() as db:
        db.executemany(
            UPSERT,
            [
                {
                    "entity": entity,
                    "project_id": project_of(db, doc),
                    "entity_id": doc[key],
                    "name": doc["name"],
                    "value": value,
                    "reason": doc.get("reason"),
                    "category": doc.get("category_name"),
                    "source": doc.get("source") or "sdk",
                    "now": now_us(),
                }
                for doc, value in zip(docs, values, strict=True)
            ],
        )


routes("PUT", "/traces/feedback-scores")(lambda call: _put(call, "trace"))
routes("PUT", "/spans/feedback-scores")(lambda call: _put(call, "span"))
routes("PUT", "/traces/threads/feedback-scores")(lambda call: _put(call, "thread", "thread_id"))


@routes("POST", "/traces/{id}/feedback-scores/delete")
def delete_score(call: Call) -> None:
    """Take the score of one name off a trace."""
    with call.store.write() as db:
        db.execute(
            "DELETE FROM scores WHERE entity = 'trace' AND entity_id = ? AND name = ?",
            (call.params["id"], call.doc().get("name")),
        )
