"""The prices of tokens in USD per million, by model and by the day of the call.

Source: Google's price list for the Gemini API (ai.google.dev/gemini-api/docs/pricing), paid tier,
standard, text, as transcribed by pydantic's genai-prices 0.2.3 (checked 2026-10-14 to 2026-10-15).
The prices of Carbon, Neon and Hydrogen are from Google's announcements of November 2026, that of
`gemini-2.0-flash` from Rein's specification (Google shut that model down on 1 June 2026). Thinking
tokens are billed as output. Amounts are Decimal, never float.
"""

import re
from datetime import date
from decimal import ROUND_UP, Decimal
from typing import NamedTuple

from domain.runs import Usage

MILLION = Decimal(1_000_000)
LONG_PROMPT = 200_000
# The smallest amount that the ledger stores. Costs are rounded up to it, so that their sum is never
# below the bill.
SMALLEST_USD = Decimal("1e-9")


class Price(NamedTuple):
    """The price of a model from the day `since` on, in USD per million tokens.

    The `long_*` prices hold for calls with more than 200,000 input tokens; None means that the
    price is the same as for shorter calls.
    """

    since: date
    input: Decimal
    output: Decimal
    cached: Decimal
    long_input: Decimal | None = None
    long_output: Decimal | None = None
    long_cached: Decimal | None = None


def _price(since: date, *figures: str) -> Price:
    return Price(since, *(Decimal(figure) for figure in figures))


# The prices of each model, the oldest first. A changed price is added as a new entry; the old entry
# stays for earlier calls. Changes that Google has announced for a later day are included.
PRICES: dict[str, list[Price]] = {
    "gemini-2.0-flash": [_price(date(2025, 2, 5), "0.075", "0.30", "0.01875")],
    "gemini-2.0-flash-lite": [_price(date(2025, 2, 25), "0.075", "0.30", "0.075")],
    "gemini-2.5-flash": [_price(date(2025, 6, 17), "0.30", "2.50", "0.03")],
    "gemini-2.5-flash-lite": [_price(date(2025, 7, 22), "0.10", "0.40", "0.01")],
    "gemini-2.5-pro": [_price(date(2025, 6, 17), "1.25", "10", "0.125", "2.50", "15", "0.25")],
    "gemini-3-flash": [_price(date(2025, 12, 17), "0.50", "3", "0.05")],
    "gemini-3-pro": [_price(date(2025, 11, 18), "2", "12", "0.20", "4", "18", "0.40")],
    "gemini-3.1-flash-lite": [_price(date(2026, 3, 3), "0.25", "1.50", "0.025")],
    "gemini-3.1-pro": [_price(date(2026, 2, 19), "2", "12", "0.20", "4", "18", "0.40")],
    "gemini-3.5-flash": [_price(date(2026, 5, 19), "1.50", "9", "0.15")],
    "gemini-3.5-flash-lite": [_price(date(2026, 7, 21), "0.30", "2.50", "0.03")],
    "gemini-3.6-flash": [
        _price(date(2026, 7, 21), "1.50", "7.50", "0.15"),
        # Google does not say from which day on the price is halved; it was halved on this day.
        _price(date(2026, 10, 14), "0.75", "3.75", "0.075"),
        _price(date(2027, 1, 1), "1.50", "7.50", "0.15"),
    ],
    "gemini-3.7-flash": [
        _price(date(2026, 8, 13), "0.75", "3.75", "0.075"),
        _price(date(2027, 1, 1), "1.50", "7.50", "0.15"),
    ],
    "gemini-3.8-flash": [
        _price(date(2026, 9, 2), "0.75", "3.75", "0.075"),
        _price(date(2027, 1, 1), "1.50", "7.50", "0.15"),
    ],
    "gemini-4-argon": [
        _price(date(2026, 9, 30), "2", "10", "0.10"),
        _price(date(2026, 12, 1), "4", "20", "0.20"),
    ],
    "gemini-4-carbon": [
        _price(date(2026, 11, 10), "2", "10", "0.10"),
        _price(date(2026, 12, 1), "4", "20", "0.20"),
    ],
    "gemini-4-neon": [_price(date(2026, 11, 18), "3", "15", "0.15")],
    "gemini-4-hydrogen": [_price(date(2026, 11, 18), "1.50", "7.50", "0.075")],
}
# The models that Google's alias names stood for in November 2026. The alias may point to another
# model later; an answer names the model that was served.
ALIASES = {
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
    "gemini-pro-latest": "gemini-3.1-pro",
}
# Suffixes of versions with the same price: -001, -latest, -preview, -preview-09-2025.
_VERSION = re.compile(r"-(?:\d{3}|latest|(?:preview|exp)(?:-\d{2}-\d{2,4})?)\Z")


def price(model: str, on: date) -> Price | None:
    """Return the price of a model on a day; None if the table has none."""
    name = model.removeprefix("models/")
    name = ALIASES.get(name, name)
    lines = PRICES.get(name) or PRICES.get(_VERSION.sub("", name), [])
    valid = [line for line in lines if line.since <= on]
    return valid[-1] if valid else None


def cost_usd(model: str, usage: Usage, on: date, *, served: str | None = None) -> Decimal | None:
    """Return the cost of a call; None (never 0) if the model's price is not known.

    `served` is the model that the answer names. Google bills that one, because it redirects
    requests for a discontinued model to the successor.
    """
    found = price(served or model, on)
    if found is None and served and served.startswith(model):
        found = price(model, on)  # `served` is a version of `model`
    return None if found is None else _sum(found, usage)


def reserve_usd(model: str, sent_bytes: int, max_output_tokens: int, on: date) -> Decimal | None:
    """Return the most that a call can cost, before it is made; None if the price is not known.

    Every token has at least one byte, so the input has at most `sent_bytes` tokens.
    """
    found = price(model, on)
    most = Usage(input_tokens=sent_bytes, output_tokens=max_output_tokens)
    return None if found is None else _sum(found, most)


def _sum(found: Price, usage: Usage) -> Decimal:
    long = usage.input_tokens > LONG_PROMPT
    input_price = (found.long_input if long else None) or found.input
    output_price = (found.long_output if long else None) or found.output
    cached_price = (found.long_cached if long else None) or found.cached
    cached = min(usage.cached_tokens, usage.input_tokens)
    written = usage.output_tokens + usage.thought_tokens
    total = (
        (usage.input_tokens - cached) * input_price + cached * cached_price + written * output_price
    )
    return (total / MILLION).quantize(SMALLEST_USD, ROUND_UP)
