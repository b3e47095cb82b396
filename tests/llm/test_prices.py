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


@pytest.mark.parametrize(
    ("asked", "served", "priced"),
    [
        ("gemini-2.5-flash-001", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash-001", None, "gemini-2.5-flash"),
        ("gemini-2.0-flash-001", None, "gemini-2.0-flash"),
        ("gemini-2.5-flash-preview-09-2025", None, "gemini-2.5-flash"),
        ("models/gemini-3.1-pro-preview", None, "gemini-3.1-pro"),
        ("gemini-flash-latest", "gemini-3.6-flash", "gemini-3.6-flash"),
        ("gemini-flash-latest", None, "gemini-3.8-flash"),
        # Google serves a model that it gave up by its successor.
        ("gemini-3.5-flash", "gemini-3.6-flash", "gemini-3.6-flash"),
        ("gemini-3.5-flash", "gemini-3.5-flash-local-stand-in", "gemini-3.5-flash"),
    ],
)
def test_the_model_that_was_served_is_billed(asked: str, served: str | None, priced: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=1000)
    cost = cost_usd(asked, usage, TODAY, served=served)
    assert cost is not None
    assert cost == cost_usd(priced, usage, TODAY)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("gemini-flash-latest", "gemini-99-flash"),
        ("gemini-3.5-flash", "gemini-99-flash"),
        ("gemini-2.5-flash-image", None),
        ("gemini-2.5-flash-preview-tts", None),
    ],
)
def test_another_model_is_not_priced_like_its_cousin(asked: str, served: str | None) -> None:
    assert cost_usd(asked, Usage(output_tokens=1), TODAY, served=served) is None


@pytest.mark.parametrize(
    "model",
    ["gemini-3.1-flash-lite", "gemini-3.6-flash", "gemini-3.7-flash", "gemini-4-argon",
     "gemini-4-carbon", "gemini-4-neon", "gemini-4-hydrogen"],
)  # fmt: skip
def test_the_models_of_this_year_have_a_price(model: str) -> None:
    assert price(model, TODAY) is not None


@pytest.mark.parametrize("model", ["gemini-4-argon", "gemini-4-carbon"])
def test_the_first_of_december_is_known_before_it_comes(model: str) -> None:
    usage = Usage(input_tokens=500, output_tokens=500, cached_tokens=100)
    before = cost_usd(model, usage, date(2026, 11, 30))
    after = cost_usd(model, usage, date(2026, 12, 1))
    assert before is not None
    assert after == 2 * before


def test_a_fraction_below_what_the_ledger_stores_is_rounded_up() -> None:
    cost = cost_usd("gemini-2.0-flash", Usage(input_tokens=1, cached_tokens=1), TODAY)
    assert cost == Decimal("0.000000019")


def test_more_cached_than_sent_is_no_gift() -> None:
    usage = Usage(input_tokens=10, cached_tokens=1000)
    assert cost_usd("gemini-2.5-flash", usage, TODAY) == Decimal("0.0000003")


def test_long_prompts_of_pro_cost_more() -> None:
    def cost(tokens: int) -> Decimal:
        found = cost_usd("gemini-2.5-pro", Usage(input_tokens=tokens), TODAY)
        assert found is not None
        return found / tokens

    assert cost(200_001) == 2 * cost(200_000)


def test_no_text_is_longer_in_tokens_than_its_reserve() -> None:
    """Digits and rare characters are a token for each byte."""
    sent = "2026-11-24 🏃🏽‍♀️ 戒烟".encode()
    reserve = reserve_usd("gemini-2.0-flash", len(sent), 1000, TODAY)
    usage = Usage(input_tokens=len(sent), output_tokens=400, thought_tokens=600)
    assert reserve == cost_usd("gemini-2.0-flash", usage, TODAY)
