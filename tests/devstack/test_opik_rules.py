"""The server's rules as a client meets them over HTTP."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from devstack.opik.rules import new_id
from devstack.opik.serving import running
from tests.devstack.opik_house import (
    V1,
    Item,
    at,
    page,
    post,
    score,
    send,
    span,
    stored,
    text,
    trace,
)


async def test_a_bad_id_refuses_the_whole_batch(opik: httpx.AsyncClient) -> None:
    good = new_id()
    answer = await post(opik, "traces", trace(id=good), trace(id=str(uuid4())))
    assert answer.status_code == 400
    assert answer.json()["message"] == "Invalid UUID for trace"
    assert (await opik.get(f"{V1}/traces/{good}")).status_code == 404


@pytest.mark.parametrize("name", ["id", "trace_id", "parent_span_id"])
async def test_every_id_of_a_span_is_checked(opik: httpx.AsyncClient, name: str) -> None:
    item = span(new_id(), parent_span_id=new_id()) | {name: str(uuid4())}
    assert (await post(opik, "spans", item)).status_code == 400


async def test_window_refuses_old_creates_but_not_old_references(tmp_path: Path) -> None:
    old = str(UUID(int=UUID(new_id()).int - (25 * 3_600_000 << 80)))
    async with (
        running(tmp_path / "window.db", id_window="24h") as url,
        httpx.AsyncClient(base_url=url) as opik,
    ):
        assert (await post(opik, "traces", trace(id=old))).status_code == 400
        assert "PT24H" in (await post(opik, "traces", trace(id=old))).text
        assert (await post(opik, "spans", span(old))).status_code == 204
        patch = await opik.patch(f"{V1}/traces/{old}", json={"project_name": "rein"})
        assert patch.status_code == 204
        ahead = str(UUID(int=UUID(new_id()).int + (25 * 3_600_000 << 80)))
        assert (await post(opik, "traces", trace(id=ahead))).status_code == 400
        assert (await post(opik, "spans", span(ahead))).status_code == 400
        late = await opik.patch(f"{V1}/traces/{ahead}", json={"project_name": "rein"})
        assert late.status_code == 400


async def test_newest_row_wins_whole(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    end = trace(id=identity, end_time=at(3), output={"a": 1}, last_updated_at=at(3))
    start = trace(id=identity, input={"goal": "run"}, last_updated_at=at(1))
    await send(opik, "traces", end)
    await send(opik, "traces", start)
    row = await stored(opik, "traces", identity)
    assert row["output"] == {"a": 1}
    assert "input" not in row
    assert row["duration"] == 3000


async def test_equal_versions_the_later_delivery_wins(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    await send(opik, "traces", trace(id=identity, name="one"), trace(id=identity, name="two"))
    assert (await stored(opik, "traces", identity))["name"] == "two"


async def test_patch_merges_and_beats_late_rows(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    await send(opik, "traces", trace(id=identity, input={"goal": "run"}, tags=["a"]))
    change = {"project_name": "rein", "output": {"ok": True}, "tags_to_add": ["b"]}
    assert (await opik.patch(f"{V1}/traces/{identity}", json=change)).status_code == 204
    await send(opik, "traces", trace(id=identity))
    row = await stored(opik, "traces", identity)
    assert (row["input"], row["output"], row["tags"]) == ({"goal": "run"}, {"ok": True}, ["a", "b"])


async def test_patch_before_create_is_partial_and_a_single_post_completes_it(
    opik: httpx.AsyncClient,
) -> None:
    identity = new_id()
    change = {"project_name": "rein", "end_time": at(5)}
    assert (await opik.patch(f"{V1}/traces/{identity}", json=change)).status_code == 204
    assert str((await stored(opik, "traces", identity))["start_time"]).startswith("1970-01-01")
    await send(opik, "traces", trace(id=identity))
    assert "name" not in await stored(opik, "traces", identity)
    created = await opik.post(f"{V1}/traces", json=trace(id=identity, name="whole"))
    assert created.status_code == 201
    assert created.headers["Location"].endswith(f"/v1/private/traces/{identity}")
    row = await stored(opik, "traces", identity)
    assert (row["name"], row["duration"]) == ("whole", 5000)


async def test_second_single_post_conflicts_for_a_trace_and_is_ignored_for_a_span(
    opik: httpx.AsyncClient,
) -> None:
    one, two = new_id(), new_id()
    assert (await opik.post(f"{V1}/traces", json=trace(id=one))).status_code == 201
    assert (await opik.post(f"{V1}/traces", json=trace(id=one))).status_code == 409
    assert (await opik.post(f"{V1}/spans", json=span(one, id=two))).status_code == 201
    assert (await opik.post(f"{V1}/spans", json=span(one, id=two, name="x"))).status_code == 201
    assert (await stored(opik, "spans", two))["name"] == "s"


async def test_patch_may_not_move_an_entity(opik: httpx.AsyncClient) -> None:
    one, two = new_id(), new_id()
    await send(opik, "traces", trace(id=one))
    await send(opik, "spans", span(one, id=two))
    moved = await opik.patch(f"{V1}/traces/{one}", json={"project_name": "other"})
    other = {"project_name": "rein", "trace_id": new_id()}
    assert moved.status_code == 409
    assert (await opik.patch(f"{V1}/spans/{two}", json=other)).status_code == 409
    below: Item = {"project_name": "rein", "trace_id": one, "parent_span_id": new_id()}
    assert (await opik.patch(f"{V1}/spans/{two}", json=below)).status_code == 409
    assert "parent_span_id" not in await stored(opik, "spans", two)


async def test_patch_names_project_and_parent_each_time(opik: httpx.AsyncClient) -> None:
    one, two, above = new_id(), new_id(), new_id()
    await send(opik, "traces", trace(id=one))
    await send(opik, "spans", span(one, id=two, parent_span_id=above))
    # No project is the default project, and no parent is no parent: neither is this entity's.
    assert (await opik.patch(f"{V1}/traces/{one}", json={"name": "x"})).status_code == 409
    where: Item = {"project_name": "rein", "trace_id": one}
    assert (await opik.patch(f"{V1}/spans/{two}", json=where)).status_code == 409
    whole: Item = {**where, "parent_span_id": above, "name": "x"}
    assert (await opik.patch(f"{V1}/spans/{two}", json=whole)).status_code == 204
    assert (await stored(opik, "traces", one))["name"] != "x"
    assert (await stored(opik, "spans", two))["name"] == "x"


async def test_scores_upsert_by_name_within_their_project(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    await send(opik, "traces", trace(id=identity))

    async def put(value: object, project: str = "rein", name: object = "quality") -> int:
        item = {"id": identity, "project_name": project, "name": name, "value": value}
        body = {"scores": [{**item, "source": "sdk", "reason": "why"}]}
        return (await opik.put(f"{V1}/traces/feedback-scores", json=body)).status_code

    assert [await put(1), await put(8.25), await put(3, "wrong")] == [204, 204, 204]
    assert await put(0.1234567891234, name="nine") == 204
    assert await put(1e12) == 422
    assert await put("high") == 422
    assert await put(1, name=["a"]) == 400
    scores = (await stored(opik, "traces", identity))["feedback_scores"]
    assert isinstance(scores, list)
    assert {s["name"]: s["value"] for s in scores} == {"quality": 8.25, "nine": 0.123456789}


async def test_a_score_may_come_before_its_trace(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    await score(opik, identity, "n", 4)
    await send(opik, "traces", trace(id=identity))
    scores = (await stored(opik, "traces", identity))["feedback_scores"]
    assert isinstance(scores, list)
    assert [each["value"] for each in scores] == [4]


async def test_one_id_in_two_projects_is_two_rows(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    names = ("rein", "other")
    for name in names:
        await send(opik, "traces", trace(id=identity, project_name=name))
    for name in names:
        page = await opik.get(f"{V1}/traces", params={"project_name": name})
        assert [each["id"] for each in page.json()["content"]] == [identity]


async def test_sums_over_spans_are_the_trace_s(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    call: Item = {"type": "llm", "provider": "google_ai", "total_estimated_cost": 0.0001752}
    call |= {"usage": {"prompt_tokens": 512, "completion_tokens": 456, "total_tokens": 968}}
    await send(opik, "spans", span(identity))
    await send(opik, "spans", *(span(identity, **call) for _ in range(100)))
    await send(opik, "traces", trace(id=identity))
    row = await stored(opik, "traces", identity)
    assert row["total_estimated_cost"] == 0.01752
    assert row["usage"] == {
        "prompt_tokens": 51_200,
        "completion_tokens": 45_600,
        "total_tokens": 96_800,
    }
    assert (row["span_count"], row["llm_span_count"]) == (101, 100)
    assert row["providers"] == ["google_ai"]


async def test_rules_are_triggered_by_every_write_that_ends_a_trace(
    opik: httpx.AsyncClient,
) -> None:
    opened, ended, twice, changed = (new_id() for _ in range(4))

    def end(identity: str, **fields: object) -> Item:
        return trace(id=identity, end_time=at(3), **fields)

    await send(opik, "traces", trace(id=opened), end(ended), end(twice))
    # A batch keeps the newest of one id; a row older than the stored one triggers all the same.
    await send(opik, "traces", end(twice), end(twice, last_updated_at=at(-9)))
    await send(opik, "spans", span(opened, end_time=at(3)))
    assert (await opik.post(f"{V1}/traces", json=end(ended))).status_code == 409
    assert (await opik.post(f"{V1}/traces", json=end(changed))).status_code == 201
    for change in ({"output": {"ok": 1}}, {"end_time": at(4)}):
        body = {"project_name": "rein", **change}
        assert (await opik.patch(f"{V1}/traces/{changed}", json=body)).status_code == 204
    counted = (await opik.get("/control/rule-triggers")).json()
    assert counted == {"triggers": {ended: 1, twice: 2, changed: 2}}
    assert "Rule triggers 2" in text(await page(opik, f"/traces/{changed}"))


async def test_the_store_survives_a_restart(tmp_path: Path) -> None:
    identity = new_id()
    async with running(tmp_path / "kept.db") as url, httpx.AsyncClient(base_url=url) as opik:
        await send(opik, "traces", trace(id=identity))
    async with running(tmp_path / "kept.db") as url, httpx.AsyncClient(base_url=url) as opik:
        assert (await stored(opik, "traces", identity))["id"] == identity


async def test_wait_returns_when_everything_asked_for_is_there(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    query = {"trace_id": identity, "ended": "1", "spans": "1", "timeout": "20"}
    waiting = asyncio.create_task(opik.get("/control/wait", params=query))
    await send(opik, "spans", span(identity))
    await send(opik, "traces", trace(id=identity))
    await send(opik, "traces", trace(id=identity, end_time=at(1), last_updated_at=at(1)))
    answer = await waiting
    counts = {"spans": 1, "open_spans": 1, "scores": 0}
    assert answer.json() == {"reached": True, "ended": True, **counts}


async def test_wait_gives_up_after_its_timeout(opik: httpx.AsyncClient) -> None:
    answer = await opik.get("/control/wait", params={"trace_id": new_id(), "timeout": 0.05})
    assert answer.json()["reached"] is False
