"""Goals are found by parts of their words in any script; a refused start is an event."""

from alembic import op

revision = "0004"
down_revision = "0003"

# `goal_words` is what is compared: without case, accents and forms of width. `goal_grams` is what
# is indexed: every part of a word that is one, two or three characters long, because some scripts
# put no spaces between words, and the tenant, which begins with a space like no such part.
WORDS = (
    r"""
    CREATE FUNCTION goal_words(goal text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT btrim(regexp_replace(lower(normalize(
                   regexp_replace(normalize(goal, NFKD), '[\u0300-\u036f]+', '', 'g'), NFC)),
               '\s+', ' ', 'g'))
    $$
    """,
    """
    CREATE FUNCTION goal_grams(words text, tenant text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT array_agg(DISTINCT gram) || (' ' || tenant)
          FROM (SELECT one, lead(one) OVER near AS two, lead(one, 2) OVER near AS three
                  FROM string_to_table(words, NULL) WITH ORDINALITY AS characters (one, n)
                WINDOW near AS (ORDER BY n)) AS parts,
               LATERAL (VALUES (one), (one || two), (one || two || three)) AS grams (gram)
         WHERE strpos(gram, ' ') = 0
    $$
    """,
    "ALTER TABLE goals ADD COLUMN words text GENERATED ALWAYS AS (goal_words(goal)) STORED",
    "CREATE INDEX goals_grams ON goals USING gin (goal_grams(words, tenant_id))",
    # The runs of the goals that were found.
    "CREATE INDEX runs_by_goal ON runs (goal_id)",
)

# It stops at `most`: there are so many goals with a common word that their list is walked instead.
SEARCH = """
    CREATE FUNCTION goals_with_words(tenant text, wanted text, most integer) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT trace_id FROM goals
         WHERE goal_grams(words, tenant_id) @> (
                   SELECT array_agg(gram) || (' ' || tenant)
                     FROM unnest(string_to_array(goal_words(wanted), ' ')) AS word,
                          generate_series(1, greatest(1, length(word) - 2)) AS n,
                          substr(word, n, 3) AS gram)
           AND NOT EXISTS (
                   SELECT FROM unnest((SELECT string_to_array(goal_words(wanted), ' '))) AS word
                    WHERE strpos(words, word) = 0)
         LIMIT most
    $$
"""
SEARCH_OF_0002 = """
    CREATE FUNCTION goals_with_words(tenant text, words text) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT trace_id FROM goals
         WHERE to_tsvector('simple', goal) @@ websearch_to_tsquery('simple', words)
           AND tenant_id = tenant
    $$
"""
# A function runs as its owner, who must be allowed to make one at the moment of taking it over.
# PUBLIC may execute a new function; a tenant's words are nobody's but the tenant's.
OWNED = (
    "GRANT CREATE ON SCHEMA public TO rein_operations",
    "ALTER FUNCTION goals_with_words OWNER TO rein_operations",
    "REVOKE CREATE ON SCHEMA public FROM rein_operations",
    "REVOKE ALL ON FUNCTION goals_with_words FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION goals_with_words TO rein_application",
)

KINDS_OF_0003 = """
    'accepted', 'stage_started', 'stage_retrying', 'stage_finished', 'stage_failed', 'finished'
"""
KIND = """
    ALTER TABLE run_events
        DROP CONSTRAINT run_events_kind_check,
        ADD CONSTRAINT run_events_kind_check CHECK (kind IN ({}))
"""


def upgrade() -> None:
    op.execute(KIND.format(f"'start_refused', {KINDS_OF_0003}"))
    op.execute("DROP INDEX goals_text")
    op.execute("DROP FUNCTION goals_with_words")
    for statement in (*WORDS, SEARCH, *OWNED):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DELETE FROM run_events WHERE kind = 'start_refused'")
    op.execute(KIND.format(KINDS_OF_0003))
    op.execute("DROP FUNCTION goals_with_words")
    op.execute("DROP INDEX runs_by_goal, goals_grams")
    op.execute("ALTER TABLE goals DROP COLUMN words")
    op.execute("DROP FUNCTION goal_grams, goal_words")
    op.execute("CREATE INDEX goals_text ON goals USING gin (to_tsvector('simple', goal))")
    for statement in (SEARCH_OF_0002, *OWNED):
        op.execute(statement)
