"""What a trace's spans add up to, in SQL: tokens, cost and errors, failed attempts included."""

# Over `payload` and `finality`, where one row may stand for the spans that were forgotten.
_SUMMED = """
jsonb_build_object(
    'usage', jsonb_build_object(
        'prompt_tokens', sum((payload -> 'usage' ->> 'prompt_tokens')::bigint),
        'completion_tokens', sum((payload -> 'usage' ->> 'completion_tokens')::bigint),
        'total_tokens', sum((payload -> 'usage' ->> 'total_tokens')::bigint)),
    'total_estimated_cost', sum((payload ->> 'total_estimated_cost')::numeric),
    'calls_without_cost', sum(coalesce((payload ->> 'calls_without_cost')::bigint,
        (payload ? 'usage' AND NOT payload ? 'total_estimated_cost')::integer)),
    'errors', sum(coalesce((payload ->> 'errors')::bigint,
        (payload ? 'error_info' OR finality = 0)::integer)))
"""
# A sum in which a price is missing is no sum, so it is left out, and said.
_FACTS = """
jsonb_strip_nulls((sums -> 'usage') || jsonb_build_object(
    'cost_usd', CASE WHEN (sums -> 'calls_without_cost')::text IN ('0', 'null')
        THEN sums -> 'total_estimated_cost' END,
    'calls_without_cost', nullif(sums -> 'calls_without_cost', '0'),
    'errors', coalesce((sums ->> 'errors')::bigint, 0)))
"""

# As one row `totals`, of the trace $1.
TOTALS = f"""
SELECT {_FACTS} AS totals FROM (
    SELECT {_SUMMED} AS sums FROM (
        SELECT payload, finality FROM trace_outbox WHERE trace_id = $1 AND kind = 'span'
        UNION ALL
        SELECT forgotten, 2 FROM trace_outbox
        WHERE kind = 'trace' AND id = $1::uuid::text AND forgotten IS NOT NULL) AS every_span
    ) AS summed
"""  # noqa: S608 - constants

# A trace that has ended, when something was paid after its end.
RENEW_TOTALS = f"""
UPDATE trace_outbox o SET
    payload = o.payload || jsonb_build_object('metadata', coalesce(o.payload -> 'metadata', '{{}}')
        - ARRAY['cost_usd', 'calls_without_cost'] || totals),
    event_time = greatest(clock_timestamp(), o.event_time + interval '1 microsecond'),
    next_try_at = now(), state = 'pending', attempts = 0, error = NULL
FROM ({TOTALS}) AS renewed
WHERE o.kind = 'trace' AND o.id = $1::uuid::text
"""  # noqa: S608 - constants

# Deletes spans and scores that were sent before $1 ago, at most $2 of them, and nothing of a trace
# that is still open. The trace keeps what they add to its totals.
FORGET = f"""
WITH old AS (
    SELECT kind, id FROM trace_outbox o
    WHERE state = 'sent' AND kind IN ('span', 'score') AND sent_at < now() - $1::interval
        AND (SELECT t.finality FROM trace_outbox t
            WHERE t.kind = 'trace' AND t.id = o.trace_id::text) IS DISTINCT FROM 0
    LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM trace_outbox o USING old WHERE (o.kind, o.id) = (old.kind, old.id)
    RETURNING o.kind, o.trace_id, o.payload, o.finality
), kept AS (
    UPDATE trace_outbox t SET forgotten = (
        SELECT {_SUMMED} FROM (
            SELECT g.payload, g.finality FROM gone g
            WHERE g.kind = 'span' AND g.trace_id = spans.trace_id
            UNION ALL SELECT t.forgotten, 2 WHERE t.forgotten IS NOT NULL) AS every_span)
    FROM (SELECT DISTINCT trace_id FROM gone WHERE kind = 'span') AS spans
    WHERE t.kind = 'trace' AND t.id = spans.trace_id::text
)
SELECT count(*) FROM gone
"""  # noqa: S608 - constants
