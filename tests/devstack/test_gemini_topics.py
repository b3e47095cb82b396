"""What the model stand-in takes a goal for is the same before and after the goal is clarified."""

import json
import random

import pytest

from devstack.gemini.answers import WRITERS
from devstack.gemini.answers.reading import read_goal
from devstack.gemini.text import Request


@pytest.mark.parametrize(
    ("goal", "topic"),
    [
        ("Stop scrolling my phone in bed", "screen"),
        ("Spend less time on my phone", "screen"),
        ("Write my memoir by the end of the year", "write"),
        ("Launch my online shop by May", "business"),
        ("Call my grandmother every Sunday", "people"),
        ("Get my finances in order: pay off 2000 euros of debt by June", "debt"),
    ],
)
def test_a_goal_keeps_its_topic_when_it_is_clarified(goal: str, topic: str) -> None:
    said = Request.read(f"<today>2026-01-05</today>\n<goal>\n{goal}\n</goal>")
    clarified = json.dumps(WRITERS["preprocess"](said, random.Random(0)))  # noqa: S311
    again = Request.read(
        f"<today>2026-01-05</today>\n<clarified_goal>\n{clarified}\n</clarified_goal>"
    )
    assert (read_goal(said).topic.key, read_goal(again).topic.key) == (topic, topic)
