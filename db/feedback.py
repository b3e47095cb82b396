"""Feedback: what each person currently says about a trace, and the earlier feedback."""

from uuid import UUID

from db.pool import Connection
from domain.feedback import Feedback, FeedbackSubmission, FeedbackTotals


async def insert_feedback(
    conn: Connection, feedback_id: UUID, sent: FeedbackSubmission
) -> Feedback | None:
    """Store a person's first feedback on a trace.

    None means that the person has already given feedback on this trace, and nothing was stored.
    """
    row = await conn.fetchrow(
        """
        INSERT INTO feedback (feedback_id, trace_id, user_id, rating, usefulness, clarity,
                              motivation, personalization, comment)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (trace_id, user_id) DO NOTHING
        RETURNING feedback_id, trace_id, user_id, rating, usefulness, clarity, motivation,
                  personalization, comment, revision, created_at, updated_at
        """,
        feedback_id,
        sent.trace_id,
        sent.user_id,
        sent.rating,
        sent.usefulness,
        sent.clarity,
        sent.motivation,
        sent.personalization,
        sent.comment,
    )
    return None if row is None else Feedback.model_validate(dict(row))


async def lock_feedback(conn: Connection, trace_id: UUID, user_id: str) -> Feedback:
    """Return a person's current feedback on a trace and lock it until the transaction ends."""
    row = await conn.fetchrow(
        """
        SELECT feedback_id, trace_id, user_id, rating, usefulness, clarity, motivation,
               personalization, comment, revision, created_at, updated_at
          FROM feedback
         WHERE trace_id = $1 AND user_id = $2
           FOR UPDATE
        """,
        trace_id,
        user_id,
    )
    return Feedback.model_validate(dict(row or {}))


async def insert_feedback_history(conn: Connection, old: Feedback) -> None:
    """Copy the feedback that is about to be replaced into the history."""
    await conn.execute(
        """
        INSERT INTO feedback_history (feedback_id, trace_id, revision, rating, usefulness, clarity,
                                      motivation, personalization, comment)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        old.feedback_id,
        old.trace_id,
        old.revision,
        old.rating,
        old.usefulness,
        old.clarity,
        old.motivation,
        old.personalization,
        old.comment,
    )


async def update_feedback(
    conn: Connection, feedback_id: UUID, sent: FeedbackSubmission
) -> Feedback:
    """Replace a person's current feedback and return the new one, with its revision counted up."""
    row = await conn.fetchrow(
        """
        UPDATE feedback
           SET rating = $2, usefulness = $3, clarity = $4, motivation = $5, personalization = $6,
               comment = $7, revision = revision + 1, updated_at = now()
         WHERE feedback_id = $1
        RETURNING feedback_id, trace_id, user_id, rating, usefulness, clarity, motivation,
                  personalization, comment, revision, created_at, updated_at
        """,
        feedback_id,
        sent.rating,
        sent.usefulness,
        sent.clarity,
        sent.motivation,
        sent.personalization,
        sent.comment,
    )
    return Feedback.model_validate(dict(row or {}))


async def select_feedback(conn: Connection, trace_id: UUID) -> list[Feedback]:
    """Return the current feedback of all people on a trace, newest first and at most 100."""
    rows = await conn.fetch(
        """
        SELECT feedback_id, trace_id, user_id, rating, usefulness, clarity, motivation,
               personalization, comment, revision, created_at, updated_at
          FROM feedback
         WHERE trace_id = $1
         ORDER BY updated_at DESC
         LIMIT 100
        """,
        trace_id,
    )
    return [Feedback.model_validate(dict(row)) for row in rows]


async def select_feedback_totals(conn: Connection, trace_id: UUID) -> FeedbackTotals:
    """Return the totals of the current feedback of all people on a trace."""
    row = await conn.fetchrow(
        """
        SELECT count(*) AS people, avg(rating)::numeric(4, 2) AS average,
               jsonb_build_object(
                   'usefulness', avg(usefulness::int)::numeric(4, 3),
                   'clarity', avg(clarity::int)::numeric(4, 3),
                   'motivation', avg(motivation::int)::numeric(4, 3),
                   'personalization', avg(personalization::int)::numeric(4, 3)) AS shares,
               (SELECT comment FROM feedback
                 WHERE trace_id = $1 AND comment IS NOT NULL
                 ORDER BY updated_at DESC LIMIT 1) AS comment,
               (SELECT count(*) FROM feedback_history WHERE trace_id = $1) AS replaced
          FROM feedback
         WHERE trace_id = $1
        """,
        trace_id,
    )
    return FeedbackTotals.model_validate(dict(row or {}))
