"""The list of traces: its rows, filters, order and pages."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx

from tests.devstack.opik_house import NOW, at, page, score, send, span, text, trace


async def test_a_row_has_status_duration_score_cost_and_age(opik: httpx.AsyncClient) -> None:
    began = datetime.now(UTC)  # not NOW: on a slow machine that is no longer "Just now"
    times = {"start_time": began.isoformat(), "last_updated_at": began.isoformat()}
    more = {"input": '{"goal": "run a 5K"}', "metadata": {"user_id": "user_abc"}}
    one = trace(**times, **more, end_time=(began + timedelta(seconds=3.2)).isoformat())
    await send(opik, "spans", span(one["id"], type="llm", total_estimated_cost=0.00038738))
    await send(opik, "traces", one)
    await score(opik, one["id"], "evaluation_logged.overall", 8.2)
    seen = text(await page(opik, "/"))
    row = "goal_generation_pipeline user_abc run a 5K ✓ Success 3.2 s 8.2 /10 $0.000387 Just now"
    assert row in seen


FOUND: list[tuple[dict[str, object], set[str]]] = [
    ({}, {"good", "bad", "open"}),
    ({"status": "failed"}, {"bad"}),
    ({"status": "running"}, {"open"}),
    ({"score": "good"}, {"good"}),
    ({"score": "none"}, {"bad", "open"}),
    ({"score": "low"}, set()),
    ({"search": "quota"}, {"bad"}),
    ({"search": "%"}, set()),
    ({"date": "day"}, {"good", "open"}),
    ({"score": "nonsense", "page": "x"}, {"good", "bad", "open"}),
    ({"page": "²"}, {"good", "bad", "open"}),
    ({"page": 99}, {"good", "bad", "open"}),
    ({"status": "failed", "date": "week", "search": "quota"}, {"bad"}),
    ({"status": "failed", "date": "day", "search": "quota"}, set()),
]


async def test_filters(opik: httpx.AsyncClient) -> None:
    old = (NOW - timedelta(days=3)).isoformat()
    error = {"exception_type": "RATE_LIMITED", "message": "over quota", "traceback": ""}
    good = trace(name="good", end_time=at(3))
    bad = trace(name="bad", error_info=error, start_time=old, end_time=old)
    await send(opik, "traces", good, bad, trace(name="open"))
    await score(opik, good["id"], "evaluation_logged.overall", 8)
    for query, found in FOUND:
        html = await page(opik, "/traces", **query)
        assert set(re.findall(r'class="what"><a href="[^"]+">(\w+)<', html)) == found, query


async def test_filters_stay_when_the_page_turns(opik: httpx.AsyncClient) -> None:
    await send(opik, "traces", *(trace() for _ in range(30)))
    first = await page(opik, "/traces", status="running", search="pipeline")
    assert "1 to 25 of 30" in text(first)
    older = re.search(r'rel="next" href="([^"]+status=running&amp;search=pipeline[^"]+)"', first)
    assert older
    assert "26 to 30 of 30" in text(await page(opik, unescape(older[1])))
