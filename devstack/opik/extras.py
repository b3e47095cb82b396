"""Annotation queues and attachments, as far as the client was recorded to use them."""

from base64 import b64decode
from urllib.parse import urlencode

from starlette.responses import Response

from devstack.opik.calls import Call, Routes
from devstack.opik.errors import Refused
from devstack.opik.rules import new_id
from devstack.opik.store import Doc, document, put_document
from devstack.opik.views import AUTHORS

routes = Routes("/v1/private")
# The word by which the server tells the client to PUT the whole file to one address, without S3.
LOCAL_UPLOAD = "BEMinIO"


@routes("POST", "/annotation-queues")
def create_queue(call: Call) -> Response:
    """A queue of traces or threads that people are to look at."""
    doc = call.doc()
    if not all(doc.get(name) for name in ("name", "project_id", "scope")):
        raise Refused(422, "name, project_id and scope must not be null")
    queue = {**doc, "id": doc.get("id") or new_id(), **AUTHORS}
    with call.store.write() as db:
        put_document(db, "annotation_queue", queue, name=str(doc["name"]))
    return call.created(queue["id"])


@routes("POST", "/annotation-queues/{id}/items/add")
def add_to_queue(call: Call) -> None:
    """Put entities into a queue; one that is in it already stays once."""
    with call.store.write() as db:
        queue = document(db, "annotation_queue", call.params["id"])
        for identity in call.doc().get("ids") or ():
            put_document(db, f"queue_item:{queue['id']}", {"id": str(identity)})


@routes("POST", "/attachment/upload-start")
def start_upload(call: Call) -> Doc:
    """The one address to PUT the file to; it carries what the file belongs to."""
    doc = call.doc()
    if not doc.get("file_name") or not doc.get("entity_id"):
        raise Refused(422, "file_name and entity_id must not be blank")
    # The client says under which address it reaches us; behind a proxy ours would be wrong.
    base = b64decode(doc.get("path") or "").decode(errors="replace") or f"{call.base}/api"
    names = {name: str(doc[name]) for name in ("file_name", "mime_type", "entity_id")}
    url = f"{base.rstrip('/')}/v1/private/attachment/upload?{urlencode(names)}"
    return {"upload_id": LOCAL_UPLOAD, "pre_sign_urls": [url]}


@routes("PUT", "/attachment/upload")
def upload(call: Call) -> None:
    """The file itself. Its name and size are kept for the trace's page, its content is not."""
    name, entity = call.query.get("file_name"), call.query.get("entity_id", "")
    if not name:
        raise Refused(400, "query param file_name must not be null")
    file = {"id": f"{entity}/{name}", "file_name": name, "size": len(call.body)}
    with call.store.write() as db:
        put_document(db, "attachment", file, parent=entity)
