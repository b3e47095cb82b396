"""Calls of the spend ledger in SQL: what the statements of several features have in common."""

_AMOUNT = "CASE WHEN state = 'reserved' THEN reserved_usd ELSE cost_usd END"
_AT_MOST = "cost_at_most OR state = 'reserved'"
# What a run has used, as columns of a query over its calls. A call whose bill is not known counts
# at its reserve, from the moment at which it is reserved; without a price there is no sum.
SPENT = f"""
    coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(output_tokens + thought_tokens), 0) AS output_tokens,
    CASE WHEN bool_or({_AMOUNT} IS NULL) THEN NULL
         ELSE coalesce(sum({_AMOUNT}), 0) END AS cost_usd,
    count(*) FILTER (WHERE {_AT_MOST}) AS unknown_calls,
    coalesce(sum({_AMOUNT}) FILTER (WHERE {_AT_MOST}), 0) AS cost_unknown_usd
"""
# How a reserved call is settled when nobody will store its answer any more.
LOSE = """
    state = 'unknown', finished_at = now(), cost_usd = reserved_usd, cost_at_most = true,
    error_code = 'CALL_LOST'
"""
# A call that is over, as the JSON of a SettledCall.
SETTLED_CALL = """
    jsonb_build_object(
        'call_id', call_id, 'attempt', attempt, 'model', model, 'state', state, 'span', span,
        'parent_span_id', parent_span_id, 'started_at', started_at, 'finished_at', finished_at,
        'usage', jsonb_build_object(
            'input_tokens', input_tokens, 'output_tokens', output_tokens,
            'thought_tokens', thought_tokens, 'cached_tokens', cached_tokens),
        'cost_usd', cost_usd::text, 'cost_at_most', cost_at_most, 'error_code', error_code)
"""
