"""Nonsense that was still taken is refused; every query has its index, every index its query."""

from alembic import op

revision = "0002"
down_revision = "0001"

# NaN is a numeric, and larger than every number: `>= 0` alone lets it in.
CONSTRAINTS = {
    ("runs", "runs_cost_is_a_number"): "cost_usd < 'NaN'",
    ("llm_calls", "llm_calls_cost_is_a_number"): "cost_usd < 'NaN' AND reserved_usd < 'NaN'",
    ("llm_calls", "llm_calls_settled_has_end"): "(state = 'reserved') = (finished_at IS NULL)",
    ("llm_calls", "llm_calls_answered_has_answer"): "state <> 'answered' OR answer IS NOT NULL",
    ("run_events", "run_events_kind_is_known"): """
        kind IN ('accepted', 'stage_started', 'stage_retrying', 'stage_finished', 'stage_failed',
                 'finished')""",
    ("run_events", "run_events_stage_is_known"): """
        stage IN ('preprocess', 'generate', 'evaluate', 'plan')""",
    ("feedback_history", "feedback_history_rating_is_stars"): """
        rating BETWEEN 1 AND 5 AND rating * 2 = trunc(rating * 2)""",
    ("feedback_history", "feedback_history_revision_counts"): "revision >= 1",
}

INDEXES = (
    "CREATE INDEX runs_by_user ON runs (user_id, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_score ON runs (quality_score) WHERE quality_score IS NOT NULL",
    "CREATE INDEX feedback_history_by_trace ON feedback_history (trace_id)",
)

NEEDLESS = (
    """
    CREATE INDEX evaluation_metrics_by_resolution
        ON evaluation_metrics (resolution_id, created_at DESC)
    """,
    "CREATE INDEX feedback_by_time ON feedback (updated_at)",
)


def upgrade() -> None:
    for (table, name), condition in CONSTRAINTS.items():
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition})")
    for statement in INDEXES:
        op.execute(statement)
    op.execute("DROP INDEX evaluation_metrics_by_resolution, feedback_by_time")


def downgrade() -> None:
    for statement in NEEDLESS:
        op.execute(statement)
    op.execute("DROP INDEX runs_by_user, runs_by_score, feedback_history_by_trace")
    for table, name in CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
