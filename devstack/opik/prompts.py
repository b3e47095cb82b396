"""The prompt library: immutable versions, and environments that point at them."""

import sqlite3

from devstack.opik.http import Call, Doc, Refused, Reply, Routes, missing_is
from devstack.opik.paging import named, paged
from devstack.opik.rows import project_of
from devstack.opik.rules import new_id
from devstack.opik.store import document, documents, put_document
from devstack.opik.views import AUTHOR

routes = Routes("/v1/private/prompts")
TYPES = ("mustache", "jinja2")


def _find(db: sqlite3.Connection, name: object, project: str | None) -> Doc | None:
    """A prompt by name: the project's own before one of another project."""
    found = documents(db, "prompt", name=str(name))
    own = [each for each in found if each.get("project_id") == project]
    return next(iter(own or found), None)


def _versions(db: sqlite3.Connection, prompt: str) -> list[Doc]:
    """Oldest first."""
    return documents(db, "prompt_version", parent=prompt)


def _make(db: sqlite3.Connection, doc: Doc) -> Doc:
    prompt = {
        "id": doc.get("id") or new_id(),
        "name": doc["name"],
        "project_id": project_of(db, doc, {}),
        "description": doc.get("description"),
        "template_structure": doc.get("template_structure") or "text",
        "tags": doc.get("tags"),
        "created_by": AUTHOR,
        "last_updated_by": AUTHOR,
    }
    put_document(db, "prompt", prompt, name=prompt["name"])
    return prompt


def _add_version(db: sqlite3.Connection, prompt: Doc, said: Doc) -> Doc:
    if not isinstance(said.get("template"), str) or not said["template"]:
        raise Refused(422, "template must not be blank")
    if said.get("type") not in (None, *TYPES):
        raise Refused(400, "Unable to process JSON", f"unknown prompt type '{said['type']}'")
    identity = said.get("id") or new_id()
    version = {
        "id": identity,
        "prompt_id": prompt["id"],
        "commit": said.get("commit") or identity[-8:],
        "version_number": f"v{len(_versions(db, prompt['id'])) + 1}",
        "version_type": "prompt_version",
        "template": said["template"],
        "metadata": said.get("metadata"),
        "type": said.get("type") or "mustache",
        "change_description": said.get("change_description"),
        "tags": said.get("tags"),
        "template_structure": prompt["template_structure"],
        "environments": [],
        "created_by": AUTHOR,
    }
    put_document(db, "prompt_version", version, parent=prompt["id"], name=version["commit"])
    return document(db, "prompt_version", identity)


def _named(doc: Doc) -> str:
    name = doc.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Refused(422, "name must not be blank")
    return name


@routes("POST", "")
def create(call: Call) -> Reply:
    """A prompt; with a template also its first version."""
    doc = call.doc()
    name = _named(doc)
    with call.store.write() as db:
        project = project_of(db, doc, {})
        if any(each.get("project_id") == project for each in documents(db, "prompt", name=name)):
            raise Refused(409, "Prompt id or name already exists")
        prompt = _make(db, doc)
        if doc.get("template"):
            _add_version(db, prompt, {**doc, "id": None})
    return Reply(201, None, {"Location": f"{call.base}/api{call.path}/{prompt['id']}"})


@routes("POST", "/versions")
def create_version(call: Call) -> Reply:
    """The next version of a prompt, which is made when it is new."""
    doc = call.doc()
    name, said = _named(doc), doc.get("version")
    if not isinstance(said, dict):
        raise Refused(422, "version must not be null")
    with call.store.write() as db:
        prompt = _find(db, name, project_of(db, doc, {})) or _make(db, {**doc, "id": None})
        version = _add_version(db, prompt, said)
    return Reply(200, version)


