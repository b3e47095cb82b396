"""Goals and what became of them: clarified goal, resolutions, evaluations, plans."""

from uuid import UUID

from db.pool import Connection
from domain.evaluations import Evaluation
from domain.goals import ClarifiedGoal, GoalRequest
from domain.plans import Plan
from domain.resolutions import Resolution


async def insert_goal(conn: Connection, request: GoalRequest) -> None:
    """Store a person's words beside the run that works on them."""
    await conn.execute(
        """
        INSERT INTO goals (trace_id, goal, locale, time_zone, context)
        VALUES ($1, $2, $3, $4, $5)
        """,
        request.trace_id,
        request.goal,
        request.locale,
        request.time_zone,
        request.context.model_dump(mode="json", exclude_defaults=True),
    )


async def insert_clarified_goal(conn: Connection, goal: ClarifiedGoal) -> ClarifiedGoal:
    """Store what a run made of a person's words; return the stored one (the first that came)."""
    stored = await conn.fetchval(
        """
        INSERT INTO clarified_goals (trace_id, category, body)
        VALUES ($1, $2, $3)
        ON CONFLICT (trace_id) DO UPDATE SET category = clarified_goals.category
        RETURNING body
        """,
        goal.trace_id,
        goal.category,
        goal,
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
        ON CONFLICT (trace_id, resolution_id, judge)
        DO UPDATE SET overall = evaluation_metrics.overall
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


async def select_clarified_goal(conn: Connection, trace_id: UUID) -> ClarifiedGoal | None:
    """The goal as a run clarified it; None before its preprocess stage is done."""
    stored = await conn.fetchval("SELECT body FROM clarified_goals WHERE trace_id = $1", trace_id)
    return None if stored is None else ClarifiedGoal.model_validate(stored)


async def select_resolution(conn: Connection, resolution_id: UUID) -> Resolution | None:
    """A resolution, whichever run wrote it."""
    stored = await conn.fetchval(
        "SELECT body FROM resolutions WHERE resolution_id = $1", resolution_id
    )
    return None if stored is None else Resolution.model_validate(stored)


async def select_evaluation(conn: Connection, evaluation_id: UUID) -> Evaluation | None:
    """An evaluation, whichever run made it."""
    stored = await conn.fetchval(
        "SELECT body FROM evaluation_metrics WHERE evaluation_id = $1", evaluation_id
    )
    return None if stored is None else Evaluation.model_validate(stored)


async def select_last_evaluation(conn: Connection, trace_id: UUID) -> Evaluation | None:
    """The newest evaluation that a run made."""
    stored = await conn.fetchval(
        """
        SELECT body FROM evaluation_metrics WHERE trace_id = $1 ORDER BY created_at DESC LIMIT 1
        """,
        trace_id,
    )
    return None if stored is None else Evaluation.model_validate(stored)


async def select_plan(conn: Connection, plan_id: UUID) -> Plan | None:
    """A plan, whichever run made it."""
    stored = await conn.fetchval("SELECT body FROM plans WHERE plan_id = $1", plan_id)
    return None if stored is None else Plan.model_validate(stored)
