"""Indexes that `/metrics` reads, and the shares of input and output in the cost of a run."""

from alembic import op

revision = "0006"
down_revision = "0005"

SHARES = ("cost_input_usd", "cost_output_usd")


def upgrade() -> None:
    op.execute(
        "CREATE INDEX runs_ended ON runs (finished_at, status) WHERE finished_at IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX llm_calls_unknown ON llm_calls (finished_at) INCLUDE (cost_usd)"
        " WHERE cost_at_most"
    )

    for share in SHARES:
        op.execute(
            f"ALTER TABLE runs ADD COLUMN {share} numeric(18, 9)"
            f" CHECK ({share} >= 0 AND {share} < 'NaN')"
        )


def downgrade() -> None:
    for share in SHARES:
        op.execute(f"ALTER TABLE runs DROP COLUMN {share}")
    op.execute("DROP INDEX runs_ended")
    op.execute("DROP INDEX llm_calls_unknown")
