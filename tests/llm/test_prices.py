"""Money: exact, by the day, never zero for an unknown model."""

from datetime import date
from decimal import Decimal

import pytest

from domain.runs import Usage
from llm.prices import PRICES, cost_usd, price, reserve_usd

TODAY = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "times", "cost"),
    [
        (512, 456, 1, "0.0001752"),
        (1649, 879, 1, "0.000387375"),
        (512, 456, 100, "0.01752"),
    ],
)
def test_the_source_documents_sums(
    input_tokens: int, output_tokens: int, times: int, cost: str
) -> None:
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    one = cost_usd("gemini-2.0-flash", usage, TODAY)
    assert one is not None
    assert one * times == Decimal(cost)


def test_thoughts_are_billed_as_output_and_cached_input_is_cheaper() -> None:
    usage = Usage(input_tokens=1000, cached_tokens=400, output_tokens=100, thought_tokens=50)
    cost = cost_usd("gemini-2.5-flash", usage, TODAY)
    assert cost == (600 * Decimal("0.30") + 400 * Decimal("0.03") + 150 * Decimal("2.50")) / 10**6


def test_an_unknown_model_has_no_price() -> None:
    assert cost_usd("gemini-99", Usage(input_tokens=1), TODAY) is None


def test_a_price_is_valid_from_its_day_on() -> None:
    first = PRICES["gemini-2.0-flash"][0].since
    assert price("gemini-2.0-flash", date(2024, 1, 1)) is None
    assert price("gemini-2.0-flash", first) is not None


def test_a_promotion_ends_on_its_day() -> None:
    def output_price(day: date) -> Decimal:
        found = price("gemini-3.8-flash", day)
        assert found is not None
        return found.output

    assert output_price(date(2027, 1, 1)) == 2 * output_price(date(2026, 12, 31))


def test_long_prompts_of_pro_cost_more() -> None:
    def cost(tokens: int) -> Decimal:
        found = cost_usd("gemini-2.5-pro", Usage(input_tokens=tokens), TODAY)
        assert found is not None
        return found / tokens

    assert cost(200_001) == 2 * cost(200_000)


def test_the_reserve_is_never_below_the_cost() -> None:
    reserve = reserve_usd("gemini-2.0-flash", 6000, 1000, TODAY)
    cost = cost_usd("gemini-2.0-flash", Usage(input_tokens=2000, output_tokens=1000), TODAY)
    assert reserve is not None
    assert cost is not None
    assert reserve >= cost
