"""What a row of the outbox knows of its writer and of its delivery, so that each happens once."""

from alembic import op

revision = "0003"
down_revision = "0002"

COLUMNS = {
    # Temporal's attempt that wrote the span; a lower attempt never replaces a higher one's row.
    "attempt": "integer NOT NULL DEFAULT 0",
    # Until then a shipper may be sending the trace's end. infinity: Opik has the end, and its rules
    # have judged the trace; -infinity: Opik may have it, so the shipper asks before it sends it.
    "end_lease": "timestamptz",
}


def upgrade() -> None:
    for name, definition in COLUMNS.items():
        op.execute(f"ALTER TABLE trace_outbox ADD COLUMN {name} {definition}")


def downgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE trace_outbox DROP COLUMN {name}")
