"""POST, GET, list and cancel of goals, as a backend service calls them."""

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
import yaml

from api import accepting, answers
from api.accepting import Sent
from api.app import Api
from db.pool import Pool, acquire
from db.runs import select_found_run
from domain.errors import Unavailable
from domain.goals import GoalSubmission, SubmittedContext
from domain.plans import weekday
from domain.runs import pseudonym
from tests.factories import Runs

from .conftest import operations


class _In2100(datetime):
    """Half past ten in the morning of UTC's New Year."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_In2100":
        return cls(2100, 1, 1, 10, 30, tzinfo=tz)


class _ContextOfTheNextRelease(SubmittedContext):
    mood: str | None = None


class _OfTheNextRelease(GoalSubmission):
    context: _ContextOfTheNextRelease | None = None
    mood: str = "calm"


INJECTIONS = yaml.safe_load(
    (Path(__file__).parents[1] / "prompts" / "injections.yaml").read_text(encoding="utf-8")
)
BODY = {"goal": "I want to run a 5K by end of Q1", "user_id": "user-42"}


async def _post(http: httpx.AsyncClient, body: Any = BODY, **headers: str) -> httpx.Response:
    return await http.post("/api/goals", json=body, headers=headers)


class TestCreate:
    async def test_accepts_and_stores_everything_in_one_go(
        self, http: httpx.AsyncClient, pool: Pool
    ) -> None:
        answer = await _post(http)
        assert answer.status_code == 202, answer.text
        run = answer.json()
        trace_id = run["trace_id"]
        assert run["status"] == "accepted"
        assert run["plan"] is None
        assert UUID(trace_id).version == 7
        assert answer.headers["location"] == f"http://rein.test/api/goals/{trace_id}"
        assert run["links"]["trace"] == f"http://rein.test/api/runs/{trace_id}/trace"
        assert run["links"]["workflow"].endswith(f"/workflows/goal_generation-{trace_id}")
        async with acquire(pool) as conn:
            stored = await conn.fetchrow(
                """
                SELECT g.goal, r.user_id, r.pseudonym, r.request, e.kind, o.payload
                  FROM runs r
                  JOIN goals g USING (trace_id)
                  JOIN run_events e USING (trace_id)
                  JOIN trace_outbox o USING (trace_id)
                 WHERE r.trace_id = $1
                """,
                UUID(trace_id),
            )
        assert stored is not None
        assert stored["goal"] == BODY["goal"]
        assert stored["user_id"] == "user-42"
        assert stored["pseudonym"] == pseudonym("local/user-42", "rein-local")
        assert stored["kind"] == "accepted"
        assert stored["payload"]["name"] == "goal_generation_pipeline"
        for shared in (stored["request"], stored["payload"]):
            assert "user-42" not in str(shared)

    async def test_one_key_is_one_run_even_at_once(self, http: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": uuid4().hex}
        answers = await asyncio.gather(*(_post(http, **key) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["trace_id"] for answer in answers}) == 1
        replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
        assert replayed.count("true") == 19

    async def test_a_key_with_another_body_is_refused(self, http: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": uuid4().hex}
        first = await _post(http, **key)
        answer = await _post(http, BODY | {"goal": "Learn the cello"}, **key)
        assert answer.status_code == 422
        assert answer.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        assert answer.json()["trace_id"] == first.json()["trace_id"]

    async def test_a_key_is_free_again_when_it_has_expired(
        self, http: httpx.AsyncClient, pool: Pool
    ) -> None:
        key = uuid4().hex
        first = await _post(http, **{"Idempotency-Key": key})
        async with acquire(pool) as conn:
            await conn.execute(
                "UPDATE idempotency_keys SET expires_at = now() - interval '1 s' WHERE key = $1",
                key,
            )
        second = await _post(http, BODY | {"goal": "Learn the cello"}, **{"Idempotency-Key": key})
        third = await _post(http, BODY | {"goal": "Learn the cello"}, **{"Idempotency-Key": key})
        assert second.status_code == third.status_code == 202
        assert second.json()["trace_id"] == third.json()["trace_id"] != first.json()["trace_id"]

    def test_a_field_that_a_release_adds_makes_no_other_request(self) -> None:
        """A retry may meet the next release; what it sends is what it sent before."""
        before, after = (
            Sent(
                "/api/goals", model.model_validate(BODY | {"context": {"experience": "None"}}), "k"
            )
            for model in (GoalSubmission, _OfTheNextRelease)
        )
        assert before.fingerprint == after.fingerprint
        other = Sent("/api/goals", GoalSubmission.model_validate(BODY), "k")
        assert other.fingerprint != before.fingerprint

    @pytest.mark.parametrize(
        "body",
        [
            BODY | {"locale": None, "context": None},
            BODY | {"context": {"experience": None, "deadline": None}},
        ],
    )
    async def test_null_is_left_out(self, http: httpx.AsyncClient, body: dict[str, Any]) -> None:
        """Typed clients send a null for what they have not."""
        answer = await _post(http, body)
        assert answer.status_code == 202, answer.text
        plain = (await _post(http)).json()
        assert answer.json()["locale"] == plain["locale"]
        assert answer.json()["context"] == plain["context"]

    async def test_a_repeated_request_may_come_after_its_deadline(
        self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = {"Idempotency-Key": uuid4().hex}
        body = BODY | {"context": {"deadline": "2099-12-31"}}
        first = await _post(http, body, **key)
        monkeypatch.setattr(accepting, "datetime", _In2100)
        again, late = await _post(http, body, **key), await _post(http, body)
        assert (again.status_code, again.json()["trace_id"]) == (202, first.json()["trace_id"])
        assert late.status_code == 422
        assert late.json()["detail"].startswith("body.context.deadline")

    async def test_a_refused_deadline_leaves_nothing(
        self, http: httpx.AsyncClient, pool: Pool
    ) -> None:
        user = uuid4().hex
        body = BODY | {"user_id": user, "context": {"deadline": "2020-01-01"}}
        assert (await _post(http, body)).status_code == 422
        async with acquire(pool) as conn:
            assert not await conn.fetchval("SELECT count(*) FROM runs WHERE user_id = $1", user)

    async def test_a_replay_of_an_ended_run_answers_its_result(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        key = {"Idempotency-Key": uuid4().hex}
        trace_id = UUID((await _post(http, **key)).json()["trace_id"])
        async with acquire(stored.pools.operations) as conn:
            await conn.execute(
                "UPDATE runs SET status = 'cancelled', finished_at = now() WHERE trace_id = $1",
                trace_id,
            )
        answer = await _post(http, **key)
        assert answer.status_code == 200
        assert answer.json()["status"] == "cancelled"

    async def test_waits_for_the_end_when_asked(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        key = {"Idempotency-Key": uuid4().hex}
        trace_id = UUID((await _post(http, **key)).json()["trace_id"])
        waiting = asyncio.create_task(_post(http, Prefer="wait=30", **key))
        async with acquire(stored.pools.operations) as conn, conn.transaction():
            await conn.execute(
                "UPDATE runs SET status = 'refused', finished_at = now() WHERE trace_id = $1",
                trace_id,
            )
        await stored.event(trace_id, "end", "finished")
        answer = await waiting
        assert answer.status_code == 200
        assert answer.headers["preference-applied"] == "wait=30"

    async def test_what_was_accepted_is_named_when_it_cannot_be_shown(
        self, http: httpx.AsyncClient, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def away(*_: object) -> None:
            raise Unavailable("PostgreSQL is away", retry_after=1)

        monkeypatch.setattr(answers, "show_goal", away)
        answer = await _post(http)
        problem = answer.json()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert problem["cure"].endswith(f"/api/goals/{problem['trace_id']}")
        async with acquire(pool) as conn:
            assert await select_found_run(conn, "local", UUID(problem["trace_id"]))

    @pytest.mark.parametrize(
        "sent",
        [
            ["respond-async, wait=0"],
            ["respond-async", "wait=0"],
            ["wait=0; foo=bar"],
            ['handling=lenient; wait=9, WAIT = "0"'],
        ],
    )
    async def test_a_wait_that_is_too_short_answers_202(
        self, http: httpx.AsyncClient, sent: list[str]
    ) -> None:
        answer = await http.post(
            "/api/goals", json=BODY, headers=[("Prefer", value) for value in sent]
        )
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=0"

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"goal": ""}, "body.goal"),
            ({"goal": " " * 10}, "body.goal"),
            ({"goal": "a\x00bcd"}, "body.goal"),
            ({"goal": "x" * 4001}, "body.goal"),
            ({"goal": 7}, "body.goal"),
            ({"user_id": "two words"}, "body.user_id"),
            ({"surprise": 1}, "body.surprise"),
            ({"locale": "EN_us"}, "body.locale"),
            ({"context": {"hours_per_week": 1e300}}, "body.context.hours_per_week"),
            ({"context": {"deadline": "2020-01-01"}}, "body.context.deadline"),
            ({"context": {"experience": "\x00"}}, "body.context.experience"),
            ({"goal": "\u200b\u200b\u200b\u200b\u200b"}, "body.goal"),
            ({"goal": "a\u200b\u2060"}, "body.goal"),
            ({"time_zone": "Mars/Olympus"}, "body.time_zone"),
            ({"context": {"hours_per_week": 0.05}}, "body.context.hours_per_week"),
            ({"context": {"rest_days": ["Someday"]}}, "body.context.rest_days"),
            (
                {"context": {"rest_days": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]}},
                "body.context.rest_days",
            ),
        ],
    )
    async def test_what_does_not_fit_is_named(
        self, http: httpx.AsyncClient, change: dict[str, Any], where: str
    ) -> None:
        answer = await _post(http, BODY | change)
        problem = answer.json()
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["detail"].startswith(where)
        assert problem["cure"]

    @pytest.mark.parametrize("wait", ["wait=soon", "wait=", "wait=-1", "wait=²"])
    async def test_a_wait_must_be_seconds(self, http: httpx.AsyncClient, wait: str) -> None:
        answer = await http.post(
            "/api/goals", json=BODY, headers=[(b"Prefer", wait.encode("latin-1"))]
        )
        assert answer.status_code == 422

    @pytest.mark.parametrize("goal", ["戒烟", "5K", "नि" * 4000])
    async def test_what_can_be_read_is_accepted(self, http: httpx.AsyncClient, goal: str) -> None:
        answer = await _post(http, BODY | {"goal": goal})
        assert answer.status_code == 202, answer.text
        assert answer.json()["goal"] == goal

    async def test_without_a_locale_nothing_is_made_of_it(
        self, http: httpx.AsyncClient, pool: Pool
    ) -> None:
        run = (await _post(http)).json()
        assert (run["locale"], run["time_zone"]) == (None, None)
        async with acquire(pool) as conn:
            request = await conn.fetchval(
                "SELECT request FROM runs WHERE trace_id = $1", UUID(run["trace_id"])
            )
        assert request["locale"] is None

    @pytest.mark.parametrize("time_zone", [None, "Pacific/Kiritimati", "Pacific/Pago_Pago"])
    async def test_today_and_deadlines_are_where_the_person_is(
        self, http: httpx.AsyncClient, pool: Pool, time_zone: str | None
    ) -> None:
        today = datetime.now(ZoneInfo(time_zone) if time_zone else UTC).date()
        body = BODY | {"time_zone": time_zone}
        late = await _post(http, body | {"context": {"deadline": str(today)}})
        assert (late.status_code, f"today ({today})" in late.json()["detail"]) == (422, True)
        tomorrow = today + timedelta(days=1)
        answer = await _post(http, body | {"context": {"deadline": str(tomorrow)}})
        assert answer.status_code == 202, answer.text
        async with acquire(pool) as conn:
            request = await conn.fetchval(
                "SELECT request FROM runs WHERE trace_id = $1", UUID(answer.json()["trace_id"])
            )
        assert (request["today"], request["time_zone"]) == (str(today), time_zone)

    async def test_limits_that_leave_no_day_are_refused_with_a_cure(
        self, http: httpx.AsyncClient
    ) -> None:
        today = datetime.now(UTC).date()
        tomorrow = today + timedelta(days=1)
        rest = [weekday(today), weekday(tomorrow)]
        context = {"deadline": str(tomorrow), "rest_days": rest}
        problem = (await _post(http, BODY | {"context": context})).json()
        assert problem["status"] == 422
        assert problem["detail"].startswith("body.context.rest_days: expected a day for tasks")
        assert problem["cure"]
        open_day = context | {"rest_days": rest[:1]}
        assert (await _post(http, BODY | {"context": open_day})).status_code == 202

    async def test_no_text_changes_what_a_run_is_made_with(self, http: httpx.AsyncClient) -> None:
        usual = (await _post(http)).json()["manifest"]
        for text in INJECTIONS["breaks_out"] + INJECTIONS["stays_in"]:
            run = (await _post(http, BODY | {"goal": text})).json()
            assert (run["goal"], run["manifest"]) == (text, usual)


class TestRead:
    async def test_a_revised_run_shows_both_drafts_and_keeps_the_better(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.finished(drafts=(5.0, 7.5))
        run = (await http.get(f"/api/goals/{trace_id}")).json()
        assert run["status"] == "success"
        assert run["quality_score"] == 7.5
        assert run["resolution"]["draft"] == 2
        assert [draft["kept"] for draft in run["drafts"]] == [False, True]
        assert run["plan"]["weeks"][0]["tasks"][0]["date"] == "2027-01-04"
        assert run["cost_usd"] == "0"

    async def test_what_may_have_been_spent_is_in_the_bill_and_told_apart(
        self, api: Api, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        await stored.call(trace_id, reserved_usd=Decimal("0.004"))
        under_way = (await http.get(f"/api/goals/{trace_id}")).json()
        await stored.end(trace_id, "terminated")
        ended = (await http.get(f"/api/runs/{trace_id}")).json()
        items = (await http.get("/api/runs", params={"limit": 100})).json()["items"]
        listed = next(item for item in items if item["trace_id"] == str(trace_id))
        for run in (under_way, ended):
            assert (run["cost_usd"], run["unknown_calls"]) == ("0.004", 1)
        assert under_way["cost_unknown_usd"] == ended["cost_unknown_usd"] == "0.004"
        assert (listed["cost_usd"], listed["cost_unknown_usd"]) == ("0.004", "0.004")
        async with operations(api) as client:
            metrics = (await client.get("/metrics")).text
        assert "rein_unknown_calls 1.0" in metrics
        assert "rein_cost_unknown_usd 0.004" in metrics

    async def test_a_call_of_a_model_without_a_price_makes_no_sum(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        await stored.call(trace_id, reserved_usd=None)
        run = (await http.get(f"/api/goals/{trace_id}")).json()
        assert (run["cost_usd"], run["unknown_calls"]) == (None, 1)

    async def test_a_failed_run_says_why(self, http: httpx.AsyncClient, stored: Runs) -> None:
        trace_id = await stored.finished("failed", drafts=())
        run = (await http.get(f"/api/goals/{trace_id}")).json()
        assert run["error"] == {"code": "OUTPUT_TRUNCATED", "message": "The answer was cut"}
        assert run["resolution"] is None

    async def test_a_refused_goal_says_why(self, http: httpx.AsyncClient, stored: Runs) -> None:
        trace_id = await stored.finished("refused", drafts=(), verdict="harmful")
        run = (await http.get(f"/api/goals/{trace_id}")).json()
        assert run["refusal"] == "Rein cannot help with this"

    async def test_refusals_are_listed_by_who_refused(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        crisis = await stored.finished("refused", drafts=(), refusal_code="CRISIS")
        await stored.finished("refused", drafts=(), refusal_code="NOT_A_GOAL")
        for path in ("goals", "runs"):
            answer = await http.get(f"/api/{path}", params={"refusal_code": "CRISIS"})
            found = [(item["trace_id"], item["refusal_code"]) for item in answer.json()["items"]]
            assert found == [(str(crisis), "CRISIS")]
        assert (await http.get("/api/runs", params={"refusal_code": "MOOD"})).status_code == 422

    async def test_resolution_and_plan_by_their_own_ids(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.finished()
        run = (await http.get(f"/api/goals/{trace_id}")).json()
        resolution = await http.get(f"/api/resolutions/{run['resolution']['resolution_id']}")
        plan = await http.get(f"/api/plans/{run['plan']['plan_id']}")
        assert resolution.json()["title"] == run["resolution"]["title"]
        assert plan.json()["trace_id"] == str(trace_id)

    @pytest.mark.parametrize("path", ["goals", "resolutions", "plans"])
    async def test_an_unknown_id_is_404_and_a_wrong_one_422(
        self, http: httpx.AsyncClient, path: str
    ) -> None:
        missing = await http.get(f"/api/{path}/{uuid4()}")
        wrong = await http.get(f"/api/{path}/42")
        assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
        assert (wrong.status_code, wrong.json()["code"]) == (422, "INVALID_REQUEST")


class TestCancel:
    async def test_an_ended_run_cannot_be_cancelled(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.finished()
        answer = await http.post(f"/api/runs/{trace_id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "ALREADY_FINISHED")
        assert answer.json()["trace_id"] == str(trace_id)

    async def test_while_temporal_is_away_it_says_so(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        trace_id = await stored.accepted()
        answer = await http.post(f"/api/runs/{trace_id}/cancel")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "3"

    async def test_an_unknown_run_is_404(self, http: httpx.AsyncClient) -> None:
        assert (await http.post(f"/api/runs/{uuid4()}/cancel")).status_code == 404
