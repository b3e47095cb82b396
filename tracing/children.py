"""The spans inside an attempt: model calls with their tokens and cost, and smaller steps."""

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
    """Tokens of one model call."""

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
    """A model call or a step inside an attempt. It is stored together with its stage.

    Attributes:
        attempt: The attempt of the stage that began it.
        cost_at_most: The provider's bill is not known, and `cost_usd` is the most that it can be.
        error: Error type and message.
        parent_id: The span that it belongs below when its attempt does not store it.
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
        """End the span. Tokens and cost belong on one span only, that of the billed call."""
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
        """End the span with an error; a failed call may have been billed too."""
        self.finish(None, usage, cost_usd, cost_at_most=cost_at_most)
        self.error = (error_type, message)


def child_fields(
    span: ChildSpan, now: datetime, stage_error: tuple[str, str] | None
) -> dict[str, object]:
    """The span in Opik's field names, without its ids."""
    # A step that its attempt did not end was interrupted by the attempt's own error.
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
    """Tokens under Opik's names and under Gemini's, as Opik's own client writes them."""
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
