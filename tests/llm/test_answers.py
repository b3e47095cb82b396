"""Bodies that came with status 200: whatever they are, they are taken apart or named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.runs import Usage
from llm.answers import STORED_CHARS, WORD_CHARS, stored, take_apart

COUNTS = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}


def body(candidate: Any = None, **fields: Any) -> str:
    candidates = [] if candidate is None else [candidate]
    return json.dumps({"candidates": candidates, "usageMetadata": COUNTS, **fields})


def test_text_reason_model_and_tokens_are_found() -> None:
    parts = [{"text": "thinking", "thought": True}, {"text": "one "}, {"text": "two"}]
    answer = take_apart(
        body({"content": {"parts": parts}, "finishReason": "STOP"}, modelVersion="gemini-9")
    )
    assert (answer.text, answer.finish_reason, answer.problem) == ("one two", "STOP", None)
    assert answer.usage == Usage(input_tokens=10, output_tokens=5)
    assert answer.model_version == "gemini-9"


def test_a_block_of_the_prompt_is_found() -> None:
    answer = take_apart(body(promptFeedback={"blockReason": "PROHIBITED_CONTENT"}))
    assert answer.block_reason == "PROHIBITED_CONTENT"


@given(st.text() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["candidates", "usageMetadata", "content", "parts", "text",
                         "promptFeedback", "finishReason", "modelVersion"]), inner),
).map(json.dumps))  # fmt: skip
def test_no_body_is_too_odd(raw: str) -> None:
    take_apart(raw)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("<!DOCTYPE html><title>Sign in</title>", "NO_GEMINI_ANSWER"),
        ("", "NO_GEMINI_ANSWER"),
        ('"a text"', "NO_GEMINI_ANSWER"),
        ('{"ok": true}', "NO_GEMINI_ANSWER"),
        ('{"candidates": [{"content"', "OUTPUT_INVALID"),
        ('{"candidates": ' + "[" * 100_000, "OUTPUT_INVALID"),
        ('{"usageMetadata": {"promptTokenCount": ' + "9" * 4301 + "}}", "OUTPUT_INVALID"),
    ],
)
def test_what_cannot_be_taken_apart_is_named(raw: str, problem: str) -> None:
    assert take_apart(raw).problem == problem


@pytest.mark.parametrize(
    "counts",
    [None, [], {"promptTokenCount": -1}, {"promptTokenCount": "10"}, {"thoughtsTokenCount": 2**31},
     {"candidatesTokenCount": True}],
)  # fmt: skip
def test_tokens_that_are_no_counts_are_not_known(counts: Any) -> None:
    assert take_apart(body({"finishReason": "STOP"}, usageMetadata=counts)).usage is None


def test_a_body_beyond_the_ledgers_room_is_cut_and_its_tokens_are_still_known() -> None:
    raw = body({"content": {"parts": [{"text": "x" * STORED_CHARS}]}, "finishReason": "STOP"})
    answer = take_apart(raw)
    assert answer.problem == "OUTPUT_TOO_LARGE"
    assert answer.usage == Usage(input_tokens=10, output_tokens=5)
    assert len(stored(raw)) == STORED_CHARS


def test_what_postgresql_refuses_is_not_kept() -> None:
    assert stored("a\x00b") == "ab"
    answer = take_apart(body({"finishReason": "a\x00\ud800" + "b" * 60_000}))
    assert answer.finish_reason == "a?" + "b" * (WORD_CHARS - 2)
