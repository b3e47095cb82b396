"""Queries that read runs and their results: single runs, whole goals, pages of a list."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Record

from db.calls import SPENT
from db.pool import Connection
from domain.plans import Plan
from domain.resolutions import Resolution
from domain.results import (
    DraftReport,
    GoalReport,
    GoalSummary,
    RunError,
    RunReport,
    RunSummary,
)
from domain.runs import RefusalCode, RunKind, RunStatus

# While a run is under way, its tokens and cost are summed from its model calls. At its end these
# sums are stored in its row and read from there.
_RUN = f"""
    SELECT r.trace_id, r.kind, r.status, r.stage, r.user_id, r.created_at, r.started_at,
           r.finished_at, r.quality_score, r.error_code, r.error_message, r.outcome, r.manifest,
           r.duration_ms, r.cost_input_usd, r.cost_output_usd, r.goal_id, r.refusal_code,
           r.request -> 'rerun' AS rerun,
           CASE WHEN r.finished_at IS NULL THEN spent.input_tokens ELSE r.input_tokens
            END AS input_tokens,
           CASE WHEN r.finished_at IS NULL THEN spent.output_tokens ELSE r.output_tokens
            END AS output_tokens,
           CASE WHEN r.finished_at IS NULL THEN spent.cost_usd ELSE r.cost_usd END AS cost_usd,
           (SELECT e.data || jsonb_build_object('since', e.at)
              FROM run_events e
             WHERE e.trace_id = r.trace_id AND r.finished_at IS NULL
               AND e.kind IN ('start_refused', 'stage_retrying')
               AND coalesce((e.data ->> 'next_try_at')::timestamptz > now(), true)
               AND NOT EXISTS (SELECT FROM run_events later
                                WHERE later.trace_id = e.trace_id AND later.seq > e.seq
                                  AND (later.stage = e.stage OR e.stage IS NULL))
             ORDER BY e.seq DESC
             LIMIT 1) AS waiting,
           CASE WHEN r.finished_at IS NULL THEN spent.unknown_calls ELSE r.unknown_calls
            END AS unknown_calls,
           CASE WHEN r.finished_at IS NULL THEN spent.cost_unknown_usd ELSE r.cost_unknown_usd
            END AS cost_unknown_usd
      FROM runs r
     CROSS JOIN LATERAL (
           SELECT {SPENT}
             FROM llm_calls
            WHERE trace_id = r.trace_id AND r.finished_at IS NULL) spent
     WHERE r.trace_id = $1 AND r.tenant_id = $2
"""  # noqa: S608 - interpolates constants only

# A rerun uses results of an earlier run. Its request names them by id, and they stay stored with
# the run that made them. A materialised CTE turns these ids into columns: under row-level security
# PostgreSQL uses an index only for conditions with leakproof operators, and those of jsonb are not.
_GOAL = f"""
    WITH run AS MATERIALIZED (
        SELECT *, coalesce((rerun ->> 'clarified_by')::uuid, trace_id) AS clarified_by,
               (rerun ->> 'resolution_id')::uuid AS resolution_id,
               (rerun ->> 'evaluation_id')::uuid AS evaluation_id,
               (rerun ->> 'plan_id')::uuid AS plan_id
          FROM ({_RUN}) AS run
    )
    SELECT r.*, g.goal, g.locale, g.time_zone, g.context, c.body AS clarified, drafts.drafts
      FROM run r
      JOIN goals g ON g.trace_id = r.goal_id
      LEFT JOIN clarified_goals c ON c.trace_id = r.clarified_by
     CROSS JOIN LATERAL (
           SELECT jsonb_agg(jsonb_build_object('resolution', s.body, 'evaluation', e.body,
                                               'plan', p.body, 'kept', s.kept)
                            ORDER BY s.kept DESC, s.draft DESC) AS drafts
             FROM (SELECT *, coalesce(r.outcome ->> 'resolution_id' = resolution_id::text, false)
                          AS kept
                     FROM resolutions
                    WHERE trace_id = r.trace_id OR resolution_id = r.resolution_id) s
             LEFT JOIN evaluation_metrics e
               ON e.resolution_id = s.resolution_id
              AND (e.trace_id = r.trace_id OR e.evaluation_id = r.evaluation_id)
             LEFT JOIN plans p
               ON p.resolution_id = s.resolution_id
              AND (p.trace_id = r.trace_id OR p.plan_id = r.plan_id)) drafts
