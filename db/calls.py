"""SQL fragments on the model calls of the spend ledger, which several queries share."""

_AMOUNT = "CASE WHEN state = 'reserved' THEN reserved_usd ELSE cost_usd END"
_AT_MOST = "cost_at_most OR state = 'reserved'"
# These columns sum up the tokens and the cost of a run in a query over its model calls. A call
# counts at its reserve while it is under way, and also when its bill is unknown. If any call has no
# price, cost_usd is NULL.
SPENT = f"""
    coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(output_tokens + thought_tokens), 0) AS output_tokens,
    CASE WHEN bool_or({_AMOUNT} IS NULL) THEN NULL
         ELSE coalesce(sum({_AMOUNT}), 0) END AS cost_usd,
    count(*) FILTER (WHERE {_AT_MOST}) AS unknown_calls,
    coalesce(sum({_AMOUNT}) FILTER (WHERE {_AT_MOST}), 0) AS cost_unknown_usd
"""
# These assignments settle a reserved call as lost, because no process will store its answer any
# more.
LOSE = """
    state = 'unknown', finished_at = now(), cost_usd = reserved_usd, cost_at_most = true,
    error_code = 'CALL_LOST'
"""
# This expression gives a settled call as the JSON of the model SettledCall.
SETTLED_CALL = """
    jsonb_build_object(
        'call_id', call_id, 'attempt', attempt, 'model', model, 'state', state, 'span', span,
        'parent_span_id', parent_span_id, 'started_at', started_at, 'finished_at', finished_at,
        'usage', jsonb_build_object(
            'input_tokens', input_tokens, 'output_tokens', output_tokens,
            'thought_tokens', thought_tokens, 'cached_tokens', cached_tokens),
        'cost_usd', cost_usd::text, 'cost_at_most', cost_at_most, 'error_code', error_code)
"""
