"""How much of a run's cost its prompts make up, and how much the model's answers."""

from decimal import Decimal
from uuid import UUID

from db.pool import Connection
from db.runs import select_billed_calls, update_cost_shares
from domain.runs import Usage
from llm.prices import cost_usd


async def store_cost_shares(conn: Connection, trace_id: UUID) -> dict[str, Decimal]:
    """Store the dollars of input and output of an ended run; return them for its trace.

    They sum up the calls whose bill is known. Nothing is stored if one of them has no price.
    """
    total = of_input = Decimal(0)
    for call in await select_billed_calls(conn, trace_id):
        sent = Usage(input_tokens=call.input_tokens, cached_tokens=call.cached_tokens)
        share = cost_usd(call.model, sent, call.day, served=call.model_version)
        if share is None or call.cost_usd is None:
            return {}
        of_input += share
        total += call.cost_usd
    shares = {"cost_input_usd": of_input, "cost_output_usd": total - of_input}
    await update_cost_shares(conn, trace_id, **shares)
    return shares
