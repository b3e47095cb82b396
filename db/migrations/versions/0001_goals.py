"""Everything a goal needs: runs, results, feedback, prompts, the ledger and the trace outbox."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    """
    CREATE TABLE prompt_versions (
        stage       text NOT NULL,
        version     integer NOT NULL CHECK (version >= 1),
        sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
        body        text NOT NULL,
        origin      text NOT NULL DEFAULT 'file' CHECK (origin IN ('file', 'model', 'person')),
        parent      integer,
        deployed_at timestamptz,  -- the newest one of a stage is the current version
        created_at  timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (stage, version),
        FOREIGN KEY (stage, parent) REFERENCES prompt_versions
    )
    """,
    """
    CREATE TABLE runs (
        trace_id        uuid PRIMARY KEY,
        kind            text NOT NULL,
        status          text NOT NULL DEFAULT 'accepted' CHECK (status IN (
            'accepted', 'running', 'success', 'partial', 'refused', 'failed', 'cancelled',
            'terminated', 'timed_out')),
        stage           text CHECK (stage IN ('preprocess', 'generate', 'evaluate', 'plan')),
        user_id         text NOT NULL,
        pseudonym       text NOT NULL,
        workflow_id     text NOT NULL UNIQUE,
        workflow_run_id text,
        idempotency_key text UNIQUE,
        request_sha256  text NOT NULL,
        request         jsonb NOT NULL,  -- the workflow's input: the reconciler can start it
        manifest        jsonb NOT NULL,
        source_trace_id uuid REFERENCES runs,  -- the run that this one repeats from a stage
        quality_score   numeric(3, 1) CHECK (quality_score BETWEEN 0 AND 10),
        error_code      text,
        error_message   text,
        outcome         jsonb,
        input_tokens    bigint NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
        output_tokens   bigint NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
        cost_usd        numeric(18, 9) CHECK (cost_usd >= 0 AND cost_usd < 'NaN'),
        duration_ms     integer CHECK (duration_ms >= 0),
        last_seq        integer NOT NULL DEFAULT 0,
        created_at      timestamptz NOT NULL DEFAULT now(),
        started_at      timestamptz,
        finished_at     timestamptz,
        CHECK ((finished_at IS NULL) = (status IN ('accepted', 'running'))),
        CHECK (status <> 'failed' OR error_code IS NOT NULL)
    ) WITH (fillfactor = 50)  -- every event updates the row: there is room for it on its page
    """,
    "CREATE INDEX runs_newest ON runs (created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_status ON runs (status, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_user ON runs (user_id, created_at DESC, trace_id DESC)",
    "CREATE INDEX runs_by_score ON runs (quality_score) WHERE quality_score IS NOT NULL",
    "CREATE INDEX runs_unfinished ON runs (created_at) WHERE finished_at IS NULL",
    """
    CREATE TABLE run_events (
        trace_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
        seq      integer NOT NULL CHECK (seq >= 1),
        key      text NOT NULL,  -- chosen by the writer: the same step writes its event once
        kind     text NOT NULL CHECK (kind IN (
            'accepted', 'stage_started', 'stage_retrying', 'stage_finished', 'stage_failed',
            'finished')),
        stage    text CHECK (stage IN ('preprocess', 'generate', 'evaluate', 'plan')),
        message  text NOT NULL,
        data     jsonb NOT NULL DEFAULT '{}',
        at       timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (trace_id, seq),
        UNIQUE (trace_id, key)
    )
    """,
    """
    CREATE TABLE goals (
        trace_id     uuid PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
        goal         text NOT NULL CHECK (length(goal) BETWEEN 3 AND 4000),
        locale       text NOT NULL,
        context      jsonb NOT NULL DEFAULT '{}',
        clarified    jsonb,  -- the ClarifiedGoal, once the preprocess stage is done
        category     text,
        clarified_at timestamptz,
        created_at   timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX goals_text ON goals USING gin (to_tsvector('simple', goal))",
    """
    CREATE TABLE resolutions (
        resolution_id uuid PRIMARY KEY,
        trace_id      uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
        draft         smallint NOT NULL CHECK (draft BETWEEN 1 AND 2),
        title         text NOT NULL,
        body          jsonb NOT NULL,
        kept          boolean NOT NULL DEFAULT false,  -- the draft that the run ended with
        created_at    timestamptz NOT NULL DEFAULT now(),
        UNIQUE (trace_id, draft)
    )
    """,
    """
    CREATE TABLE evaluation_metrics (
        evaluation_id uuid PRIMARY KEY,
        trace_id      uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
        resolution_id uuid NOT NULL REFERENCES resolutions ON DELETE CASCADE,
        clarity       numeric(3, 1) NOT NULL CHECK (clarity BETWEEN 0 AND 10),
        specificity   numeric(3, 1) NOT NULL CHECK (specificity BETWEEN 0 AND 10),
        measurability numeric(3, 1) NOT NULL CHECK (measurability BETWEEN 0 AND 10),
        actionability numeric(3, 1) NOT NULL CHECK (actionability BETWEEN 0 AND 10),
        overall       numeric(3, 1) NOT NULL CHECK (overall BETWEEN 0 AND 10),
        status        text NOT NULL CHECK (
            status IN ('EXCELLENT', 'GOOD QUALITY', 'FAIR', 'NEEDS WORK')),
        body          jsonb NOT NULL,
        created_at    timestamptz NOT NULL DEFAULT now(),
        UNIQUE (trace_id, resolution_id)
    )
    """,
    """
    CREATE TABLE plans (
        plan_id       uuid PRIMARY KEY,
        trace_id      uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
        resolution_id uuid NOT NULL REFERENCES resolutions ON DELETE CASCADE,
        starts_on     date NOT NULL,
        ends_on       date NOT NULL CHECK (ends_on >= starts_on),
        weeks         smallint NOT NULL CHECK (weeks BETWEEN 1 AND 26),
        body          jsonb NOT NULL,
        created_at    timestamptz NOT NULL DEFAULT now(),
        UNIQUE (trace_id, resolution_id)
    )
    """,
    """
    CREATE TABLE llm_calls (
        call_id        uuid PRIMARY KEY,  -- the id of the call's span
        trace_id       uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
        stage          text NOT NULL CHECK (
            stage IN ('preprocess', 'generate', 'evaluate', 'plan')),
        request_sha256 text NOT NULL,  -- of model, prompt, parameters and text
        attempt        integer NOT NULL CHECK (attempt >= 1),
        repair         boolean NOT NULL DEFAULT false,
        model          text NOT NULL,
        prompt_stage   text NOT NULL,
        prompt_version integer NOT NULL,
        state          text NOT NULL DEFAULT 'reserved' CHECK (
            state IN ('reserved', 'answered', 'failed', 'unknown')),
        -- NaN is a numeric, and larger than every number: `>= 0` alone lets it in.
        reserved_usd   numeric(18, 9) CHECK (reserved_usd >= 0 AND reserved_usd < 'NaN'),
        -- NULL: unknown model
        cost_usd       numeric(18, 9) CHECK (cost_usd >= 0 AND cost_usd < 'NaN'),
        input_tokens   integer NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
        output_tokens  integer NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
        thought_tokens integer NOT NULL DEFAULT 0 CHECK (thought_tokens >= 0),
        cached_tokens  integer NOT NULL DEFAULT 0 CHECK (cached_tokens >= 0),
        model_version  text,
        finish_reason  text,
        answer         text CHECK (length(answer) <= 262144),
        error_code     text,
        started_at     timestamptz NOT NULL,
        finished_at    timestamptz,
        CHECK ((state = 'reserved') = (finished_at IS NULL)),
        CHECK (state <> 'answered' OR answer IS NOT NULL)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX llm_calls_answers ON llm_calls (trace_id, stage, request_sha256)",
    """
    CREATE TABLE feedback (
        feedback_id     uuid PRIMARY KEY,
        trace_id        uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
        user_id         text NOT NULL,
        rating          numeric(2, 1) NOT NULL CHECK (
            rating BETWEEN 1 AND 5 AND rating * 2 = trunc(rating * 2)),
        usefulness      boolean,
        clarity         boolean,
        motivation      boolean,
        personalization boolean,
        comment         text CHECK (length(comment) <= 2000),
        revision        integer NOT NULL DEFAULT 1 CHECK (revision >= 1),
        created_at      timestamptz NOT NULL DEFAULT now(),
        updated_at      timestamptz NOT NULL DEFAULT now(),
        UNIQUE (trace_id, user_id)
    )
    """,
    """
    CREATE TABLE feedback_history (
        feedback_id     uuid NOT NULL REFERENCES feedback ON DELETE CASCADE,
        trace_id        uuid NOT NULL,
        revision        integer NOT NULL CHECK (revision >= 1),
        rating          numeric(2, 1) NOT NULL CHECK (
            rating BETWEEN 1 AND 5 AND rating * 2 = trunc(rating * 2)),
        usefulness      boolean,
        clarity         boolean,
        motivation      boolean,
        personalization boolean,
        comment         text,
        replaced_at     timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (feedback_id, revision)
    )
    """,
    "CREATE INDEX feedback_history_by_trace ON feedback_history (trace_id)",
    """
    CREATE TABLE trace_outbox (
        kind        text NOT NULL CHECK (kind IN ('trace', 'span', 'score')),
        id          text NOT NULL,  -- the entity's uuid; for a score '<trace uuid>:<name>'
        trace_id    uuid NOT NULL,
        project     text NOT NULL,
        payload     jsonb NOT NULL,  -- the whole row as Opik takes it
        event_time  timestamptz NOT NULL,  -- becomes last_updated_at: the newest event wins
        -- 0 open, 1 presumed ended, 2 ended
        finality    smallint NOT NULL DEFAULT 2 CHECK (finality BETWEEN 0 AND 2),
        state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead')),
        attempts    integer NOT NULL DEFAULT 0,
        next_try_at timestamptz NOT NULL DEFAULT now(),
        -- Opik has some version of the row since then; -infinity: it had one, and may have lost it
        sent_at     timestamptz,
        wire_id     uuid,   -- the id that Opik knows it by, when its own was too old to be created
        forgotten   jsonb,  -- what the deleted spans of this trace add to its totals
        error       text,
        created_at  timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (kind, id)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX trace_outbox_due ON trace_outbox (kind, next_try_at) WHERE state = 'pending'",
    "CREATE INDEX trace_outbox_dead ON trace_outbox (event_time) WHERE state = 'dead'",
    "CREATE INDEX trace_outbox_open ON trace_outbox (id) WHERE kind = 'trace' AND finality = 0",
    "CREATE INDEX trace_outbox_sent ON trace_outbox (kind, sent_at) WHERE state = 'sent'",
    "CREATE INDEX trace_outbox_by_trace ON trace_outbox (trace_id, kind)",
    """
    CREATE TABLE trace_projects (
        name       text PRIMARY KEY,
        project_id uuid NOT NULL,  -- Opik's id of the project, for links into its pages
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)

DROPPED = (
    "trace_projects",
    "trace_outbox",
    "feedback_history",
    "feedback",
    "llm_calls",
    "plans",
    "evaluation_metrics",
    "resolutions",
    "goals",
    "run_events",
    "runs",
    "prompt_versions",
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    for table in DROPPED:
        op.execute(f"DROP TABLE {table}")
