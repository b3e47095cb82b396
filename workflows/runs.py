"""What the Temporal UI shows of a run: a text about its progress, and its search attributes."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from activities.stage import StageSpec
    from domain.runs import RunOutcome, RunRequest, RunStatus
    from domain.text import as_markdown
    from workflows.options import COST, ERROR, SCORE, STAGE, STATUS


Outcome = TypeVar("Outcome", bound=RunOutcome)
Update = SearchAttributeUpdate[Any]


class RunCard:
    """Shows a run's progress in the Temporal UI.

    It sets the workflow's current details during the run, and its status and score as search
    attributes at the end. It is a context manager, so that it also sees errors and cancellation.
    """

    def __init__(self, request: RunRequest) -> None:
        self._request = request
        # A run that an earlier release started has no such attribute, and must replay as it did.
        self._lists_stages = workflow.info().typed_search_attributes.get(STAGE) is not None

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
        code = failure_code(error)
        updates: list[Update] = [STATUS.value_set(status)]
        if self._lists_stages and status == "failed":
            updates.append(ERROR.value_set(code))
        workflow.upsert_search_attributes(updates)
        self._show(f"Ended: {status} ({code})")
        if status == "cancelled" and not is_cancelled_exception(error):
            raise asyncio.CancelledError from error

    def at(self, *stages: StageSpec[Any, Any, Any]) -> None:
        """Show the stages that the run is at now."""
        # If a stage ends by itself before it hears of a cancellation, the SDK returns its result
        # and takes the cancellation back. So the run stops here, before it pays for another stage.
        if workflow.cancellation_reason() is not None and workflow.patched("cancel-between-stages"):
            raise asyncio.CancelledError
        doing = " and ".join(stage.doing for stage in stages)
        names = [stage.name for stage in stages]
        if self._lists_stages:
            workflow.upsert_search_attributes([STAGE.value_set(names)])
        shown = ", ".join(f"`{name}`" for name in names)
        self._show(f"{doing[0]}{doing[1:].lower()} (stage {shown})")

    def done(self, outcome: Outcome) -> Outcome:
        """Show how the run ended, and set its status, score and error as search attributes."""
        updates: list[Update] = [STATUS.value_set(outcome.status)]
        if outcome.quality_score is not None:
            updates.append(SCORE.value_set(outcome.quality_score))
        if self._lists_stages:
            updates.append(STAGE.value_unset())
            updates += [ERROR.value_set(code) for code in [*outcome.missing.values()][:1]]
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
            "",  # without it the lines below are no list, but one paragraph
            f"- About: {as_markdown(request.about)}",
            f"- For: `{request.user}`",
            f"- Trace: {workflow.memo_value('trace_url', str(request.trace_id))}",
            f"- Made with: {request.manifest.model}; {prompts}",
        ]
        workflow.set_current_details("\n".join(lines))


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an error is the consequence of the run's cancellation.

    Once a cancellation is requested, Temporal does not retry a stage that fails, so the failure of
    a stage counts as the cancellation, too.
    """
    stopping = workflow.cancellation_reason() is not None and isinstance(error, ActivityError)
    return stopping or is_cancelled_exception(error)


def failure_code(error: BaseException) -> str:
    """Return the error code of a failed activity or run.

    It is the type of Rein's own error, TIMED_OUT, CANCELLED, or the class name of another error.
    """
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError):
        return cause.type or "FAILED"
    if isinstance(cause, TimeoutError):
        return "TIMED_OUT"
    return "CANCELLED" if cause and is_cancelled_exception(cause) else type(cause).__name__


def list_cost(recorded: Mapping[str, Any]) -> None:
    """Set a run's cost as a search attribute, once its end is recorded and the cost is known."""
    if recorded["cost_usd"] is not None:
        workflow.upsert_search_attributes([COST.value_set(recorded["cost_usd"])])


def _ending(outcome: RunOutcome) -> str:
    if outcome.status == "refused":
        return f"Refused: {as_markdown(outcome.refusal_reason or '')}"
    score = "no score" if outcome.quality_score is None else f"{outcome.quality_score}/10"
    missing = "".join(f"; no {stage}: {code}" for stage, code in outcome.missing.items())
    return f"Done: {as_markdown(outcome.title or '')} ({score}{missing})"
