"""What a user of the real opik client does, from start to end; prints what it read back as JSON.

Run by test_opik_sdk.py in a process of its own: importing opik takes seconds, warns, and starts
threads.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import opik
from opik.evaluation import evaluate
from opik.evaluation.metrics import base_metric, score_result
from opik.rest_api.core.api_error import ApiError
from opik.types import LLMProvider

PROJECT = "rein"
START = datetime.now(UTC) - timedelta(minutes=5)


class HasPlan(base_metric.BaseMetric):
    """1 when the answer names a plan."""

    def score(self, output: str, **ignored: Any) -> score_result.ScoreResult:
        return score_result.ScoreResult(name=self.name, value=float("plan" in output), reason="why")


def tracing(client: opik.Opik) -> dict[str, Any]:
    trace = client.trace(
        name="goal_generation_pipeline",
        input={"goal": "run 5k"},
        start_time=START,
        metadata={"user_id": "user_abc", "temporal.workflow_id": "wf-1"},
        tags=["prompt:generate:v1"],
        thread_id="talk-1",
    )
    stage = trace.span(name="generation_stage", start_time=START)
    stage.span(
        name="llm_call_generation",
        type="llm",
        provider=LLMProvider.GOOGLE_AI,
        model="gemini-2.0-flash",
        start_time=START,
        end_time=START + timedelta(seconds=1),
        usage={"prompt_tokens": 512, "completion_tokens": 456, "total_tokens": 968},
        total_cost=0.0001752,
    )
    client.flush()
    stage.end(end_time=START + timedelta(seconds=1.2), output={"ok": True})
    trace.end(end_time=START + timedelta(seconds=3.2), output={"title": "12 weeks"})
    trace.log_feedback_score("evaluation_logged.overall", 8.2, reason="clear")
    client.log_traces_feedback_scores(
        [{"id": trace.id, "name": "user_feedback.rating", "value": 4.5, "reason": "Great"}],
        project_name=PROJECT,
    )
    client.flush()
    found = client.get_trace_content(trace.id)
    spans = client.search_spans(project_name=PROJECT, trace_id=trace.id)
    by_tag = 'tags contains "generate" and feedback_scores."user_feedback.rating" > 4'
    by_key = 'metadata."temporal.workflow_id" = "wf-1" and duration >= 3000'
    return {
        "id": trace.id,
        "duration": found.duration,
        "cost": found.total_estimated_cost,
        "usage": found.usage,
        "scores": {each.name: each.value for each in found.feedback_scores or []},
        "spans": sorted(span.name or "" for span in spans),
        "by_tag": [t.id for t in client.search_traces(project_name=PROJECT, filter_string=by_tag)],
        "by_key": [t.id for t in client.search_traces(project_name=PROJECT, filter_string=by_key)],
        "none": client.search_traces(project_name=PROJECT, filter_string='name = "other"'),
    }


def prompts(client: opik.Opik) -> dict[str, Any]:
    first = client.create_prompt(name="generate", prompt="Plan {{goal}}", metadata={"v": 1})
    second = client.create_prompt(name="generate", prompt="A better plan for {{goal}}")
    same = client.create_prompt(name="generate", prompt="A better plan for {{goal}}")
    pinned = client.get_prompt(name="generate", commit=first.commit)
    latest = client.get_prompt(name="generate")
    assert pinned is not None
    assert latest is not None
    return {
        "same": same.commit == second.commit,
        "pinned": pinned.prompt,
        "latest": latest.format(goal="sleep"),
        "history": len(client.get_prompt_history(name="generate")),
        "missing": client.get_prompt(name="nobody"),
    }


def experiments(client: opik.Opik) -> dict[str, Any]:
    dataset = client.get_or_create_dataset("low-scoring", description="below 6")
    dataset.insert([{"input": "run 5k"}, {"input": "read"}, {"input": "gone"}])
    gone = next(item for item in dataset.get_items() if item["input"] == "gone")
    dataset.delete([gone["id"]])

    def task(item: dict[str, Any]) -> dict[str, Any]:
        return {"output": f"a plan to {item['input']}" if item["input"] == "read" else "no"}

    result = evaluate(
        dataset=dataset,
        task=task,
        scoring_metrics=[HasPlan(name="has_plan", track=False)],
        experiment_name="generate-v2",
        project_name=PROJECT,
        prompts=[client.create_prompt(name="generate", prompt="A better plan for {{goal}}")],
        verbose=0,
        task_threads=1,
    )
    client.flush()
    experiment = client.get_experiment_by_id(result.experiment_id)
    items = experiment.get_items()
    public = client.rest_client.experiments.get_experiment_by_id(result.experiment_id)
    return {
        "items": sorted(item["input"] for item in dataset.get_items()),
        "name": experiment.name,
        "scores": sorted(s["value"] for item in items for s in item.feedback_scores),
        "average": {s.name: s.value for s in public.feedback_scores or []},
        "traces": public.trace_count,
        "status": public.status,
        "prompts": [link.prompt_name for link in public.prompt_versions or []],
        "found": [
            e.id == result.experiment_id for e in client.get_experiments_by_name("generate-v2")
        ],
    }


def projects(client: opik.Opik) -> dict[str, Any]:
    project = client.rest_client.projects.retrieve_project(name=PROJECT)
    try:
        client.rest_client.projects.retrieve_project(name="nobody")
        missing = 200
    except ApiError as error:
        missing = error.status_code or 0
    return {"name": project.name, "missing": missing}


def main() -> None:
    client = opik.Opik(project_name=PROJECT)
    report = {
        "tracing": tracing(client),
        "prompts": prompts(client),
        "experiments": experiments(client),
        "projects": projects(client),
    }
    client.end()
    Path(sys.argv[1]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
