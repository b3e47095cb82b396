"""The spans of one stage: what one activity attempt tells of itself.

The tree is stage > model calls and parsing; from the second attempt on, stage > attempt > … .
Every id follows from Temporal's own names, so whoever repeats a write writes the same row.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio import activity

from tracing.children import ChildSpan, SpanType, Usage, child_fields
from tracing.closing import RunEnd, close_trace
from tracing.context import TraceContext, current
from tracing.ids import born_at, uuid7
from tracing.rows import Connection, Finality, Row, error_info, without_none, write
from tracing.text import chosen

__all__ = ["ChildSpan", "SpanType", "StageTrace", "Usage"]

# What ends sooner than this is sent once, finished; what takes longer becomes visible as open.
OPEN_AFTER_S = 2.0
# A stage that was tried for hours notes the last lost attempts again, not all of them each time.
ATTEMPTS_NOTED = 20


class StageTrace:
    """One attempt of one stage. Nothing is stored before `open`, `finish` or `fail`."""

    def __init__(
        self,
        name: str,
        context: TraceContext,
        info: activity.Info,
        input: object,
        metadata: Mapping[str, object] | None,
    ) -> None:
        self._name = name
        self._context = context
        self._info = info
        self._input = input
        self._metadata = dict(metadata or {})
        self._children: list[ChildSpan] = []
        run = f"{info.namespace}|{info.workflow_id}|{info.workflow_run_id or info.activity_run_id}"
        self._seed = f"stage|{run}|{info.activity_id}"
        self.attempt = info.attempt
        self.span_id = uuid7(info.scheduled_time, self._seed)

    @classmethod
    def start(
        cls, name: str, *, input: object = None, metadata: Mapping[str, object] | None = None
    ) -> "StageTrace":
        """The trace of the attempt that runs now; call it inside an activity."""
        return cls(name, current(), activity.info(), input, metadata)

    @property
    def attempt_span_id(self) -> UUID | None:
        """The attempt's own span; a first attempt has none, as long as it is the only one."""
        return self._attempt_id(self.attempt) if self.attempt > 1 else None

    def child(
        self,
        name: str,
        *,
        type: SpanType = "general",
        model: str | None = None,
        provider: str | None = None,
        input: object = None,
        metadata: Mapping[str, object] | None = None,
    ) -> ChildSpan:
        """A step of this attempt, beginning now."""
        seed = f"{self._attempt_id(self.attempt)}|{len(self._children) + 1}"
        span = ChildSpan(
            id=uuid7(self._info.started_time, seed),
            name=name,
            started_at=datetime.now(UTC),
            type=type,
            model=model,
            provider=provider,
            input=input,
            metadata=dict(metadata or {}),
        )
        self._children.append(span)
        return span

    def drop(self, span: ChildSpan) -> None:
        """Forget a step that turned out not to be needed."""
        self._children.remove(span)

    def earlier_child(
        self,
        name: str,
        *,
        id: UUID,
        attempt: int,
        started_at: datetime,
        type: SpanType = "general",
        model: str | None = None,
        provider: str | None = None,
        input: object = None,
        metadata: Mapping[str, object] | None = None,
    ) -> ChildSpan:
        """A step that an earlier attempt began and could not store itself."""
        span = ChildSpan(
            id=id,
            name=name,
            started_at=started_at,
            type=type,
            model=model,
            provider=provider,
            input=input,
            metadata=dict(metadata or {}),
            attempt=attempt,
        )
        self._children.append(span)
        return span

    async def open(self, conn: Connection) -> None:
        """Note that the attempt began; from the second one on, that the earlier ones are over."""
        now = datetime.now(UTC)
        rows = [self._stage_row(now, Finality.OPEN)]
        if self.attempt > 1:
            rows += self._lost_attempts(now)
            rows.append(self._attempt_row(now, Finality.OPEN))
        if self._context.root:
            rows.append(self._root_row())
        await write(conn, rows)

    async def finish(self, conn: Connection, output: object = None) -> None:
        """Store the stage as done, with all that this attempt did."""
        now = datetime.now(UTC)
        ending = without_none(end_time=now, output=chosen().data(output))
        rows = [self._stage_row(now, Finality.ENDED, **ending)]
        if self.attempt > 1:
            rows += self._lost_attempts(now)
            rows.append(self._attempt_row(now, Finality.ENDED, end_time=now))
        if self._context.root:
            rows.append(self._root_row())
        await write(conn, rows + self._child_rows(now, of_attempts=self.attempt > 1))
        await self._end_alone(conn, now, "success", output=output)

    async def fail(
        self, conn: Connection, error_type: str, message: str, *, retrying: bool
    ) -> None:
        """Store a failed attempt. `retrying`: another one follows, so the stage stays open."""
        now = datetime.now(UTC)
        ending = {"end_time": now, "error_info": error_info(error_type, message)}
        of_attempts = retrying or self.attempt > 1
        if retrying:
            rows = [self._stage_row(now, Finality.OPEN)]
        else:
            rows = [self._stage_row(now, Finality.ENDED, **ending)]
        if of_attempts:
            rows += self._lost_attempts(now)
            rows.append(self._attempt_row(now, Finality.ENDED, **ending))
        if self._context.root:
            rows.append(self._root_row())
        await write(conn, rows + self._child_rows(now, of_attempts, (error_type, message)))
        if not retrying:
            await self._end_alone(conn, now, "failed", (error_type, message))

    async def _end_alone(
        self,
        conn: Connection,
        now: datetime,
        status: str,
        error: tuple[str, str] | None = None,
        output: object = None,
    ) -> None:
        """End the trace of an activity that no workflow started: nobody else would."""
        context = self._context
        if context.root is None or self._info.workflow_id is not None:
            return
        error_type, message = error or (None, None)
        end = RunEnd(
            trace_id=context.trace_id,
            project=context.project,
            status=status,
            ended_at=now,
            error_type=error_type,
            error_message=message,
            root=context.root,
        )
        await close_trace(conn, end, output=output)

    def _attempt_id(self, attempt: int) -> UUID:
        return uuid7(self._info.scheduled_time, f"{self._seed}|{attempt}")

    def _stage_row(self, now: datetime, finality: Finality, **ending: object) -> Row:
        info = self._info
        facts = {
            **chosen().facts(self._metadata),
            "attempts": self.attempt,
            "activity_id": info.activity_id,
            "workflow_id": info.workflow_id,
            "workflow_run_id": info.workflow_run_id,
        }
        fields = without_none(
            parent_span_id=self._context.parent_span_id,
            name=self._name,
            start_time=info.scheduled_time,
            input=chosen().data(self._input),
            metadata=facts,
            **ending,
        )
        return self._row(self.span_id, fields, now, finality)

    def _attempt_row(self, now: datetime, finality: Finality, **ending: object) -> Row:
        fields = {
            "parent_span_id": self.span_id,
            "name": f"attempt_{self.attempt}",
            "start_time": self._info.started_time,
            **ending,
        }
        return self._row(self._attempt_id(self.attempt), fields, now, finality)

    def _lost_attempts(self, now: datetime) -> list[Row]:
        """The attempts before this one, in case that they never said how they ended."""
        ended_at = self._info.current_attempt_scheduled_time
        lost = error_info("ActivityAttemptLost", "Its worker did not say how it ended")
        return [
            self._row(
                self._attempt_id(attempt),
                {
                    "parent_span_id": self.span_id,
                    "name": f"attempt_{attempt}",
                    # When it began nobody knows; the microseconds keep their order.
                    "start_time": self._info.scheduled_time + timedelta(microseconds=attempt),
                    "end_time": ended_at,
                    "error_info": lost,
                },
                now,
                Finality.PRESUMED,
            )
            for attempt in range(max(1, self.attempt - ATTEMPTS_NOTED), self.attempt)
        ]

    def _child_rows(
        self, now: datetime, of_attempts: bool, error: tuple[str, str] | None = None
    ) -> list[Row]:
        return [
            self._row(
                span.id,
                {
                    "parent_span_id": self._attempt_id(span.attempt or self.attempt)
                    if of_attempts
                    else self.span_id,
                    **child_fields(span, now, error),
                },
                span.ended_at or now,
                Finality.ENDED,
            )
            for span in self._children
        ]

    def _root_row(self) -> Row:
        """The opening of a trace whose run came without a header."""
        context, root = self._context, self._context.root
        assert root is not None  # noqa: S101 - callers asked
        payload = without_none(
            id=str(context.trace_id),
            name=root.name,
            start_time=root.started_at,
            metadata={"workflow_id": root.workflow_id, "workflow_run_id": root.run_id},
            thread_id=context.thread_id,
            environment=context.environment,
            source="sdk",
        )
        identity = str(context.trace_id)
        # Older than any opening, which knows more.
        born = born_at(context.trace_id)
        return Row(
            "trace", identity, context.trace_id, context.project, payload, born, Finality.OPEN
        )

    def _row(
        self, identity: UUID, fields: Mapping[str, object], now: datetime, finality: Finality
    ) -> Row:
        context = self._context
        payload = {
            "id": str(identity),
            "trace_id": str(context.trace_id),
            "type": "general",
            "source": "sdk",
            **without_none(environment=context.environment),
            **fields,
        }
        wait_s = OPEN_AFTER_S if finality is Finality.OPEN else 0
        return Row(
            "span", str(identity), context.trace_id, context.project, payload, now, finality, wait_s
        )
