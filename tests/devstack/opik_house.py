"""Traces and scores sent to the receiver, and its pages as a reader sees them."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx

from devstack.opik.rules import new_id

V1 = "/api/v1/private"
NOW = datetime.now(UTC)
Item = dict[str, object]


def trace(**fields: object) -> Item:
    start = {"start_time": NOW.isoformat(), "last_updated_at": NOW.isoformat()}
    end = {"end_time": (NOW + timedelta(seconds=3.2)).isoformat()}
    name = {"id": new_id(), "project_name": "rein", "name": "goal_generation_pipeline"}
    return {**name, **start, **end, "metadata": {"user_id": "user_abc"}, **fields}


async def send(opik: httpx.AsyncClient, kind: str, *items: Item) -> None:
    (await opik.post(f"{V1}/{kind}/batch", json={kind: items})).raise_for_status()


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