"""  # noqa: S608 - both parts are constants of this file

_SUMMARY = """
           r.trace_id, r.kind, r.status, r.stage, r.user_id, r.quality_score, r.error_code,
           r.cost_usd, r.cost_unknown_usd, r.duration_ms, r.source_trace_id, r.created_at,
           r.finished_at, r.refusal_code
"""
_RUNS = f"SELECT {_SUMMARY}, r.outcome ->> 'title' AS title FROM runs r"  # noqa: S608
_GOALS = f"""
    SELECT {_SUMMARY}, g.goal, r.outcome ->> 'quality_status' AS quality_status,
           coalesce(r.outcome ->> 'title',
                    (SELECT title FROM resolutions
                      WHERE trace_id = r.trace_id ORDER BY draft DESC LIMIT 1)) AS title
      FROM runs r JOIN goals g ON g.trace_id = r.goal_id
"""  # noqa: S608


class Position(NamedTuple):
    """Where a page ends: the last run on it. The next page begins after this run."""

    created_at: datetime
    trace_id: UUID


class Filters(NamedTuple):
    """The conditions that narrow a list of a tenant's runs. None means no condition."""

    tenant: str
    kind: RunKind | None = None
    status: Sequence[RunStatus] | None = None
    min_score: float | None = None
    max_score: float | None = None
    since: datetime | None = None
    before: datetime | None = None
    user_id: str | None = None
    refusal_code: RefusalCode | None = None
    text: str | None = None
    goal_ids: Sequence[UUID] | None = None


# If more goals than this contain the words of a search, the search reads the list of runs in order
# instead, because it soon finds enough goals for a page.
MOST_FOUND = 1000

# A query contains only the conditions that are asked for, so that each of them can use its index.
_CONDITIONS = {
    "tenant": "r.tenant_id = {}",
    "kind": "r.kind = {}",
    "status": "r.status = ANY({})",
    "min_score": "r.quality_score >= {}::float8",
    "max_score": "r.quality_score <= {}::float8",
    "since": "r.created_at >= {}",
    "before": "r.created_at < {}",
    "user_id": "r.user_id = {}",
    "refusal_code": "r.refusal_code = {}",
    "text": "NOT EXISTS (SELECT FROM unnest((SELECT string_to_array(goal_words({}), ' '))) AS word"
    " WHERE strpos(g.words, word) = 0)",
    "goal_ids": "r.goal_id = ANY({})",
}


async def select_run(conn: Connection, tenant: str, trace_id: UUID) -> RunReport | None:
    """Return a tenant's run of any kind, or None when the tenant has no such run."""
    row = await conn.fetchrow(_RUN, trace_id, tenant)
    return None if row is None else RunReport.model_validate(_run_fields(row))


async def select_goal(conn: Connection, tenant: str, trace_id: UUID) -> GoalReport | None:
    """Return a tenant's goal with all results so far, or None when the tenant has no such goal."""
    row = await conn.fetchrow(f"{_GOAL} WHERE r.kind = 'goal_generation'", trace_id, tenant)
    return None if row is None else _goal(row)


async def select_runs(
    conn: Connection, filters: Filters, after: Position | None, limit: int
) -> list[RunSummary]:
    """Return a page of at most `limit` runs of any kind, newest first.

    The page begins after the position `after`, or with the newest run when `after` is None.
    """
    rows = await _page(conn, _RUNS, filters, after, limit)
    return [RunSummary.model_validate(dict(row)) for row in rows]


