"""Every kind of run, and an owner for every row: tenants, their keys, row-level security."""

from alembic import op

revision = "0002"
down_revision = "0001"

# A tenant's rows. Each has a tenant_id that is filled in from the transaction's own setting.
OWNED = (
    "runs",
    "run_events",
    "goals",
    "clarified_goals",
    "resolutions",
    "evaluation_metrics",
    "plans",
    "llm_calls",
    "feedback",
    "feedback_history",
    "idempotency_keys",
)
# The outbox holds traces of other workflows too, which no tenant owns.
OUTBOX = "trace_outbox"
NO_TENANT = "coalesce(nullif(current_setting('rein.tenant', true), ''), '-')"
MINE = "tenant_id = current_setting('rein.tenant', true)"

# Roles belong to the whole server, so another database may have made them already.
ROLES = """
    DO $$
    DECLARE role text;
    BEGIN
        FOREACH role IN ARRAY ARRAY['rein_application', 'rein_operations'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
                BEGIN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', role);
                EXCEPTION WHEN duplicate_object OR unique_violation THEN
                    NULL;  -- a migration of another database was faster
                END;
            END IF;
            IF NOT pg_has_role(current_user, role, 'SET') THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', role);
            END IF;
        END LOOP;
    END $$
"""

CALLERS = (
    """
    CREATE TABLE tenants (
        tenant_id         text PRIMARY KEY CHECK (tenant_id ~ '^[a-z][a-z0-9-]{0,39}$'),
        -- NULL in any of these: no limit
        runs_per_minute   integer CHECK (runs_per_minute >= 1),
        runs_in_flight    integer CHECK (runs_in_flight >= 1),
        allowed_models    text[] CHECK (cardinality(allowed_models) >= 1),
        usd_per_day       numeric(18, 9) CHECK (usd_per_day >= 0 AND usd_per_day < 'NaN'),
        usd_per_user_day  numeric(18, 9) CHECK (usd_per_user_day >= 0 AND usd_per_user_day < 'NaN'),
        -- when the tenant's next run is due at its even pace (GCRA's theoretical arrival time)
        next_run_at       timestamptz NOT NULL DEFAULT now(),
        created_at        timestamptz NOT NULL DEFAULT now()
    )
    """,
    "INSERT INTO tenants (tenant_id) VALUES ('local')",
    """
    CREATE TABLE api_keys (
        key_id     text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{12}$'),
        tenant_id  text NOT NULL REFERENCES tenants,
        name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
        secret_mac bytea NOT NULL CHECK (length(secret_mac) = 32),  -- HMAC-SHA-256 with the pepper
        scopes     text[] NOT NULL CHECK (cardinality(scopes) >= 1),
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        rolled_to  text REFERENCES api_keys
    )
    """,
    """
    CREATE TABLE idempotency_keys (
        tenant_id   text NOT NULL DEFAULT current_setting('rein.tenant'),
        key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
        fingerprint text NOT NULL,  -- SHA-256 of what the caller sent, and to which address
        -- deferred: the key is claimed before its run is stored
        trace_id    uuid NOT NULL REFERENCES runs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
        expires_at  timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, key)
    )
    """,
    "CREATE INDEX idempotency_keys_expired ON idempotency_keys (expires_at)",
)

# What was built for one kind of run, opened for all of them.
KINDS = (
    "ALTER TABLE runs DROP CONSTRAINT runs_stage_check",
    "ALTER TABLE run_events DROP CONSTRAINT run_events_stage_check",
    "ALTER TABLE llm_calls DROP CONSTRAINT llm_calls_stage_check",
    "ALTER TABLE runs ALTER COLUMN duration_ms TYPE bigint",
    # Comparing numeric is not leakproof, so under row-level security it could use no index.
    "ALTER TABLE runs ALTER COLUMN quality_score TYPE double precision",
    # The run whose person's words this one works on: its own, or another's that it starts from.
    "ALTER TABLE runs ADD COLUMN goal_id uuid",
    "UPDATE runs SET goal_id = trace_id",
    """
    INSERT INTO idempotency_keys (tenant_id, key, fingerprint, trace_id, expires_at)
    SELECT 'local', idempotency_key, request_sha256, trace_id, created_at + interval '1 day'
      FROM runs WHERE idempotency_key IS NOT NULL
    """,
    "ALTER TABLE runs DROP COLUMN idempotency_key, DROP COLUMN request_sha256",
    """
    CREATE TABLE clarified_goals (
        trace_id   uuid PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
        category   text NOT NULL,
        body       jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    INSERT INTO clarified_goals (trace_id, category, body, created_at)
    SELECT trace_id, category, clarified, clarified_at FROM goals WHERE clarified IS NOT NULL
    """,
    "ALTER TABLE goals DROP COLUMN clarified, DROP COLUMN category, DROP COLUMN clarified_at",
    # The API counts what a reader sees; some scripts write it in several code points.
    """
    ALTER TABLE goals DROP CONSTRAINT goals_goal_check,
                      ADD CONSTRAINT goals_goal_check CHECK (length(goal) BETWEEN 2 AND 12000),
                      ALTER COLUMN locale DROP NOT NULL, ADD COLUMN time_zone text
    """,
    # Who refused to work on a person's words, so that an operator finds those in a crisis.
    """
    ALTER TABLE runs ADD COLUMN refusal_code text
        GENERATED ALWAYS AS (outcome ->> 'refusal_code') STORED
    """,
    "ALTER TABLE resolutions DROP CONSTRAINT resolutions_draft_check",
    "ALTER TABLE resolutions ADD CONSTRAINT resolutions_draft_check CHECK (draft >= 1)",
    # Which draft a run ended with stands in its outcome; other runs may keep another one.
    "ALTER TABLE resolutions DROP COLUMN kept",
    "ALTER TABLE evaluation_metrics ADD COLUMN judge smallint NOT NULL DEFAULT 1",
    """
    ALTER TABLE evaluation_metrics
        DROP CONSTRAINT evaluation_metrics_trace_id_resolution_id_key,
        ADD UNIQUE (trace_id, resolution_id, judge)
    """,
)

