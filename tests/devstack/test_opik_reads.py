"""Reading back: filters, sorting, paging, statistics, threads, and taking away."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from devstack.opik.rules import new_id
from devstack.opik.serving import running

V1 = "/api/v1/private"
START = datetime(2026, 1, 25, 14, 30, tzinfo=UTC)
Item = dict[str, object]


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def identity(seconds: float) -> str:
    """A version 7 id of a moment, so that the order of ids is the order of time."""
    ms = int((START + timedelta(seconds=seconds)).timestamp() * 1000)
    return str(UUID(int=UUID(new_id()).int & ((1 << 80) - 1) | ms << 80))


def item(name: str, start: float, end: float | None = None, **fields: object) -> Item:
    times = {"start_time": at(start), "last_updated_at": at(start)}
    ended = {"end_time": at(end)} if end is not None else {}
    return {"id": identity(start), "project_name": "rein", "name": name, **times, **ended, **fields}


class Filled:
    """Three traces: `a` fast and rated well, `b` slow and failed, `c` open."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        error = {"exception_type": "MODEL_DOWN", "message": "m", "traceback": "t"}
        self.a = item("a", 0, 1, tags=["variant:A"], metadata={"n": 1, "temporal.run": "r1"})
        self.b = item("b", 10, 14, tags=["variant:B"], metadata={"n": 22}, error_info=error)
        self.c = item("c", 20, thread_id="talk", input={"goal": "100% run_5k"})
        usage = {"prompt_tokens": 10, "total_tokens": 30}
        call = {
            "type": "llm",
            "usage": usage,
            "total_estimated_cost": 0.25,
            "provider": "google_ai",
        }
        self.span = item("llm", 0, 1, trace_id=self.a["id"], **call)

    async def fill(self) -> None:
        traces = {"traces": [self.a, self.b, self.c]}
        (await self.client.post(f"{V1}/traces/batch", json=traces)).raise_for_status()
        await self.client.post(f"{V1}/spans/batch", json={"spans": [self.span]})
        score = {"id": self.a["id"], "project_name": "rein", "name": "overall", "value": 8.5}
        body = {"scores": [{**score, "source": "sdk"}]}
        (await self.client.put(f"{V1}/traces/feedback-scores", json=body)).raise_for_status()

    async def get(self, path: str, **query: object) -> httpx.Response:
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()}
        return await self.client.get(f"{V1}{path}", params={"project_name": "rein", **texts})

    async def names(self, path: str = "/traces", **query: object) -> list[str]:
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return [each["name"] for each in answer.json()["content"]]


@pytest.fixture
async def opik(tmp_path: Path) -> AsyncIterator[Filled]:
    async with (
        running(tmp_path / "opik.db") as url,
        httpx.AsyncClient(base_url=url, timeout=20) as client,
    ):
        filled = Filled(client)
        await filled.fill()
        yield filled


@pytest.mark.parametrize(
    ("field", "operator", "value", "found"),
    [
        ("name", "=", "a", "a"),
        ("name", "!=", "a", "cb"),
        ("input", "contains", "100%", "c"),
        ("input", "contains", "run_5", "c"),
        ("input", "contains", "runx5", ""),
        ("input", "not_contains", "run", "ba"),
        ("tags", "contains", "variant", "ba"),
        ("tags", "=", "variant:B", "b"),
        ("tags", "is_empty", "", "c"),
        ("metadata.n", ">", "3", "b"),
        ("metadata.temporal.run", "=", "r1", "a"),
        ("duration", ">=", "1000", "ba"),
        ("start_time", ">", at(5), "cb"),
        ("end_time", "is_empty", "", "c"),
        ("error_info", "is_not_empty", "", "b"),
        ("thread_id", "starts_with", "ta", "c"),
        ("total_estimated_cost", ">", "0.2", "a"),
        ("usage.total_tokens", "=", "30", "a"),
        ("llm_span_count", "=", "1", "a"),
        ("feedback_scores.overall", ">", "8", "a"),
        ("feedback_scores.overall", "is_empty", "", "cb"),
        ("status", "=", "failed", "b"),
    ],
)
async def test_filters(opik: Filled, field: str, operator: str, value: str, found: str) -> None:
    one = {"field": field, "operator": operator, "value": value, "key": ""}
    assert "".join(await opik.names(filters=[one])) == found


@pytest.mark.parametrize(
    "bad",
    [
        {"filters": "["},
        {"filters": [{"field": "nothing", "operator": "=", "value": "1"}]},
        {"filters": [{"field": "name", "operator": "~", "value": "1"}]},
        {"filters": [{"field": "duration", "operator": ">", "value": "long"}]},
        {"filters": [{"field": "metadata", "key": 'a"b', "operator": "=", "value": "1"}]},
        {"filters": [{"field": "usage.x') --", "operator": "=", "value": "1"}]},
        {"sorting": [{"field": "body; DROP TABLE traces", "direction": "ASC"}]},
        {"page": "0"},
        {"page": "²"},
        {"from_time": "yesterday"},
    ],
)
async def test_nonsense_is_refused(opik: Filled, bad: dict[str, object]) -> None:
    assert (await opik.get("/traces", **bad)).status_code == 400


async def test_project_must_be_named_and_known(opik: Filled) -> None:
    assert (await opik.client.get(f"{V1}/traces")).status_code == 400
    unknown = await opik.client.get(f"{V1}/traces", params={"project_name": "nobody"})
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("field", "direction", "order"),
    [
        ("start_time", "ASC", "abc"),
        ("duration", "DESC", "bac"),
        ("total_estimated_cost", "DESC", "acb"),
        ("feedback_scores.overall", "ASC", "acb"),
    ],
)
async def test_sorting(opik: Filled, field: str, direction: str, order: str) -> None:
    sorting = [{"field": field, "direction": direction}]
    assert "".join(await opik.names(sorting=sorting)) == order


