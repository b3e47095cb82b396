"""The spans of the steps inside one attempt of a stage: model calls and smaller steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

from tracing.outbox import error_info, without_none
from tracing.redaction import redaction

SpanType = Literal["general", "tool", "llm", "guardrail"]


class Usage(Protocol):
    """The token counts of one model call, as Gemini counts them.

    `input_tokens` include the cached tokens; `output_tokens` do not include the thought tokens.
    """

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def thought_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...


@dataclass
class ChildSpan:
    """The span of a model call or of another step inside one attempt of a stage.

    `StageTrace` stores it together with the span of the stage.

    Attributes:
        attempt: Number of the stage's attempt that began the step; Temporal counts from 1.
        cost_usd: Cost of the call in US dollars; None when it has no cost or no price is known.
        cost_at_most: True when the provider's bill is unknown and `cost_usd` is its upper bound.
        error: Error type and message; None for a step that did not fail.
        parent_id: Id of the parent span for `store_lost_steps`. `StageTrace` ignores it and derives
            the parent from `attempt`.
    """

    id: UUID
    name: str
    started_at: datetime
    attempt: int
    type: SpanType = "general"
    model: str | None = None
    provider: str | None = None
    input: object = None
    metadata: dict[str, object] = field(default_factory=dict)
    output: object = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    cost_at_most: bool = False
    ended_at: datetime | None = None
    error: tuple[str, str] | None = None
    parent_id: UUID | None = None

    def finish(
        self,
        output: object = None,
        usage: Usage | None = None,
        cost_usd: Decimal | None = None,
        *,
        cost_at_most: bool = False,
        metadata: Mapping[str, object] | None = None,
        ended_at: datetime | None = None,
    ) -> None:
        """End the span, by default now.

        Only the span of the billed model call may carry tokens and cost, because Opik sums both
        over all spans of a trace.
        """
        self.ended_at = ended_at or datetime.now(UTC)
        self.output, self.usage, self.cost_usd = output, usage, cost_usd
        self.cost_at_most = cost_at_most
        self.metadata.update(metadata or {})

    def fail(
        self,
        error_type: str,
        message: str,
        usage: Usage | None = None,
        cost_usd: Decimal | None = None,
        *,
        cost_at_most: bool = False,
    ) -> None:
        """End the span with an error.

        The span may carry tokens and cost, because a failed call may be billed too.
        """
        self.finish(None, usage, cost_usd, cost_at_most=cost_at_most)
        self.error = (error_type, message)


def child_fields(
    span: ChildSpan, now: datetime, stage_error: tuple[str, str] | None
) -> dict[str, object]:
    """Return the span in Opik's field names; the caller adds the ids.

    `stage_error` is the error that ended the attempt. A step that has not ended gets this error,
    and `now` as its end.
    """
    # A step without an end was interrupted by the error that ended its attempt, so its span shows
    # that error.
    error = span.error or (stage_error if span.ended_at is None else None)
    redacted = redaction()
    metadata = redacted.metadata(span.metadata)
    if span.cost_at_most:
        metadata["cost_at_most"] = True
    return without_none(
        name=span.name,
        type=span.type,
        start_time=span.started_at,
        end_time=span.ended_at or now,
        model=span.model,
        provider=span.provider,
        input=redacted.payload(span.input),
        output=redacted.payload(span.output),
        metadata=metadata or None,
        usage=opik_usage(span.usage) if span.usage else None,
        total_estimated_cost=float(span.cost_usd) if span.cost_usd is not None else None,
        error_info=error_info(*error) if error else None,
    )


def opik_usage(usage: Usage) -> dict[str, int]:
    """Return the token counts under Opik's names, and under Gemini's names as `original_usage.*`.

    Opik's own client for Gemini writes the same keys.
    """
    completion = usage.output_tokens + usage.thought_tokens
    total = usage.input_tokens + completion
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": completion,
        "total_tokens": total,
        "original_usage.prompt_token_count": usage.input_tokens,
        "original_usage.candidates_token_count": usage.output_tokens,
        "original_usage.thoughts_token_count": usage.thought_tokens,
        "original_usage.cached_content_token_count": usage.cached_tokens,
        "original_usage.total_token_count": total,
    }
