"""The run card: what the Temporal UI shows of a run, in words, and the attributes it lists by."""

from types import TracebackType
from typing import Self

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from domain.goals import GoalOutcome, GoalRequest
    from domain.runs import RunStatus, Stage
    from workflows.options import SCORE, STATUS


class RunCard:
    """Live details while the run is under way; status and score as search attributes at its end."""

    def __init__(self, request: GoalRequest) -> None:
        self._request = request

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            status: RunStatus = "cancelled" if is_cancelled_exception(error) else "failed"
            workflow.upsert_search_attributes([STATUS.value_set(status)])
            self._show(f"Ended: {status} ({failure_code(error)})")

    def at(self, stage: Stage, doing: str) -> None:
        """Say what the run is doing now."""
        self._show(f"{doing} (stage `{stage}`)")

    def done(self, outcome: GoalOutcome) -> GoalOutcome:
        """Say how the run ended, and list it by its status and score."""
        updates = [STATUS.value_set(outcome.status)]
        if outcome.quality_score is not None:
            workflow.upsert_search_attributes([*updates, SCORE.value_set(outcome.quality_score)])
        else:
            workflow.upsert_search_attributes(updates)
        self._show(_ending(outcome))
        return outcome

    def _show(self, headline: str) -> None:
        request = self._request
        prompts = ", ".join(
            f"{stage} v{ref.version}" for stage, ref in request.manifest.prompts.items()
        )
        lines = [
            f"**{headline}**",
            f"- Goal: {_excerpt(request.goal)}",
            f"- For: `{request.user}`",
            f"- Trace: {workflow.memo_value('trace_url', str(request.trace_id))}",
            f"- Made with: {request.manifest.model}; {prompts}",
        ]
        workflow.set_current_details("\n".join(lines))


def failure_code(error: BaseException) -> str:
    """The code an error is counted under: the innermost type that Rein or Temporal gave it."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError):
        return cause.type or "FAILED"
    if isinstance(cause, TimeoutError):
        return "TIMED_OUT"
    return "CANCELLED" if cause and is_cancelled_exception(cause) else type(cause).__name__


def _ending(outcome: GoalOutcome) -> str:
    if outcome.status == "refused":
        return f"Refused: {outcome.refusal_reason}"
    score = (
        f"{outcome.quality_score}/10 {outcome.quality_status}"
        if outcome.evaluation_id
        else "no score"
    )
    missing = "".join(f"; no {stage}: {code}" for stage, code in outcome.missing.items())
    return f"Done: {outcome.title} ({score}{missing})"


def _excerpt(goal: str) -> str:
    line = " ".join(goal.split())
    return line if len(line) <= 120 else f"{line[:119]}…"
