"""Reading back: filters, paging, streams."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from devstack.opik.rules import new_id
from devstack.opik.serving import running
from tests.devstack.opik_house import V1, at, score, send, trace

PROJECT = {"project_name": "rein"}


@pytest.fixture(scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """Three traces, oldest first: `a` fast and rated well, `b` slow and failed, `c` open."""
    error = {"exception_type": "MODEL_DOWN", "message": "m", "traceback": "t"}
    # Ids of one millisecond are in no order, so they are sorted before they are given away.
    first, second, third = sorted(new_id() for _ in range(3))
    a = trace(id=first, name="a", end_time=at(1), tags=["variant:A"])
    b = trace(id=second, name="b", start_time=at(10), end_time=at(14), error_info=error)
    store: Path = tmp_path_factory.mktemp("opik") / "opik.db"
    async with (
        running(store) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as client,
    ):
        metadata = {"n": 22, "temporal.run": "r1", "deep": {"x": "y"}}
        await send(client, "traces", a, {**b, "metadata": metadata})
        await send(client, "traces", trace(id=third, name="c 100%", start_time=at(20)))
        await score(client, first, "overall", 8.5)
        yield client


@pytest.mark.parametrize(
    ("field", "operator", "value", "found"),
    [
        ("name", "=", "a", "a"),
        ("name", "!=", "a", "cb"),
        ("name", "contains", "100%", "c"),
        ("name", "contains", "0_%", ""),
        ("tags", "contains", "variant", "a"),
        ("tags", "=", "variant:A", "a"),
        ("metadata.n", ">", "3", "b"),
        ("metadata.temporal.run", "=", "r1", "b"),
        ("metadata.deep.x", "=", "y", "b"),
        ("duration", ">=", "1000", "ba"),
        ("start_time", ">", at(5), "cb"),
        ("feedback_scores.overall", ">", "8", "a"),
    ],
)
async def test_filters(
    filled: httpx.AsyncClient, field: str, operator: str, value: str, found: str
) -> None:
    one = {"field": field, "operator": operator, "value": value, "key": ""}
    query = {**PROJECT, "filters": json.dumps([one])}
    answer = await filled.get(f"{V1}/traces", params=query)
    assert "".join(each["name"][0] for each in answer.json()["content"]) == found


@pytest.mark.parametrize(
    "bad",
    [
        {"filters": "["},
        {"filters": '[{"field": "nothing", "operator": "=", "value": "1"}]'},
        {"filters": '[{"field": "name", "operator": "~", "value": "1"}]'},
        {"filters": '[{"field": "duration", "operator": ">", "value": "long"}]'},
        {"filters": '[{"field": "metadata.a\\"b", "operator": "=", "value": "1"}]'},
        {"sorting": '[{"field": "name", "direction": "ASC"}]'},
        {"search": "x"},
        {"page": "0"},
        {"page": "²"},
    ],
)
async def test_what_the_receiver_cannot_do_is_refused_not_ignored(
    filled: httpx.AsyncClient, bad: dict[str, str]
) -> None:
    assert (await filled.get(f"{V1}/traces", params={**PROJECT, **bad})).status_code == 400


async def test_a_project_must_be_named_and_known(filled: httpx.AsyncClient) -> None:
    assert (await filled.get(f"{V1}/traces")).status_code == 400
    unknown = await filled.get(f"{V1}/traces", params={"project_name": "nobody"})
    assert unknown.status_code == 404


async def test_pages_and_streams_walk_to_the_end(filled: httpx.AsyncClient) -> None:
    answer = await filled.get(f"{V1}/traces", params={**PROJECT, "page": "2", "size": "2"})
    last_page = answer.json()
    assert (last_page["page"], last_page["size"], last_page["total"]) == (2, 1, 3)
    seen: list[str] = []
    last = None
    while True:
        body = {**PROJECT, "limit": 2, "last_retrieved_id": last}
        answer = await filled.post(f"{V1}/traces/search", json=body)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        if not lines:
            break
        seen += [line["name"][0] for line in lines]
        last = lines[-1]["id"]
    assert seen == ["c", "b", "a"]
