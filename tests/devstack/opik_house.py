"""Traces, spans and scores sent to the receiver, and its pages as a reader sees them."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx

from devstack.opik.rules import new_id

V1 = "/api/v1/private"
NOW = datetime.now(UTC)
Item = dict[str, object]


def at(seconds: float) -> str:
    """A moment after NOW."""
    return (NOW + timedelta(seconds=seconds)).isoformat()


def trace(**fields: object) -> Item:
    """A trace of the project rein that has begun at NOW."""
    named = {"id": new_id(), "project_name": "rein", "name": "goal_generation_pipeline"}
    return {**named, "start_time": at(0), "last_updated_at": at(0), **fields}


def span(trace_id: object, **fields: object) -> Item:
    return {**trace(name="s", type="general", trace_id=trace_id), **fields}


async def post(opik: httpx.AsyncClient, kind: str, *items: Item) -> httpx.Response:
    """A batch of `kind`: traces or spans."""
    return await opik.post(f"{V1}/{kind}/batch", json={kind: items})


async def send(opik: httpx.AsyncClient, kind: str, *items: Item) -> None:
    """The same; a refusal is an error."""
    (await post(opik, kind, *items)).raise_for_status()


async def stored(opik: httpx.AsyncClient, kind: str, identity: object) -> Item:
    answer = await opik.get(f"{V1}/{kind}/{identity}")
    answer.raise_for_status()
    found: Item = answer.json()
    return found


async def score(opik: httpx.AsyncClient, identity: object, name: str, value: float) -> None:
    item = {"id": identity, "project_name": "rein", "name": name, "value": value}
    body = {"scores": [{**item, "source": "sdk", "reason": f"because of {value}"}]}
    (await opik.put(f"{V1}/traces/feedback-scores", json=body)).raise_for_status()


async def page(opik: httpx.AsyncClient, path: str, **query: object) -> str:
    answer = await opik.get(path, params={k: str(v) for k, v in query.items()} or None)
    assert answer.status_code == 200, answer.text[:500]
    return answer.text


def text(html: str) -> str:
    """What a reader sees: tags taken out, space made single."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
