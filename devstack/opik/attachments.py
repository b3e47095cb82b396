"""Attachments: the SDK asks where to put a file, puts it there, and reads it back."""

import mimetypes
from base64 import b64decode
from urllib.parse import urlencode

from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.paging import paged
from devstack.opik.store import documents, project_id, put_document

routes = Routes("/v1/private/attachment")
# The word by which the server tells the SDK to PUT the whole file to one address, without S3.
LOCAL_UPLOAD = "BEMinIO"
NAMES = ("file_name", "mime_type", "entity_type", "entity_id")


def _key(query: Doc) -> str:
    return "/".join(str(query.get(name, "")) for name in ("entity_type", "entity_id", "file_name"))


@routes("POST", "/upload-start")
def start(call: Call) -> Reply:
    """The one address to PUT the file to; it carries what the file belongs to."""
    doc = call.doc()
    if not doc.get("file_name") or not doc.get("entity_id"):
        raise Refused(422, "file_name and entity_id must not be blank")
    # The client says under which address it reaches us; behind a proxy ours would be wrong.
    base = b64decode(doc.get("path") or "").decode(errors="replace") or f"{call.base}/api"
    names = {name: str(doc[name]) for name in (*NAMES, "project_name") if doc.get(name)}
    url = f"{base.rstrip('/')}/v1/private/attachment/upload?{urlencode(names)}"
    return Reply(200, {"upload_id": LOCAL_UPLOAD, "pre_sign_urls": [url]})


@routes("PUT", "/upload")
def upload(call: Call) -> Reply:
    """The file itself."""
    query = call.query
    if not query.get("file_name"):
        raise Refused(400, "query param file_name must not be null")
    guessed = mimetypes.guess_type(query["file_name"])[0] or "application/octet-stream"
    meta: Doc = {name: query.get(name) for name in NAMES}
    media = query.get("mime_type") or guessed
    key = _key(query)
    with call.store.write() as db:
        project = project_id(db, query.get("project_name"))
        meta |= {"id": key, "mime_type": media, "file_size": len(call.body), "project_id": project}
        put_document(db, "attachment", meta, parent=query.get("entity_id", ""))
        db.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", (key, media, call.body))
    return Reply(204)


@routes("POST", "/upload-complete")
def complete(call: Call) -> Reply:
    """Nothing is left to do after a PUT."""
    return Reply(204)


@routes("GET", "/list")
def listed(call: Call) -> Reply:
    """The files of one entity, each with the address of its content."""
    query = call.query
    found = []
    for each in documents(call.store.read(), "attachment", parent=query.get("entity_id", "")):
        names = {name: str(each[name]) for name in NAMES if each.get(name)}
        link = f"{call.base}/api/v1/private/attachment/download?{urlencode(names)}"
        found.append(
            {key: each[key] for key in ("file_name", "file_size", "mime_type")} | {"link": link}
        )
    return paged(call, found, size=100)


@routes("GET", "/download")
def download(call: Call) -> Reply:
    """A file's content. Never shown by the browser: what a model made may be hostile."""
    sql = "SELECT media, body FROM blobs WHERE id = ?"
    row = call.store.read().execute(sql, (_key(call.query),)).fetchone()
    if row is None:
        raise Refused(404, "Attachment not found")
    safe = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
    return Reply(200, bytes(row["body"]), safe, row["media"])
