"""The spans of one stage, written by the activity attempts that run it.

The tree is stage > model calls and parsing; from the second attempt on, stage > attempt > … .
Every id is derived from Temporal's own names, so whoever repeats a write writes the same row.
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

# A span that ends within this time is sent once, ended; a longer one is also sent while it is open.
OPEN_AFTER_S = 2.0
# A stage that is tried for hours notes only this many attempts before its own each time.
ATTEMPTS_NOTED = 20


class StageTrace:
    """The spans of one attempt of a stage. Only `open`, `finish` and `fail` store anything.

    An attempt that Temporal gave up may still be running while its successor is, or after it. Such
    an attempt stores its own span and its steps; the stage's span stays as the successor left it.
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
        """The trace of the attempt that runs now; call it inside an activity."""
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
        """Begin a span for a step of this attempt.

        With `id`, `of_attempt` and `started_at` it is the span of a step that an earlier attempt
        began and did not store.
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
        """What a step of this attempt belongs below, if the attempt itself never stores it."""
        return self._attempt_id(self.attempt) if self.attempt > 1 else self.span_id

    def adopt(self, span: ChildSpan) -> None:
        """Store a step that an earlier attempt began and did not store."""
        self._children.append(span)

    def drop(self, span: ChildSpan) -> None:
        """Take back a span whose step turned out not to be needed."""
        self._children.remove(span)

    async def open(self, conn: Connection) -> None:
        """Store that the attempt began, and that the attempts before it are over."""
        now = datetime.now(UTC)
        rows = [self._stage_row(now, SpanState.OPEN)]
        if self.attempt > 1:
            rows += self._attempt_rows(now, SpanState.OPEN)
        await write(conn, rows + self._opening_rows())

    async def finish(self, conn: Connection, output: object = None) -> None:
        """Store the stage as done, with everything that this attempt did."""
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
        """Store a failed attempt. `retrying`: another one follows, so the stage stays open."""
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
        # A cancelled run may be ending at this moment.
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
        """Write the rows; False when a later attempt has taken the stage over."""
        refused = await write(conn, rows + self._opening_rows(), lock_first=lock_first)
        if str(self.span_id) not in refused:
            return True
        if self.attempt == 1:
            # It turns out not to be the only attempt, so it gets a span, with its steps below it.
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
        """This attempt, and those before it in case that they never stored how they ended.

        An attempt whose step is stored here is among them, however long ago it was.
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
            # Nobody knows when it began; the microseconds keep the attempts in order.
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
    """Store steps of attempts that never did, before the trace ends, so that its totals are whole.

    Whatever else is stored of such a step replaces it.
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
