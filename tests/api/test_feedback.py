"""What people say: stored once per person, replaced with its history, put on the trace."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from db.pool import Pool, acquire
from tests.factories import Runs


async def _send(http: httpx.AsyncClient, of: UUID, **fields: Any) -> httpx.Response:
    body = {"trace_id": str(of), "user_id": "user-1", "rating": 4.5} | fields
    # Escaped by json.dumps: httpx itself refuses to send a lone surrogate or an infinity.
    return await http.post(
        "/api/feedback", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )


async def _scores(pool: Pool, trace_id: UUID) -> dict[str, tuple[float | None, str | None]]:
    async with acquire(pool) as conn:
        rows = await conn.fetch(
            """
            SELECT payload FROM trace_outbox
             WHERE trace_id = $1 AND kind = 'score' AND payload ->> 'name' LIKE 'user_feedback.%'
            """,
            trace_id,
        )
    found = [row["payload"] for row in rows]
    return {score["name"]: (score.get("value"), score.get("reason")) for score in found}


async def test_is_stored_with_its_scores(http: httpx.AsyncClient, stored: Runs, pool: Pool) -> None:
    trace_id = await stored.finished()
    answer = await _send(http, trace_id, usefulness=True, motivation=False, comment=" Good ")
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["rating"], said["revision"], said["user_id"]) == (4.5, 1, "user-1")
    assert await _scores(pool, trace_id) == {
        "user_feedback.rating": (4.5, "Good"),
        "user_feedback.count": (1, None),
        "user_feedback.usefulness": (1, None),
        "user_feedback.motivation": (0, None),
    }


async def test_again_replaces_and_keeps_the_old(
    http: httpx.AsyncClient, stored: Runs, pool: Pool
) -> None:
    trace_id = await stored.finished("partial")
    await _send(http, trace_id)
    again = await _send(http, trace_id, rating=2)
    other = await _send(http, trace_id, user_id="user-2", rating=5)
    assert (again.status_code, again.json()["revision"]) == (200, 2)
    assert other.status_code == 201
    said = (await http.get(f"/api/runs/{trace_id}/feedback")).json()
    assert (said["count"], said["average"], said["replaced"]) == (2, 3.5, 1)
    assert [item["rating"] for item in said["items"]] == [5, 2]
    async with acquire(pool) as conn:
        old = await conn.fetchval(
            "SELECT rating FROM feedback_history WHERE trace_id = $1", trace_id
        )
    assert old == 4.5


async def test_an_answer_that_is_taken_back_is_taken_off_the_trace(
    http: httpx.AsyncClient, stored: Runs, pool: Pool
) -> None:
    trace_id = await stored.finished()
    await _send(http, trace_id, usefulness=True, motivation=False)
    await _send(http, trace_id, usefulness=True)
    scores = await _scores(pool, trace_id)
    assert scores["user_feedback.usefulness"] == (1, None)
    assert scores["user_feedback.motivation"] == (None, None)
    assert "user_feedback.clarity" not in scores  # nobody ever answered it


async def test_the_trace_shows_what_all_say_together(
    http: httpx.AsyncClient, stored: Runs, pool: Pool
) -> None:
    trace_id = await stored.finished()
    await _send(http, trace_id, user_id="a", rating=5, usefulness=True, comment="Clear")
    await _send(http, trace_id, user_id="b", rating=1, usefulness=False, clarity=True)
    await _send(http, trace_id, user_id="c", rating=4.5, usefulness=True, comment="Too tight")
    assert await _scores(pool, trace_id) == {
        "user_feedback.rating": (3.5, "Too tight"),
        "user_feedback.count": (3, None),
        "user_feedback.usefulness": (0.667, None),
        "user_feedback.clarity": (1, None),
    }
    said = (await http.get(f"/api/runs/{trace_id}/feedback")).json()
    assert said["average"] == 3.5
    assert (said["shares"]["usefulness"], said["shares"]["motivation"]) == (0.667, None)
    assert [item["user_id"] for item in said["items"]] == ["c", "b", "a"]

    # One revises, another takes an answer and the newest comment back.
    await _send(http, trace_id, user_id="b", rating=4, usefulness=True)
    await _send(http, trace_id, user_id="c", rating=4.5)
    assert await _scores(pool, trace_id) == {
        "user_feedback.rating": (4.5, "Clear"),
        "user_feedback.count": (3, None),
        "user_feedback.usefulness": (1, None),
        "user_feedback.clarity": (None, None),
    }


async def test_people_who_rate_at_once_all_count(
    http: httpx.AsyncClient, stored: Runs, pool: Pool
) -> None:
    trace_id = await stored.finished()
    ratings = [1 + number % 9 / 2 for number in range(18)]
    await asyncio.gather(
        *(
            _send(http, trace_id, user_id=f"user-{number}", rating=rating, clarity=rating > 3)
            for number, rating in enumerate(ratings)
        )
    )
    scores = await _scores(pool, trace_id)
    assert scores["user_feedback.rating"] == (3, None)
    assert scores["user_feedback.count"] == (18, None)
    assert scores["user_feedback.clarity"] == (0.444, None)


async def test_the_same_again_changes_nothing(http: httpx.AsyncClient, stored: Runs) -> None:
    trace_id = await stored.finished()
    first, again = await _send(http, trace_id), await _send(http, trace_id)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


async def test_many_at_once_are_one_person(http: httpx.AsyncClient, stored: Runs) -> None:
    trace_id = await stored.finished()
    ratings = [1 + number % 9 / 2 for number in range(18)]
    answers = await asyncio.gather(*(_send(http, trace_id, rating=each) for each in ratings))
    assert sorted(answer.status_code for answer in answers) == [200] * 17 + [201]
    said = (await http.get(f"/api/runs/{trace_id}/feedback")).json()
    assert said["count"] == 1
    assert said["items"][0]["revision"] == said["replaced"] + 1


async def test_an_unknown_trace_is_404(http: httpx.AsyncClient, pool: Pool) -> None:
    trace_id = uuid4()
    answer = await _send(http, trace_id)
    assert (answer.status_code, answer.json()["trace_id"]) == (404, str(trace_id))
    assert (await http.get(f"/api/runs/{trace_id}/feedback")).status_code == 404
    assert await _scores(pool, trace_id) == {}


@pytest.mark.parametrize("status", ["refused", "failed", "cancelled", "terminated", "timed_out"])
async def test_without_a_result_there_is_nothing_to_rate(
    http: httpx.AsyncClient, stored: Runs, status: Any
) -> None:
    trace_id = await stored.finished(status, drafts=())
    answer = await _send(http, trace_id)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "NOT_READY")
    assert problem["cure"].startswith("repeat")
    assert problem["trace_id"] == str(trace_id)


async def test_an_open_run_cannot_be_rated_yet(http: httpx.AsyncClient, stored: Runs) -> None:
    answer = await _send(http, await stored.accepted())
    assert answer.status_code == 409
    assert answer.json()["cure"].startswith("wait")


@pytest.mark.parametrize(
    "fields",
    [
        {"rating": 0.5},
        {"rating": 5.5},
        {"rating": 4.25},
        {"rating": "NaN"},
        {"rating": 1e400},
        {"rating": None},
        {"trace_id": "not-one"},
        {"usefulness": "perhaps"},
        {"comment": "x" * 2001},
        {"comment": "\x00"},
        {"comment": "\ud800"},
        {"user_id": ""},
        {"score": 5},
    ],
)
async def test_wrong_values_are_422(
    http: httpx.AsyncClient, stored: Runs, fields: dict[str, Any]
) -> None:
    answer = await _send(http, await stored.finished(), **fields)
    assert answer.status_code == 422, answer.text