# Lists are a tenant's own, so its id leads in what they are read by.
INDEXES = (
    "DROP INDEX runs_newest, runs_by_status, runs_by_user, runs_by_score",
    "CREATE INDEX runs_newest ON runs (tenant_id, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_status ON runs (tenant_id, status, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_user ON runs (tenant_id, user_id, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_score ON runs (tenant_id, quality_score) WHERE quality_score IS NOT NULL",
    """
    CREATE INDEX runs_by_refusal ON runs (tenant_id, refusal_code, created_at DESC, trace_id DESC)
     WHERE refusal_code IS NOT NULL
    """,
    "CREATE INDEX runs_in_flight ON runs (tenant_id) WHERE finished_at IS NULL",
)

# A condition on words is no index condition under row-level security, because its operator might
# tell of other people's rows; so the search runs as the operations role, on one tenant's goals.
SEARCH = (
    """
    CREATE FUNCTION goals_with_words(tenant text, words text) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT trace_id FROM goals
         WHERE to_tsvector('simple', goal) @@ websearch_to_tsquery('simple', words)
           AND tenant_id = tenant
    $$
    """,
    # A function runs as its owner, who must be allowed to make one at the moment of taking it over.
    "GRANT CREATE ON SCHEMA public TO rein_operations",
    "ALTER FUNCTION goals_with_words OWNER TO rein_operations",
    "REVOKE CREATE ON SCHEMA public FROM rein_operations",
    # PUBLIC may execute a new function; a tenant's words are nobody's but the tenant's.
    "REVOKE ALL ON FUNCTION goals_with_words FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goals_with_words TO rein_application",
)

GRANTS = (
    "GRANT USAGE ON SCHEMA public TO rein_application, rein_operations",
    "GRANT SELECT ON prompt_versions, trace_projects, tenants TO rein_application",
    "GRANT UPDATE (next_run_at) ON tenants TO rein_application",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO rein_operations",
)

COMMENTS = {
    "prompt_versions": "Prompts: immutable words, one row a version; of a stage, the newest "
    "deployed one is current",
    "tenants": "Who may call Rein, and within which limits",
    "api_keys": "The keys of tenants; the secret itself is stored nowhere",
    "idempotency_keys": "Which run a tenant's Idempotency-Key found, until it expires",
    "runs": "One row a run of any kind: what was asked, where it stands, how it ended",
    "run_events": "A run's progress, in the order in which it happened",
    "goals": "A person's words, as they came",
    "clarified_goals": "What the preprocess stage of a run made of a person's words",
    "resolutions": "What the generate stage of a run wrote, one row a draft",
    "evaluation_metrics": "The scores of a resolution by one judge of one run",
    "plans": "The weekly plan that a run made for a resolution",
    "llm_calls": "The spend ledger: one row a model call, reserved before it is made",
    "feedback": "What people say of a trace: one current row a person",
    "feedback_history": "What people said before they said something else",
    "trace_outbox": "Traces, spans and scores on their way to Opik",
    "trace_projects": "Opik's ids of projects, for links into its pages",
}