@routes("POST", "/versions/retrieve")
def retrieve(call: Call) -> Reply:
    """One version by commit, number or environment; else the latest."""
    doc = call.doc()
    with call.store.write() as db:
        prompt = _find(db, _named(doc), project_of(db, doc, {}))
        versions = _versions(db, prompt["id"]) if prompt else []
    for key in ("commit", "version_number"):
        if doc.get(key):
            versions = [each for each in versions if each[key] == doc[key]]
    if doc.get("environment"):
        versions = [each for each in versions if doc["environment"] in each["environments"]]
    if not versions:
        raise Refused(404, "Prompt version not found" if prompt else "Prompt not found")
    return Reply(200, versions[-1])


@routes("PATCH", "/versions/{id}/environments")
def point(call: Call) -> Reply:
    """Let environments point at this version, and no longer at another of its prompt."""
    wanted = [str(each) for each in call.doc().get("environments") or ()]
    with call.store.write() as db, missing_is(404, "Prompt version not found"):
        target = document(db, "prompt_version", call.params["id"])
        for each in _versions(db, str(target["prompt_id"])):
            rest = [name for name in each["environments"] if name not in wanted]
            held = wanted if each["id"] == target["id"] else rest
            if held != each["environments"]:
                parent, name = str(each["prompt_id"]), str(each["commit"])
                new = {**each, "environments": held}
                put_document(db, "prompt_version", new, parent=parent, name=name)
    return Reply(204)


@routes("PATCH", "/versions")
def tag_versions(call: Call) -> Reply:
    """Set or add the tags of versions; their words never change."""
    doc = call.doc()
    tags = (doc.get("update") or {}).get("tags") or []
    with call.store.write() as db, missing_is(404, "Prompt version not found"):
        for identity in doc.get("ids") or ():
            old = document(db, "prompt_version", str(identity))
            kept = old.get("tags") or [] if doc.get("merge_tags") else []
            new = {**old, "tags": list(dict.fromkeys([*_list(kept), *tags]))}
            parent, name = str(old["prompt_id"]), str(old["commit"])
            put_document(db, "prompt_version", new, parent=parent, name=name)
    return Reply(204)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


@routes("POST", "/retrieve-by-commits")
def by_commits(call: Call) -> Reply:
    """Which prompt and version each commit is."""
    db = call.store.read()
    found = []
    for commit in call.doc().get("commits") or ():
        for each in documents(db, "prompt_version", name=str(commit)):
            prompt = document(db, "prompt", str(each["prompt_id"]))
            link = {"prompt_version_id": each["id"], "commit": commit}
            found.append({**link, "prompt_id": prompt["id"], "prompt_name": prompt["name"]})
    return Reply(200, found)


def _counted(db: sqlite3.Connection, prompt: Doc) -> Doc:
    versions = _versions(db, prompt["id"])
    return {
        **prompt,
        "version_count": len(versions),
        "latest_version": next(iter(versions[::-1]), None),
    }


@routes("GET", "")
def page(call: Call) -> Reply:
    """Prompts by a part of their name, newest first."""
    db = call.store.read()
    found = named(documents(db, "prompt"), call.query.get("name", ""))
    return paged(call, [_counted(db, prompt) for prompt in found[::-1]])


@routes("GET", "/{id}")
def one(call: Call) -> Reply:
    """One prompt with its latest version."""
    db = call.store.read()
    with missing_is(404, "Prompt not found"):
        return Reply(200, _counted(db, document(db, "prompt", call.params["id"])))


@routes("PUT", "/{id}")
def update(call: Call) -> Reply:
    """Rename, describe or tag a prompt."""
    said = {k: v for k, v in call.doc().items() if k in ("name", "description", "tags")}
    with call.store.write() as db, missing_is(404, "Prompt not found"):
        new = {**document(db, "prompt", call.params["id"]), **said}
        put_document(db, "prompt", new, name=str(new["name"]))
    return Reply(204)


@routes("GET", "/{id}/versions")
def versions_page(call: Call) -> Reply:
    """All versions, newest first."""
    return paged(call, _versions(call.store.read(), call.params["id"])[::-1])


@routes("GET", "/versions/{id}")
def version(call: Call) -> Reply:
    """One version by id."""
    with missing_is(404, "Prompt version not found"):
        return Reply(200, document(call.store.read(), "prompt_version", call.params["id"]))
