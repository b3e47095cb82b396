"""Money that may have been spent counts, and a dead worker is noticed: workers, costs at most."""

from alembic import op

revision = "0005"
down_revision = "0004"

UP = (
    """
    CREATE TABLE workers (
        -- the key of the advisory lock that the process holds as long as it lives
        worker_id  integer PRIMARY KEY,
        identity   text NOT NULL,  -- as Temporal knows it
        started_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "COMMENT ON TABLE workers IS 'Worker processes; one whose advisory lock is free has died'",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO rein_operations",
    "GRANT SELECT ON workers TO rein_application",
    """
    ALTER TABLE llm_calls
        ADD COLUMN worker_id integer,  -- the process that makes the call
        ADD COLUMN span text NOT NULL DEFAULT 'llm_call',
        ADD COLUMN parent_span_id uuid,
        -- cost_usd is the reserve, because nobody knows what was billed
        ADD COLUMN cost_at_most boolean NOT NULL DEFAULT false
    """,
    """
    ALTER TABLE runs
        ADD COLUMN unknown_calls integer NOT NULL DEFAULT 0 CHECK (unknown_calls >= 0),
        -- the part of cost_usd that is reserves of calls whose bill is not known
        ADD COLUMN cost_unknown_usd numeric(18, 9) NOT NULL DEFAULT 0
            CHECK (cost_unknown_usd >= 0 AND cost_unknown_usd < 'NaN')
    """,
    # Everybody's rows, which row-level security hides even from their owner.
    "SET LOCAL ROLE rein_operations",
    "UPDATE llm_calls SET cost_usd = reserved_usd, cost_at_most = true WHERE state = 'unknown'",
    """
    UPDATE runs r
       SET unknown_calls = unknown.calls, cost_unknown_usd = coalesce(unknown.usd, 0),
           cost_usd = r.cost_usd + unknown.usd
      FROM (SELECT trace_id, count(*) AS calls, sum(cost_usd) AS usd
              FROM llm_calls WHERE cost_at_most GROUP BY trace_id) AS unknown
     WHERE unknown.trace_id = r.trace_id AND r.finished_at IS NOT NULL
    """,
    "RESET ROLE",
)
DOWN = (
    "SET LOCAL ROLE rein_operations",
    "UPDATE runs SET cost_usd = cost_usd - cost_unknown_usd WHERE unknown_calls > 0",
    "UPDATE llm_calls SET cost_usd = 0 WHERE state = 'unknown'",
    "RESET ROLE",
    "ALTER TABLE runs DROP COLUMN unknown_calls, DROP COLUMN cost_unknown_usd",
    """
    ALTER TABLE llm_calls DROP COLUMN worker_id, DROP COLUMN span, DROP COLUMN parent_span_id,
                          DROP COLUMN cost_at_most
    """,
    "DROP TABLE workers",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