LIMITS_OF_0001 = (
    "ALTER TABLE runs DROP COLUMN refusal_code",
    "UPDATE goals SET locale = 'en' WHERE locale IS NULL",
    # Goals of two characters stay.
    """
    ALTER TABLE goals DROP CONSTRAINT goals_goal_check,
        ADD CONSTRAINT goals_goal_check CHECK (length(goal) BETWEEN 3 AND 4000) NOT VALID,
        ALTER COLUMN locale SET NOT NULL, DROP COLUMN time_zone
    """,
    "ALTER TABLE runs ADD CHECK (stage IN ('preprocess', 'generate', 'evaluate', 'plan'))",
    "ALTER TABLE run_events ADD CHECK (stage IN ('preprocess', 'generate', 'evaluate', 'plan'))",
    "ALTER TABLE llm_calls ADD CHECK (stage IN ('preprocess', 'generate', 'evaluate', 'plan'))",
    "ALTER TABLE runs ALTER COLUMN duration_ms TYPE integer",
    "ALTER TABLE runs ALTER COLUMN quality_score TYPE numeric(3, 1)",
    "ALTER TABLE runs ADD COLUMN idempotency_key text UNIQUE, ADD COLUMN request_sha256 text",
    """
    UPDATE runs r SET idempotency_key = k.key, request_sha256 = k.fingerprint
      FROM idempotency_keys k WHERE k.trace_id = r.trace_id AND k.tenant_id = 'local'
    """,
    "UPDATE runs SET request_sha256 = '' WHERE request_sha256 IS NULL",
    "ALTER TABLE runs ALTER COLUMN request_sha256 SET NOT NULL",
    """
    ALTER TABLE goals ADD COLUMN clarified jsonb, ADD COLUMN category text,
                      ADD COLUMN clarified_at timestamptz
    """,
    """
    UPDATE goals g SET clarified = c.body, category = c.category, clarified_at = c.created_at
      FROM clarified_goals c WHERE c.trace_id = g.trace_id
    """,
    "ALTER TABLE resolutions ADD COLUMN kept boolean NOT NULL DEFAULT false",
    """
    UPDATE resolutions s SET kept = true
      FROM runs r
     WHERE r.trace_id = s.trace_id AND r.outcome ->> 'resolution_id' = s.resolution_id::text
    """,
    "DELETE FROM resolutions WHERE draft > 2",
    "ALTER TABLE resolutions DROP CONSTRAINT resolutions_draft_check",
    "ALTER TABLE resolutions ADD CHECK (draft BETWEEN 1 AND 2)",
    "DELETE FROM evaluation_metrics WHERE judge > 1",
    """
    ALTER TABLE evaluation_metrics DROP COLUMN judge, ADD UNIQUE (trace_id, resolution_id)
    """,
    "CREATE INDEX runs_newest ON runs (created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_status ON runs (status, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_user ON runs (user_id, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_score ON runs (quality_score) WHERE quality_score IS NOT NULL",
)


def upgrade() -> None:
    op.execute(ROLES)
    for statement in (*CALLERS, *KINDS):
        op.execute(statement)
    for table in (*OWNED, OUTBOX):
        _give_to_local(table)
    for statement in INDEXES:
        op.execute(statement)
    op.execute("ALTER TABLE runs ADD FOREIGN KEY (tenant_id) REFERENCES tenants")
    for table in (*OWNED, OUTBOX):
        _wall(table)
    for statement in (*SEARCH, *GRANTS):
        op.execute(statement)
    for table, comment in COMMENTS.items():
        op.execute(f"COMMENT ON TABLE {table} IS '{comment.replace(chr(39), chr(39) * 2)}'")


def downgrade() -> None:
    op.execute("DROP FUNCTION goals_with_words")
    op.execute(
        "DROP INDEX runs_newest, runs_by_status, runs_by_user, runs_by_score, runs_in_flight"
    )
    for table in (*OWNED, OUTBOX):
        op.execute(f"DROP POLICY tenant ON {table}")
        op.execute(f"DROP POLICY operations ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    for statement in LIMITS_OF_0001:
        op.execute(statement)
    for table in ("idempotency_keys", "clarified_goals"):
        op.execute(f"DROP TABLE {table}")
    for table in (*OWNED, OUTBOX):
        if table not in ("idempotency_keys", "clarified_goals"):
            op.execute(f"ALTER TABLE {table} DROP COLUMN tenant_id")
    op.execute("ALTER TABLE runs DROP COLUMN goal_id")
    for table in ("api_keys", "tenants"):
        op.execute(f"DROP TABLE {table}")
    # The roles stay: they belong to the server, and another database may use them.
    for role in ("rein_application", "rein_operations"):
        op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
        op.execute(f"REVOKE ALL ON SCHEMA public FROM {role}")


def _give_to_local(table: str) -> None:
    """Rows of before belong to the tenant `local`; later ones to their transaction's tenant."""
    if table != "idempotency_keys":
        op.execute(f"ALTER TABLE {table} ADD COLUMN tenant_id text NOT NULL DEFAULT 'local'")
    default = NO_TENANT if table == OUTBOX else "current_setting('rein.tenant')"
    op.execute(f"ALTER TABLE {table} ALTER COLUMN tenant_id SET DEFAULT {default}")
    op.execute(f"ALTER TABLE {table} ADD CHECK (tenant_id <> '')")


def _wall(table: str) -> None:
    """A tenant's transaction meets the tenant's rows alone; without a tenant it meets none."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO rein_application USING ({MINE})")
    op.execute(f"CREATE POLICY operations ON {table} TO rein_operations USING (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO rein_application")
