"""What the outbox must remember of a row: the id that Opik knows it by, the spans it forgot."""

from alembic import op

revision = "0002"
down_revision = "0001"

UP = (
    "ALTER TABLE trace_outbox ADD COLUMN wire_id uuid, ADD COLUMN forgotten jsonb",
    """
    COMMENT ON COLUMN trace_outbox.wire_id IS
        'The id that Opik knows the row by, when its own was too old to be created'
    """,
    """
    COMMENT ON COLUMN trace_outbox.forgotten IS
        'What the spans of this trace that were deleted add to its totals'
    """,
    # Traces stay, so whoever looks for what may be deleted must not meet them.
    "DROP INDEX trace_outbox_sent",
    "CREATE INDEX trace_outbox_sent ON trace_outbox (kind, sent_at) WHERE state = 'sent'",
)
DOWN = (
    "DROP INDEX trace_outbox_sent",
    "CREATE INDEX trace_outbox_sent ON trace_outbox (sent_at) WHERE state = 'sent'",
    "ALTER TABLE trace_outbox DROP COLUMN wire_id, DROP COLUMN forgotten",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
