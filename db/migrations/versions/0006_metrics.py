"""Indexes that `/metrics` reads: what ended lately, and what may have been billed for nothing."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX runs_ended ON runs (finished_at, status) WHERE finished_at IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX llm_calls_unknown ON llm_calls (finished_at) INCLUDE (cost_usd)"
        " WHERE cost_at_most"
    )


def downgrade() -> None:
    op.execute("DROP INDEX runs_ended")
    op.execute("DROP INDEX llm_calls_unknown")
