"""Spans that reached Opik too late for their own id keep the one that they were given instead."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE trace_outbox ADD COLUMN wire_id uuid")
    op.execute(
        """
        COMMENT ON COLUMN trace_outbox.wire_id IS
            'The id that Opik knows the row by, when its own was too old to be created'
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE trace_outbox DROP COLUMN wire_id")
