"""What a row of the outbox knows of its writer and of its delivery, so that each happens once."""

from alembic import op

revision = "0003"
down_revision = "0001"

COLUMNS = {
    # Temporal's attempt that wrote the span; a lower attempt never replaces a higher one's row.
    "attempt": "integer NOT NULL DEFAULT 0",
}


def upgrade() -> None:
    for name, definition in COLUMNS.items():
        op.execute(f"ALTER TABLE trace_outbox ADD COLUMN {name} {definition}")


def downgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE trace_outbox DROP COLUMN {name}")
