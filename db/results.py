"""Reading goals back: one run whole, pages of runs, single resolutions and plans."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from db.pool import Connection
from domain.goals import GoalRequest
from domain.plans import Plan
from domain.resolutions import Resolution
from domain.results import Draft, FoundRun, GoalReport, GoalSummary, RunError
from domain.runs import RunStatus

_REPORT = """
    SELECT r.trace_id, r.status, r.stage, r.user_id, r.created_at, r.started_at, r.finished_at,
           r.quality_score, r.error_code, r.error_message, r.outcome, r.manifest, r.duration_ms,
           r.request -> 'rerun' AS rerun, g.goal, g.locale, g.context, g.clarified,
           CASE WHEN r.finished_at IS NULL THEN spent.input_tokens ELSE r.input_tokens
            END AS input_tokens,
           CASE WHEN r.finished_at IS NULL THEN spent.output_tokens ELSE r.output_tokens
            END AS output_tokens,
           CASE WHEN r.finished_at IS NULL THEN spent.cost_usd ELSE r.cost_usd END AS cost_usd,
           drafts.drafts
      FROM runs r
      JOIN goals g USING (trace_id)
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(input_tokens), 0) AS input_tokens,
                  coalesce(sum(output_tokens + thought_tokens), 0) AS output_tokens,
                  CASE WHEN bool_or(cost_usd IS NULL AND state = 'answered') THEN NULL
                       ELSE coalesce(sum(cost_usd), 0) END AS cost_usd
             FROM llm_calls
            WHERE trace_id = r.trace_id AND r.finished_at IS NULL) spent
     CROSS JOIN LATERAL (
           SELECT jsonb_agg(jsonb_build_object('resolution', s.body, 'evaluation', e.body,
                                               'plan', p.body, 'kept', s.kept)
                            ORDER BY s.kept DESC, s.draft DESC) AS drafts
             FROM resolutions s
             LEFT JOIN evaluation_metrics e
               ON e.trace_id = s.trace_id AND e.resolution_id = s.resolution_id
             LEFT JOIN plans p ON p.trace_id = s.trace_id AND p.resolution_id = s.resolution_id
            WHERE s.trace_id = r.trace_id) drafts
     WHERE r.trace_id = $1
"""

_SUMMARIES = """
    SELECT r.trace_id, r.status, r.stage, r.user_id, g.goal, kept.title, r.quality_score,
           r.outcome ->> 'quality_status' AS quality_status, r.error_code, r.cost_usd,
           r.duration_ms, r.source_trace_id, r.created_at, r.finished_at
      FROM runs r
      JOIN goals g USING (trace_id)
      LEFT JOIN LATERAL (
           SELECT title FROM resolutions
            WHERE trace_id = r.trace_id ORDER BY kept DESC, draft DESC LIMIT 1) kept ON true
"""


class Position(NamedTuple):
    """The last run of a page: the next page begins after it."""

    created_at: datetime
    trace_id: UUID


class Filters(NamedTuple):
    """What a list of runs is narrowed to; None does not narrow."""

    status: Sequence[RunStatus] | None = None
    min_score: float | None = None
    max_score: float | None = None
    since: datetime | None = None
    before: datetime | None = None
    text: str | None = None
    user_id: str | None = None


# Only the conditions that are asked for stand in the statement, so that each can use its index.
_CONDITIONS = {
    "status": "r.status = ANY({})",
    # numeric as the column is, or its index is of no use; by way of float8, or 7.9 is 7.9000…0035.
    "min_score": "r.quality_score >= {}::float8::numeric",
    "max_score": "r.quality_score <= {}::float8::numeric",
    "since": "r.created_at >= {}",
    "before": "r.created_at < {}",
    "text": "to_tsvector('simple', g.goal) @@ websearch_to_tsquery('simple', {})",
    "user_id": "r.user_id = {}",
}


async def select_report(conn: Connection, trace_id: UUID) -> GoalReport | None:
    """A goal's run with everything that came of it so far."""
    row = await conn.fetchrow(_REPORT, trace_id)
    return None if row is None else _report(row)


