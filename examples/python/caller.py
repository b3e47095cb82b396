"""A backend service: sends a goal, watches it, lists, cancels, rates; every error is a Problem."""

import json
import os
from typing import TypeVar
from uuid import UUID, uuid4

from httpx import Timeout
from rein_client import AuthenticatedClient
from rein_client.api.feedback import send_feedback
from rein_client.api.goals import create_goal, list_goals, read_goal
from rein_client.api.runs import cancel_run
from rein_client.models import FeedbackSubmission, GoalSubmission, Problem, RunEvent

T = TypeVar("T")
URL, KEY = os.environ["REIN_URL"], os.environ["REIN_KEY"]
rein = AuthenticatedClient(URL, KEY, timeout=Timeout(60))


def good(answer: T | Problem | None) -> T:
    if answer is None or isinstance(answer, Problem):
        raise SystemExit(str(answer))
    return answer


def refused(answer: object) -> None:
    if not isinstance(answer, Problem):
        raise SystemExit(f"expected a Problem, came {answer}")
    print(f"refused   {answer.status} {answer.code}")


def watch(trace_id: UUID) -> None:
    path = f"/api/runs/{trace_id}/events"  # a stream: the generated function reads it to its end
    with rein.get_httpx_client().stream("GET", path, timeout=None) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = RunEvent.from_dict(json.loads(line.removeprefix("data: ")))
                print(f"event     {event.seq} {event.kind}: {event.message}")


goal = GoalSubmission(goal="I want to run a 5K by end of Q1", user_id="user-42")
once = uuid4().hex  # the same key again finds the same run
run = good(create_goal.sync(client=rein, body=goal, idempotency_key=once))
watch(run.trace_id)
done = good(read_goal.sync(run.trace_id, client=rein))
print(f"done      {done.status} {done.quality_score} {done.title}")
again = create_goal.sync_detailed(client=rein, body=goal, idempotency_key=once, prefer="wait=30")
print(f"again     {again.status_code:d} replayed={again.headers['Idempotent-Replayed']}")
page = good(list_goals.sync(client=rein, user_id="user-42", limit=5))
print(f"listed    {run.trace_id in [item.trace_id for item in page.items]}")
rating = FeedbackSubmission(run.trace_id, "user-42", 4.5, clarity=True, comment="Clear steps")
print(f"rated     {good(send_feedback.sync(client=rein, body=rating)).rating}")

other = good(create_goal.sync(client=rein, body=goal))
print(f"cancelled {good(cancel_run.sync(other.trace_id, client=rein)).trace_id == other.trace_id}")
refused(list_goals.sync(client=AuthenticatedClient(URL, f"{KEY}0")))
refused(read_goal.sync(uuid4(), client=rein))
refused(cancel_run.sync(run.trace_id, client=rein))
refused(create_goal.sync(client=rein, body=GoalSubmission("", "user-42")))
