"""Goals and what runs made of them: clarified goals, resolutions, evaluations and plans."""

from uuid import UUID

from db.pool import Connection
from domain.evaluations import Evaluation
from domain.goals import ClarifiedGoal, GoalRequest
from domain.plans import Plan
from domain.resolutions import Resolution


async def insert_goal(conn: Connection, request: GoalRequest) -> None:
    """Store the goal in the person's own words, for the run that works on it."""
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
    """Store the goal as the run clarified it, and return the stored one.

    If an earlier attempt has stored one for this run, that one stays and is returned.
    """
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
    """Store a draft of the resolution under its draft number, and return the stored one.

    If an earlier attempt has stored this draft for the run, that one stays and is returned.
    """
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
    """Store the evaluation of a resolution, and return the stored one.

    If an earlier attempt has stored one of the same judge, that one stays and is returned.
    """
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
    """Store the plan for a resolution, and return the stored one.

    If an earlier attempt has stored one for the run, that one stays and is returned.
    """
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
    """Return the goal as a run clarified it, or None before the run's preprocess stage is done."""
    stored = await conn.fetchval("SELECT body FROM clarified_goals WHERE trace_id = $1", trace_id)
    return None if stored is None else ClarifiedGoal.model_validate(stored)


async def select_resolution(conn: Connection, resolution_id: UUID) -> Resolution | None:
    """Return a resolution of any run, or None when no resolution has this id."""
    stored = await conn.fetchval(
        "SELECT body FROM resolutions WHERE resolution_id = $1", resolution_id
    )
    return None if stored is None else Resolution.model_validate(stored)


async def select_evaluation(conn: Connection, evaluation_id: UUID) -> Evaluation | None:
    """Return an evaluation of any run, or None when no evaluation has this id."""
    stored = await conn.fetchval(
        "SELECT body FROM evaluation_metrics WHERE evaluation_id = $1", evaluation_id
    )
    return None if stored is None else Evaluation.model_validate(stored)


async def select_last_evaluation(conn: Connection, trace_id: UUID) -> Evaluation | None:
    """Return the newest evaluation that a run made, or None when it made none."""
    stored = await conn.fetchval(
        """
        SELECT body FROM evaluation_metrics WHERE trace_id = $1 ORDER BY created_at DESC LIMIT 1
        """,
        trace_id,
    )
    return None if stored is None else Evaluation.model_validate(stored)


async def select_plan(conn: Connection, plan_id: UUID) -> Plan | None:
    """Return a plan of any run, or None when no plan has this id."""
    stored = await conn.fetchval("SELECT body FROM plans WHERE plan_id = $1", plan_id)
    return None if stored is None else Plan.model_validate(stored)