async def select_goals(
    conn: Connection, filters: Filters, after: Position | None, limit: int
) -> list[GoalSummary]:
    """Return a page of at most `limit` goals, newest first.

    The page begins after the position `after`, or with the newest goal when `after` is None.
    """
    filters = filters._replace(kind="goal_generation")
    if filters.text is not None:
        filters = await _found(conn, filters, filters.text)
    rows = await _page(conn, _GOALS, filters, after, limit)
    return [GoalSummary.model_validate(dict(row)) for row in rows]


async def select_stored_resolution(
    conn: Connection, tenant: str, resolution_id: UUID
) -> tuple[UUID, Resolution] | None:
    """Return a tenant's resolution and the trace id of its run, or None when there is none."""
    row = await conn.fetchrow(
        "SELECT trace_id, body FROM resolutions WHERE resolution_id = $1 AND tenant_id = $2",
        resolution_id,
        tenant,
    )
    return None if row is None else (row["trace_id"], Resolution.model_validate(row["body"]))


async def select_stored_plan(
    conn: Connection, tenant: str, plan_id: UUID
) -> tuple[UUID, Plan] | None:
    """Return a tenant's plan and the trace id of its run, or None when there is none."""
    row = await conn.fetchrow(
        "SELECT trace_id, body FROM plans WHERE plan_id = $1 AND tenant_id = $2", plan_id, tenant
    )
    return None if row is None else (row["trace_id"], Plan.model_validate(row["body"]))


async def _found(conn: Connection, filters: Filters, text: str) -> Filters:
    """Replace the searched text by the ids of the goals that contain all its words.

    If there are more than MOST_FOUND such goals, the filters are returned unchanged.
    """
    rows = await conn.fetch(
        "SELECT goals_with_words($1, $2, $3) AS goal_id", filters.tenant, text, MOST_FOUND + 1
    )
    if len(rows) > MOST_FOUND:
        return filters
    return filters._replace(text=None, goal_ids=[row["goal_id"] for row in rows])


async def _page(
    conn: Connection, select: str, filters: Filters, after: Position | None, limit: int
) -> list[Record]:
    given = {name: value for name, value in filters._asdict().items() if value is not None}
    conditions = [
        _CONDITIONS[name].format(f"${number}") for number, name in enumerate(given, start=1)
    ]
    values: list[object] = list(given.values())
    if after is not None:
        values += after
        conditions.append(f"(r.created_at, r.trace_id) < (${len(values) - 1}, ${len(values)})")
    where = " AND ".join(conditions)
    return await conn.fetch(
        f"{select} WHERE {where} ORDER BY r.created_at DESC, r.trace_id DESC LIMIT {limit:d}",
        *values,
    )


def _run_fields(row: Record) -> dict[str, Any]:
    fields = dict(row)
    outcome = fields.pop("outcome") or {}
    code, message = fields.pop("error_code"), fields.pop("error_message")
    return fields | {
        "title": outcome.get("title"),
        "missing": outcome.get("missing", {}),
        "refusal": outcome.get("refusal_reason"),
        "error": RunError(code=code, message=message or code) if code else None,
    }


def _goal(row: Record) -> GoalReport:
    fields = _run_fields(row)
    drafts = [DraftReport.model_validate(draft) for draft in fields.pop("drafts") or ()]
    best = drafts[0] if drafts else None
    evaluation = best.evaluation if best else None
    if fields["quality_score"] is None and evaluation:
        fields["quality_score"] = evaluation.overall
    if best:
        fields["title"] = best.resolution.title
    return GoalReport(
        **fields | {"clarified_goal": fields.pop("clarified")},
        resolution=best.resolution if best else None,
        evaluation=evaluation,
        plan=best.plan if best else None,
        quality_status=evaluation.status if evaluation else None,
        drafts=sorted(drafts, key=lambda draft: draft.resolution.draft) if drafts[1:] else [],
    )
