"""What tokens cost: USD per million, by model and by the day of the call.

Source: Google's price list for the Gemini API, paid tier, text, as of November 2026;
`gemini-2.0-flash` as the product's source document has it (Google shut that model down on
1 June 2026). Thinking tokens are billed as output. Money is Decimal, never float.
"""

from datetime import date
from decimal import Decimal
from typing import NamedTuple

from domain.runs import Usage

MILLION = Decimal(1_000_000)
# A rough upper bound for what a text can cost before the provider has counted its tokens.
CHARS_PER_TOKEN = 3
LONG_PROMPT = 200_000


class Price(NamedTuple):
    """USD per million tokens from `since` on; `long_*` beyond 200,000 input tokens."""

    since: date
    input: Decimal
    output: Decimal
    cached: Decimal
    long_input: Decimal | None = None
    long_output: Decimal | None = None


def _price(since: date, *figures: str) -> Price:
    return Price(since, *(Decimal(figure) for figure in figures))


# Newest last. A price that changes gets a new line; the old one stays for old calls.
PRICES: dict[str, list[Price]] = {
    "gemini-2.0-flash": [_price(date(2025, 2, 5), "0.075", "0.30", "0.01875")],
    "gemini-2.0-flash-lite": [_price(date(2025, 2, 25), "0.075", "0.30", "0.075")],
    "gemini-2.5-flash": [_price(date(2025, 6, 17), "0.30", "2.50", "0.03")],
    "gemini-2.5-flash-lite": [_price(date(2025, 7, 22), "0.10", "0.40", "0.01")],
    "gemini-2.5-pro": [_price(date(2025, 6, 17), "1.25", "10", "0.125", "2.50", "15")],
    "gemini-3.1-pro-preview": [_price(date(2026, 2, 19), "2", "12", "0.20", "4", "18")],
    "gemini-3.5-flash": [_price(date(2026, 5, 19), "1.50", "9", "0.15")],
    "gemini-3.5-flash-lite": [_price(date(2026, 7, 21), "0.30", "2.50", "0.03")],
    "gemini-3.8-flash": [
        _price(date(2026, 9, 2), "0.75", "3.75", "0.075"),
        _price(date(2027, 1, 1), "1.50", "7.50", "0.15"),
    ],
}


def price(model: str, on: date) -> Price | None:
    """The price of a model on a day; None when the table does not know it."""
    valid = [line for line in PRICES.get(model, []) if line.since <= on]
    return valid[-1] if valid else None


def cost_usd(model: str, usage: Usage, on: date) -> Decimal | None:
    """What a call cost, exactly; None for a model without a price (never 0)."""
    found = price(model, on)
    if found is None:
        return None
    long = usage.input_tokens > LONG_PROMPT
    input_price = (found.long_input if long else None) or found.input
    output_price = (found.long_output if long else None) or found.output
    fresh = usage.input_tokens - usage.cached_tokens
    written = usage.output_tokens + usage.thought_tokens
    total = fresh * input_price + usage.cached_tokens * found.cached + written * output_price
    return total / MILLION


def reserve_usd(model: str, chars: int, max_output_tokens: int, on: date) -> Decimal | None:
    """The most that a call can cost, known before it is made."""
    most = Usage(input_tokens=-(-chars // CHARS_PER_TOKEN), output_tokens=max_output_tokens)
    return cost_usd(model, most, on)
