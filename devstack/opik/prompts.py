"""The prompt library: immutable versions, and environments that point at them."""

import sqlite3

from starlette.responses import Response

from devstack.opik.calls import Call, Routes, named, paged
from devstack.opik.errors import Refused
from devstack.opik.rules import new_id
from devstack.opik.store import Doc, document, documents, project_of, put_document
from devstack.opik.views import AUTHORS

routes = Routes("/v1/private/prompts")


def _find(db: sqlite3.Connection, name: str, project: str) -> Doc | None:
    """A prompt by name: the project's own before one of another project."""
    found = documents(db, "prompt", name=name)
    own = [each for each in found if each.get("project_id") == project]
    return next(iter(own or found), None)


def _versions(db: sqlite3.Connection, prompt: str) -> list[Doc]:
    """Oldest first."""
    return documents(db, "prompt_version", parent=prompt)


def _make(db: sqlite3.Connection, doc: Doc) -> Doc:
    prompt = {
        "id": doc.get("id") or new_id(),
        "name": doc["name"],
        "project_id": project_of(db, doc),
        "description": doc.get("description"),
        "template_structure": doc.get("template_structure") or "text",
        "tags": doc.get("tags"),
        **AUTHORS,
    }
    put_document(db, "prompt", prompt, name=prompt["name"])
    return prompt


def _add_version(db: sqlite3.Connection, prompt: Doc, asked: Doc) -> Doc:
    if not isinstance(asked.get("template"), str) or not asked["template"]:
        raise Refused(422, "template must not be blank")
    identity = asked.get("id") or new_id()
    version = {
        "id": identity,
        "prompt_id": prompt["id"],
        "commit": asked.get("commit") or identity[-8:],
        "version_number": f"v{len(_versions(db, prompt['id'])) + 1}",
        "version_type": "prompt_version",
        "template": asked["template"],
        "metadata": asked.get("metadata"),
        "type": asked.get("type") or "mustache",
        "change_description": asked.get("change_description"),
        "tags": asked.get("tags"),
        "template_structure": prompt["template_structure"],
        "environments": [],
        **AUTHORS,
    }
    _put_version(db, version)
    return document(db, "prompt_version", identity)


def _put_version(db: sqlite3.Connection, version: Doc) -> None:
    parent, name = version["prompt_id"], version["commit"]
    put_document(db, "prompt_version", version, parent=parent, name=name)


@routes("POST", "")
def create(call: Call) -> Response:
    """A prompt; with a template also its first version."""
    doc, name = call.doc(), call.name()
    with call.store.write() as db:
        project = project_of(db, doc)
        if any(each["project_id"] == project for each in documents(db, "prompt", name=name)):
            raise Refused(409, "Prompt id or name already exists")
        prompt = _make(db, doc)
        if doc.get("template"):
            _add_version(db, prompt, {**doc, "id": None})
    return call.created(prompt["id"])


@routes("POST", "/versions")
def create_version(call: Call) -> Doc:
    """The next version of a prompt, which is made when it is new."""
    doc, name = call.doc(), call.name()
    version = doc.get("version")
    if not isinstance(version, dict):
        raise Refused(422, "version must not be null")
    with call.store.write() as db:
        prompt = _find(db, name, project_of(db, doc)) or _make(db, {**doc, "id": None})
        return _add_version(db, prompt, version)


@routes("POST", "/versions/retrieve")
def retrieve(call: Call) -> Doc:
    """One version by commit, number or environment; else the latest."""
    doc = call.doc()
    with call.store.write() as db:
        prompt = _find(db, call.name(), project_of(db, doc))
        versions = _versions(db, prompt["id"]) if prompt else []
    for key in ("commit", "version_number"):
        if doc.get(key):
            versions = [each for each in versions if each[key] == doc[key]]
    if doc.get("environment"):
        versions = [each for each in versions if doc["environment"] in each["environments"]]
    if not versions:
        raise Refused(404, "Prompt version not found" if prompt else "Prompt not found")
    return versions[-1]


@routes("PATCH", "/versions/{id}/environments")
def set_environments(call: Call) -> None:
    """Let environments point at this version, and no longer at another of its prompt."""
    wanted = [str(each) for each in call.doc().get("environments") or ()]
    with call.store.write() as db:
        target = document(db, "prompt_version", call.params["id"])
        for each in _versions(db, target["prompt_id"]):
            others = [name for name in each["environments"] if name not in wanted]
            held = wanted if each["id"] == target["id"] else others
            _put_version(db, {**each, "environments": held})


@routes("GET", "")
def page(call: Call) -> Doc:
    """Prompts by a part of their name, newest first."""
    db = call.store.read()
    found = named(documents(db, "prompt"), call.query.get("name", ""))[::-1]
    counted = [{**each, "version_count": len(_versions(db, each["id"]))} for each in found]
    return paged(call, counted)


@routes("GET", "/{id}/versions")
def versions_page(call: Call) -> Doc:
    """All versions, newest first."""
    return paged(call, _versions(call.store.read(), call.params["id"])[::-1])
