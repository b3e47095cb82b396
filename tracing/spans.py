"""The spans of one stage, written by the activity attempts that run the stage.

Steps such as model calls lie directly below the stage's span. When the stage has several attempts,
each attempt has a span between the stage and its steps. All span ids are derived from Temporal's
ids, so a repeated write addresses the same row.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio import activity

from tracing.children import ChildSpan, SpanType, child_fields
from tracing.context import TraceContext, current
from tracing.ids import uuid7
from tracing.outbox import (
    Connection,
    Row,
    SpanState,
    error_info,
    move_spans,
    without_none,
    write,
)
from tracing.redaction import redaction
from tracing.traces import RunEnd, close_trace, derived_opening

# An open span is held back for this many seconds. If it ends within them, Opik receives it once;
# otherwise Opik receives it while it is open and again when it has ended.
OPEN_AFTER_S = 2.0
# An attempt also writes rows for at most this many attempts before it, so that the number of rows
# stays small when a stage is retried for hours.
ATTEMPTS_NOTED = 20


class StageTrace:
    """The spans of one attempt of a stage. Only `open`, `finish` and `fail` write to the outbox.

    Temporal may give up an attempt that still runs and start another one. The given-up attempt can
    then store its own span and its steps, but the stage's span keeps what the later attempt stored.
    """

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
        """Return the StageTrace of the running attempt.

        Raises RuntimeError outside of an activity.
        """
        return cls(name, current(), activity.info(), input, metadata)

    def child(
        self,
        name: str,
        *,
        type: SpanType = "general",
        model: str | None = None,
        provider: str | None = None,
        input: object = None,
        metadata: Mapping[str, object] | None = None,
        id: UUID | None = None,
        of_attempt: int | None = None,
        started_at: datetime | None = None,
    ) -> ChildSpan:
        """Begin the span of a step of this attempt, such as a model call.

        Pass `id`, `of_attempt` and `started_at` for a step that an earlier attempt began but never
        stored. The span then belongs to that attempt.
        """
        seed = f"{self._attempt_id(self.attempt)}|{len(self._children) + 1}"
        span = ChildSpan(
            id=id or uuid7(self._info.started_time, seed),
            name=name,
            started_at=started_at or datetime.now(UTC),
            type=type,
            model=model,
            provider=provider,
            input=input,
            metadata=dict(metadata or {}),
            attempt=of_attempt or self.attempt,
        )
        self._children.append(span)
        return span

    @property
    def step_parent_id(self) -> UUID:
        """Id of the span that this attempt's steps lie below.

        Another process needs it to store a step that the attempt itself never stored.
        """
        return self._attempt_id(self.attempt) if self.attempt > 1 else self.span_id

    def adopt(self, span: ChildSpan) -> None:
        """Add the span of a step that an earlier attempt began but never stored.

        The span is stored together with the spans of this attempt.
        """
        self._children.append(span)

    def drop(self, span: ChildSpan) -> None:
        """Remove a span that `child` began, because its step was not needed after all."""
        self._children.remove(span)

    async def open(self, conn: Connection) -> None:
        """Store that this attempt has begun and that the attempts before it are over."""
        now = datetime.now(UTC)
        rows = [self._stage_row(now, SpanState.OPEN)]
        if self.attempt > 1:
            rows += self._attempt_rows(now, SpanState.OPEN)
        await write(conn, rows + self._opening_rows())

    async def finish(self, conn: Connection, output: object = None) -> None:
        """Store the stage as done, together with the spans of this attempt's steps."""
        now = datetime.now(UTC)
        ending = without_none(end_time=now, output=redaction().payload(output))
        rows = [self._stage_row(now, SpanState.ENDED, **ending)]
        if self.attempt > 1:
            rows += self._attempt_rows(now, SpanState.ENDED, end_time=now)
        rows += self._child_rows(now, below_attempts=self.attempt > 1)
        if await self._store_ended_stage(conn, rows, now, end_time=now):
            await self._end_alone(conn, now, "success", output=output)

    async def fail(
        self, conn: Connection, error_type: str, message: str, *, retrying: bool
    ) -> None:
        """Store this attempt as failed, together with the spans of its steps.

        `retrying` says that Temporal will start another attempt, so the stage's span stays open.
        """
        now = datetime.now(UTC)
        ending = {"end_time": now, "error_info": error_info(error_type, message)}
        below_attempts = retrying or self.attempt > 1
        rows = self._child_rows(now, below_attempts, (error_type, message))
        if below_attempts:
            rows += self._attempt_rows(now, SpanState.ENDED, **ending)
        if retrying:
            rows.append(self._stage_row(now, SpanState.OPEN))
            await write(conn, rows + self._opening_rows(), lock_first=True)
            return
        rows.append(self._stage_row(now, SpanState.ENDED, **ending))
        # If the run was cancelled, another transaction may be ending its trace at this moment.
        if await self._store_ended_stage(conn, rows, now, lock_first=True, **ending):
            await self._end_alone(conn, now, "failed", (error_type, message))

    async def _store_ended_stage(
        self,
        conn: Connection,
        rows: list[Row],
        now: datetime,
        *,
        lock_first: bool = False,
        **ending: object,
    ) -> bool:
        """Write the rows. Return False when a later attempt has taken over the stage's span.

        `ending` holds the fields that end the span of this attempt.
        """
        refused = await write(conn, rows + self._opening_rows(), lock_first=lock_first)
        if str(self.span_id) not in refused:
            return True
        if self.attempt == 1:
            # The first attempt has a span of its own only if a second attempt exists. That is the
            # case here, so the first attempt gets its span, and its steps move below it.
            await write(conn, self._attempt_rows(now, SpanState.ENDED, **ending))
            steps = [str(span.id) for span in self._children]
            await move_spans(conn, steps, self._attempt_id(self.attempt))
        return False

    async def _end_alone(
        self,
        conn: Connection,
        now: datetime,
        status: str,
        error: tuple[str, str] | None = None,
        output: object = None,
    ) -> None:
        """End the trace of an activity that a client started without a workflow.

        No workflow exists whose interceptor would end that trace. For other activities nothing
        happens.
        """
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

    def _stage_row(self, now: datetime, finality: SpanState, **ending: object) -> Row:
        info = self._info
        metadata = {
            **redaction().metadata(self._metadata),
            "attempts": self.attempt,
            "activity_id": info.activity_id,
            "workflow_id": info.workflow_id,
            "workflow_run_id": info.workflow_run_id,
        }
        fields = without_none(
            parent_span_id=self._context.parent_span_id,
            name=self._name,
            start_time=info.scheduled_time,
            input=redaction().payload(self._input),
            metadata=metadata,
            **ending,
        )
        return self._row(self.span_id, fields, now, finality, self.attempt)

    def _attempt_rows(self, now: datetime, finality: SpanState, **ending: object) -> list[Row]:
        """Return a row for this attempt, and rows for earlier attempts that may have stored no end.

        These are the latest ATTEMPTS_NOTED attempts, and any attempt with a step among the rows,
        because that step needs its parent. A row does not replace an end that an attempt stored.
        """
        fields = {
            "parent_span_id": self.span_id,
            "name": f"attempt_{self.attempt}",
            "start_time": self._info.started_time,
            **ending,
        }
        lately = range(max(1, self.attempt - ATTEMPTS_NOTED), self.attempt)
        earlier = {*lately, *(span.attempt for span in self._children)} - {self.attempt}
        return [
            *(self._lost_attempt_row(attempt, now) for attempt in sorted(earlier)),
            self._row(self._attempt_id(self.attempt), fields, now, finality, self.attempt),
        ]

    def _lost_attempt_row(self, attempt: int, now: datetime) -> Row:
        fields: dict[str, object] = {
            "parent_span_id": self.span_id,
            "name": f"attempt_{attempt}",
            # The attempt's start time is unknown. One microsecond per attempt keeps the attempts in
            # their order.
            "start_time": self._info.scheduled_time + timedelta(microseconds=attempt),
            "end_time": self._info.current_attempt_scheduled_time,
            "error_info": error_info(
                "ActivityAttemptLost", "Its worker did not report how it ended"
            ),
        }
        return self._row(self._attempt_id(attempt), fields, now, SpanState.LOST, attempt)

    def _child_rows(
        self, now: datetime, below_attempts: bool, error: tuple[str, str] | None = None
    ) -> list[Row]:
        return [
            self._row(
                span.id,
                {
                    "parent_span_id": self._attempt_id(span.attempt)
                    if below_attempts
                    else self.span_id,
                    **child_fields(span, now, error),
                },
                span.ended_at or now,
                SpanState.ENDED,
                self.attempt,
            )
            for span in self._children
        ]

    def _opening_rows(self) -> list[Row]:
        root = self._context.root
        return [derived_opening(self._context, root)] if root else []

    def _row(
        self,
        identity: UUID,
        fields: Mapping[str, object],
        now: datetime,
        finality: SpanState,
        attempt: int,
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
        return Row(
            kind="span",
            id=str(identity),
            trace_id=context.trace_id,
            project=context.project,
            payload=payload,
            event_time=now,
            finality=finality,
            attempt=attempt,
            wait_s=OPEN_AFTER_S if finality is SpanState.OPEN else 0,
        )


async def store_lost_steps(conn: Connection, end: RunEnd, steps: Sequence[ChildSpan]) -> None:
    """Store the spans of steps whose attempts never stored them.

    Call this before the trace is ended, so that its totals include these spans. A span that the
    step's own attempt stored, or still stores, takes precedence.
    """
    rows = [
        Row(
            kind="span",
            id=str(step.id),
            trace_id=end.trace_id,
            project=end.project,
            payload={
                "id": str(step.id),
                "trace_id": str(end.trace_id),
                "source": "sdk",
                **without_none(parent_span_id=step.parent_id, environment=end.environment),
                **child_fields(step, end.ended_at, None),
            },
            event_time=None,
            finality=SpanState.LOST,
        )
        for step in steps
    ]
    await write(conn, rows)