async def select_summaries(
    conn: Connection, filters: Filters, after: Position | None, limit: int
) -> list[GoalSummary]:
    """A page of runs, newest first."""
    given = {name: value for name, value in filters._asdict().items() if value is not None}
    conditions = [
        _CONDITIONS[name].format(f"${number}") for number, name in enumerate(given, start=1)
    ]
    values: list[object] = list(given.values())
    if after is not None:
        values += after
        conditions.append(f"(r.created_at, r.trace_id) < (${len(values) - 1}, ${len(values)})")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = await conn.fetch(
        f"{_SUMMARIES} {where} ORDER BY r.created_at DESC, r.trace_id DESC LIMIT {limit:d}",
        *values,
    )
    return [GoalSummary.model_validate(dict(row)) for row in rows]


async def select_found_run(conn: Connection, trace_id: UUID) -> FoundRun | None:
    """Whether a run exists and where it stands."""
    row = await conn.fetchrow(
        "SELECT trace_id, status, request_sha256, last_seq FROM runs WHERE trace_id = $1", trace_id
    )
    return None if row is None else FoundRun.model_validate(dict(row))


async def select_run_by_key(conn: Connection, idempotency_key: str) -> FoundRun | None:
    """The run that was accepted under an Idempotency-Key."""
    row = await conn.fetchrow(
        "SELECT trace_id, status, request_sha256, last_seq FROM runs WHERE idempotency_key = $1",
        idempotency_key,
    )
    return None if row is None else FoundRun.model_validate(dict(row))


async def select_request(conn: Connection, trace_id: UUID) -> GoalRequest | None:
    """The input that a run's workflow was, or is to be, started with."""
    request = await conn.fetchval("SELECT request FROM runs WHERE trace_id = $1", trace_id)
    return None if request is None else GoalRequest.model_validate(request)


async def select_resolution(
    conn: Connection, resolution_id: UUID
) -> tuple[UUID, Resolution] | None:
    """A resolution with the trace id of its run."""
    row = await conn.fetchrow(
        "SELECT trace_id, body FROM resolutions WHERE resolution_id = $1", resolution_id
    )
    return None if row is None else (row["trace_id"], Resolution.model_validate(row["body"]))


async def select_plan_by_id(conn: Connection, plan_id: UUID) -> tuple[UUID, Plan] | None:
    """A plan with the trace id of its run."""
    row = await conn.fetchrow("SELECT trace_id, body FROM plans WHERE plan_id = $1", plan_id)
    return None if row is None else (row["trace_id"], Plan.model_validate(row["body"]))


async def count_recent_runs(conn: Connection) -> dict[str, int]:
    """Runs by status: those that have not ended, and those accepted in the last 24 hours."""
    rows = await conn.fetch(
        """
        SELECT status, count(*) AS runs
          FROM runs
         WHERE finished_at IS NULL OR created_at > now() - interval '24 hours'
         GROUP BY status
        """
    )
    return {row["status"]: row["runs"] for row in rows}


def _report(row: Record) -> GoalReport:
    fields = dict(row)
    drafts = [Draft.model_validate(draft) for draft in fields.pop("drafts") or ()]
    best = drafts[0] if drafts else None
    evaluation = best.evaluation if best else None
    outcome = fields.pop("outcome") or {}
    code, message = fields.pop("error_code"), fields.pop("error_message")
    if fields["quality_score"] is None and evaluation:
        fields["quality_score"] = evaluation.overall
    return GoalReport(
        **fields | {"clarified_goal": fields.pop("clarified")},
        resolution=best.resolution if best else None,
        evaluation=evaluation,
        plan=best.plan if best else None,
        quality_status=evaluation.status if evaluation else None,
        missing=outcome.get("missing", {}),
        refusal=outcome.get("refusal_reason"),
        error=RunError(code=code, message=message or code) if code else None,
        drafts=sorted(drafts, key=lambda draft: draft.resolution.draft) if drafts[1:] else [],
    )
