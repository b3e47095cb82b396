"""Putting things into the outbox: a trace's opening, scores; and how full it is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tracing.closing import close_lost, close_trace
from tracing.context import TraceContext
from tracing.rows import Connection, Finality, Row, without_none, write
from tracing.text import chosen

__all__ = [
    "Backlog",
    "Score",
    "backlog",
    "close_lost",
    "close_trace",
    "open_trace",
    "project_id",
    "put_scores",
]


class Score(BaseModel):
    """A feedback score; the latest value of a name on an entity is the one that counts.

    A value of None takes back what was said before.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1)
    value: float | None
    reason: str | None = None


class Backlog(BaseModel):
    """How full the outbox is. `open` counts traces that have not ended."""

    pending: int
    oldest_age_s: float
    dead: int
    open: int


async def open_trace(
    conn: Connection,
    context: TraceContext,
    *,
    name: str,
    started_at: datetime,
    input: object = None,
    metadata: Mapping[str, object] | None = None,
    tags: Sequence[str] = (),
) -> None:
    """Open a run's trace; repeating it changes nothing once the trace has ended."""
    text = chosen()
    payload = without_none(
        id=str(context.trace_id),
        name=name,
        start_time=started_at,
        input=text.data(input),
        metadata=text.facts(metadata),
        tags=list(tags) or None,
        thread_id=context.thread_id,
        environment=context.environment,
        source="sdk",
    )
    await write(conn, [_trace_row(context, payload)])


async def put_scores(
    conn: Connection,
    trace_id: UUID,
    project: str,
    scores: Sequence[Score],
    *,
    at: datetime | None = None,
) -> None:
    """Scores of a trace. They are sent after it, into its own project whatever `project` says.

    `at` orders them when they may be written twice or late; without it the last one written wins.
    """
    await write(
        conn,
        [
            Row(
                kind="score",
                id=f"{trace_id}:{score.name}",
                trace_id=trace_id,
                project=project,
                payload=without_none(
                    id=str(trace_id),
                    name=score.name,
                    value=score.value,
                    reason=chosen().sentence(score.reason),
                    source="sdk",
                ),
                event_time=at,
            )
            for score in scores
        ],
    )


async def backlog(conn: Connection) -> Backlog:
    """What waits, since when, and what was set aside."""
    row = await conn.fetchrow(
        """
        SELECT waiting.pending, waiting.oldest_age_s,
            (SELECT count(*) FROM trace_outbox WHERE state = 'dead') AS dead,
            (SELECT count(*) FROM trace_outbox WHERE kind = 'trace' AND finality = 0) AS open
        FROM (SELECT count(*) AS pending, coalesce(extract(epoch FROM
                now() - min(greatest(event_time, created_at))), 0)::float AS oldest_age_s
            FROM trace_outbox WHERE state = 'pending') AS waiting
        """
    )
    return Backlog(
        pending=row["pending"],
        oldest_age_s=max(0.0, row["oldest_age_s"]),
        dead=row["dead"],
        open=row["open"],
    )


async def project_id(conn: Connection, project: str) -> UUID | None:
    """Opik's id of a project, for links; None until the shipper has learned it."""
    found: UUID | None = await conn.fetchval(
        "SELECT project_id FROM trace_projects WHERE name = $1", project
    )
    return found


def _trace_row(context: TraceContext, payload: dict[str, object]) -> Row:
    return Row(
        kind="trace",
        id=str(context.trace_id),
        trace_id=context.trace_id,
        project=context.project,
        payload=payload,
        event_time=datetime.now(UTC),
        finality=Finality.OPEN,
    )
