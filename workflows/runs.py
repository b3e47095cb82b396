"""The run card: what the Temporal UI shows of a run, in words, and the attributes it lists by."""

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from activities.stage import StageSpec
    from domain.runs import RunOutcome, RunRequest, RunStatus
    from workflows.options import SCORE, STATUS


Outcome = TypeVar("Outcome", bound=RunOutcome)


class RunCard:
    """Live details while the run is under way; status and score as search attributes at its end."""

    def __init__(self, request: RunRequest) -> None:
        self._request = request

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        status: RunStatus = "cancelled" if is_cancellation(error) else "failed"
        workflow.upsert_search_attributes([STATUS.value_set(status)])
        self._show(f"Ended: {status} ({failure_code(error)})")
        if status == "cancelled" and not is_cancelled_exception(error):
            raise asyncio.CancelledError from error

    def at(self, *stages: StageSpec[Any, Any, Any]) -> None:
        """Say what the run is doing now."""
        doing = " and ".join(stage.doing for stage in stages)
        names = ", ".join(f"`{stage.name}`" for stage in stages)
        self._show(f"{doing[0]}{doing[1:].lower()} (stage {names})")

    def done(self, outcome: Outcome) -> Outcome:
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
            f"- About: {request.about}",
            f"- For: `{request.user}`",
            f"- Trace: {workflow.memo_value('trace_url', str(request.trace_id))}",
            f"- Made with: {request.manifest.model}; {prompts}",
        ]
        workflow.set_current_details("\n".join(lines))


def is_cancellation(error: BaseException) -> bool:
    """Whether the run stops because somebody asked it to.

    A stage that fails after that is not tried again by the server, so its failure is the
    cancellation, too.
    """
    stopping = workflow.cancellation_reason() is not None and isinstance(error, ActivityError)
    return stopping or is_cancelled_exception(error)


def failure_code(error: BaseException) -> str:
    """The code an error is counted under: the innermost type that Rein or Temporal gave it."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError):
        return cause.type or "FAILED"
    if isinstance(cause, TimeoutError):
        return "TIMED_OUT"
    return "CANCELLED" if cause and is_cancelled_exception(cause) else type(cause).__name__


def _ending(outcome: RunOutcome) -> str:
    if outcome.status == "refused":
        return f"Refused: {outcome.refusal_reason}"
    score = "no score" if outcome.quality_score is None else f"{outcome.quality_score}/10"
    missing = "".join(f"; no {stage}: {code}" for stage, code in outcome.missing.items())
    return f"Done: {outcome.title} ({score}{missing})"
