"""Goals and what became of them: clarified goal, resolutions, evaluations, plans."""

from uuid import UUID

from db.pool import Connection
from domain.evaluations import Evaluation
from domain.goals import ClarifiedGoal, GoalContext
from domain.plans import Plan
from domain.resolutions import Resolution


async def insert_goal(
    conn: Connection, trace_id: UUID, goal: str, locale: str, context: GoalContext
) -> None:
    """Store a person's words beside the run that works on them."""
    await conn.execute(
        "INSERT INTO goals (trace_id, goal, locale, context) VALUES ($1, $2, $3, $4)",
        trace_id,
        goal,
        locale,
        context.model_dump(mode="json", exclude_none=True),
    )


async def update_clarified_goal(conn: Connection, goal: ClarifiedGoal) -> ClarifiedGoal:
    """Store the clarified goal unless there is one; return the stored one."""
    stored = await conn.fetchval(
        """
        UPDATE goals
           SET clarified = coalesce(clarified, $2), category = coalesce(category, $3),
               clarified_at = coalesce(clarified_at, now())
         WHERE trace_id = $1
        RETURNING clarified
        """,
        goal.trace_id,
        goal,
        goal.category,
    )
    return ClarifiedGoal.model_validate(stored)


async def insert_resolution(conn: Connection, trace_id: UUID, resolution: Resolution) -> Resolution:
    """Store a draft under its number; return the stored one (the first that came)."""
    stored = await conn.fetchval(
        """
        INSERT INTO resolutions (resolution_id, trace_id, draft, title, body)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (trace_id, draft) DO UPDATE SET draft = excluded.draft
        RETURNING body
        """,
        resolution.resolution_id,
        trace_id,
        resolution.draft,
        resolution.title,
        resolution,
    )
    return Resolution.model_validate(stored)


async def insert_evaluation(conn: Connection, trace_id: UUID, evaluation: Evaluation) -> Evaluation:
    """Store the scores of a resolution; return the stored ones (the first that came)."""
    stored = await conn.fetchval(
        """
        INSERT INTO evaluation_metrics (evaluation_id, trace_id, resolution_id, clarity,
                                        specificity, measurability, actionability, overall,
                                        status, body)
        VALUES ($1, $2, $3, $4::float8, $5::float8, $6::float8, $7::float8, $8::float8, $9, $10)
        ON CONFLICT (trace_id, resolution_id) DO UPDATE SET overall = evaluation_metrics.overall
        RETURNING body
        """,
        evaluation.evaluation_id,
        trace_id,
        evaluation.resolution_id,
        evaluation.clarity.score,
        evaluation.specificity.score,
        evaluation.measurability.score,
        evaluation.actionability.score,
        evaluation.overall,
        evaluation.status,
        evaluation,
    )
    return Evaluation.model_validate(stored)


async def insert_plan(conn: Connection, trace_id: UUID, plan: Plan) -> Plan:
    """Store the plan of a resolution; return the stored one (the first that came)."""
    stored = await conn.fetchval(
        """
        INSERT INTO plans (plan_id, trace_id, resolution_id, starts_on, ends_on, weeks, body)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (trace_id, resolution_id) DO UPDATE SET weeks = plans.weeks
        RETURNING body
        """,
        plan.plan_id,
        trace_id,
        plan.resolution_id,
        plan.starts_on,
        plan.ends_on,
        len(plan.weeks),
        plan,
    )
    return Plan.model_validate(stored)


async def update_kept_resolution(conn: Connection, trace_id: UUID, resolution_id: UUID) -> None:
    """Mark the draft that the run ended with."""
    await conn.execute(
        "UPDATE resolutions SET kept = (resolution_id = $2) WHERE trace_id = $1",
        trace_id,
        resolution_id,
    )


async def select_clarified_goal(conn: Connection, trace_id: UUID) -> ClarifiedGoal | None:
    """The clarified goal of a run; None before its preprocess stage is done."""
    stored = await conn.fetchval("SELECT clarified FROM goals WHERE trace_id = $1", trace_id)
    return None if stored is None else ClarifiedGoal.model_validate(stored)


async def select_kept_resolution(conn: Connection, trace_id: UUID) -> Resolution | None:
    """The draft a run ended with; the newest one when it has not ended."""
    stored = await conn.fetchval(
        "SELECT body FROM resolutions WHERE trace_id = $1 ORDER BY kept DESC, draft DESC LIMIT 1",
        trace_id,
    )
    return None if stored is None else Resolution.model_validate(stored)


async def select_evaluation(
    conn: Connection, trace_id: UUID, resolution_id: UUID
) -> Evaluation | None:
    """The scores that a run gave to a resolution."""
    stored = await conn.fetchval(
        "SELECT body FROM evaluation_metrics WHERE trace_id = $1 AND resolution_id = $2",
        trace_id,
        resolution_id,
    )
    return None if stored is None else Evaluation.model_validate(stored)


async def select_plan(conn: Connection, trace_id: UUID, resolution_id: UUID) -> Plan | None:
    """The plan that a run made for a resolution."""
    stored = await conn.fetchval(
        "SELECT body FROM plans WHERE trace_id = $1 AND resolution_id = $2",
        trace_id,
        resolution_id,
    )
    return None if stored is None else Plan.model_validate(stored)


async def select_last_evaluation(
    conn: Connection, trace_id: UUID, evaluation_id: UUID | None
) -> Evaluation | None:
    """The evaluation a run ended with, or the newest one of a run that did not come that far."""
    stored = await conn.fetchval(
        """
        SELECT body
          FROM evaluation_metrics
         WHERE trace_id = $1 AND ($2::uuid IS NULL OR evaluation_id = $2)
         ORDER BY created_at DESC
         LIMIT 1
        """,
        trace_id,
        evaluation_id,
    )
    return None if stored is None else Evaluation.model_validate(stored)