async def test_paging_search_and_time(opik: Filled) -> None:
    answer = (await opik.get("/traces", page="2", size="2")).json()
    assert (answer["page"], answer["size"], answer["total"]) == (2, 1, 3)
    assert await opik.names(search="MODEL_DOWN") == ["b"]
    assert await opik.names(from_time=at(5), to_time=at(15)) == ["b"]
    assert await opik.names("/spans", trace_id=str(opik.a["id"]), type="llm") == ["llm"]


async def test_streams_walk_by_their_cursor(opik: Filled) -> None:
    seen: list[str] = []
    last = None
    while True:
        body = {"project_name": "rein", "limit": 2, "last_retrieved_id": last}
        answer = await opik.client.post(f"{V1}/traces/search", json=body)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        if not lines:
            break
        seen += [line["name"] for line in lines]
        last = lines[-1]["id"]
    assert seen == ["c", "b", "a"]


async def test_statistics(opik: Filled) -> None:
    stats = {s["name"]: s["value"] for s in (await opik.get("/traces/stats")).json()["stats"]}
    assert stats["trace_count"] == 3
    assert stats["error_count"] == 1
    assert stats["duration"] == {"p50": 2500, "p90": 3700, "p99": 3970}
    assert stats["total_estimated_cost_sum"] == 0.25
    assert stats["usage.total_tokens"] == 10
    assert stats["feedback_scores.overall"] == 8.5
    spans = {s["name"]: s["value"] for s in (await opik.get("/spans/stats")).json()["stats"]}
    assert (spans["span_count"], spans["usage.total_tokens"]) == (1, 30)


async def test_metrics_over_time(opik: Filled) -> None:
    project = (await opik.client.post(f"{V1}/projects/retrieve", json={"name": "rein"})).json()
    path = f"{V1}/projects/{project['id']}"
    times = {"interval_start": at(-3600), "interval_end": at(3600)}
    wanted = {"TRACE_COUNT": [0, 3], "COST": [None, 0.25], "TRACE_ERROR_RATE": [None, 100 / 3]}
    for metric, values in wanted.items():
        body = {"metric_type": metric, "interval": "HOURLY", **times}
        found = (await opik.client.post(f"{path}/metrics", json=body)).json()["results"][0]["data"]
        assert [point["value"] for point in found][:2] == values
    cards = (await opik.client.post(f"{path}/kpi-cards", json=times)).json()["stats"]
    assert {card["type"]: card["current_value"] for card in cards} == {
        "count": 3,
        "errors": 100 / 3,
        "avg_duration": 2500,
        "total_cost": 0.25,
    }


async def test_threads(opik: Filled) -> None:
    assert [each["id"] for each in (await opik.get("/traces/threads")).json()["content"]] == [
        "talk"
    ]
    thread = {"project_name": "rein", "thread_id": "talk"}
    score = {"project_name": "rein", "thread_id": "talk", "name": "sat", "value": 1}
    body = {"scores": [{**score, "source": "sdk"}]}
    # An open thread takes scores too: Opik dropped that condition (comet-ml/opik#4912).
    for _ in ("open", "closed"):
        put = await opik.client.put(f"{V1}/traces/threads/feedback-scores", json=body)
        assert put.status_code == 204
        await opik.client.put(f"{V1}/traces/threads/close", json=thread)
    found = (await opik.client.post(f"{V1}/traces/threads/retrieve", json=thread)).json()
    assert (found["status"], found["first_message"]) == ("inactive", {"goal": "100% run_5k"})
    assert found["feedback_scores"][0]["value"] == 1


async def test_comments_and_single_scores(opik: Filled) -> None:
    path = f"{V1}/traces/{opik.a['id']}"
    assert (await opik.client.post(f"{path}/comments", json={"text": "good"})).status_code == 201
    score = {"name": "clarity", "value": 7, "source": "ui"}
    assert (await opik.client.put(f"{path}/feedback-scores", json=score)).status_code == 204
    found = (await opik.client.get(path)).json()
    assert [each["text"] for each in found["comments"]] == ["good"]
    assert [each["name"] for each in found["feedback_scores"]] == ["clarity", "overall"]
    await opik.client.post(f"{path}/feedback-scores/delete", json={"name": "clarity"})
    names = (await opik.client.get(f"{V1}/traces/feedback-scores/names")).json()["scores"]
    assert [each["name"] for each in names] == ["overall"]


async def test_one_change_to_many(opik: Filled) -> None:
    ids = [opik.a["id"], opik.b["id"], new_id()]
    body = {"ids": ids, "update": {"tags": ["seen"]}, "merge_tags": True}
    assert (await opik.client.patch(f"{V1}/traces/batch", json=body)).status_code == 204
    found = (await opik.client.get(f"{V1}/traces/{opik.a['id']}")).json()
    assert found["tags"] == ["variant:A", "seen"]
    assert len(await opik.names()) == 3


async def test_a_deleted_trace_takes_its_spans_and_scores_along(opik: Filled) -> None:
    assert (await opik.client.delete(f"{V1}/traces/{opik.a['id']}")).status_code == 204
    assert (await opik.client.get(f"{V1}/spans/{opik.span['id']}")).status_code == 404
    assert await opik.names() == ["c", "b"]
    names = (await opik.client.get(f"{V1}/traces/feedback-scores/names")).json()["scores"]
    assert names == []
