"""All that the stand-in knows about goals: one YAML file a topic, read once.

The first topic whose pattern is found in the goal decides, so the most particular ones stand first.
"""

from pathlib import Path

import yaml

from devstack.gemini.answers.topic import Topic

ORDER = [
    "weight",
    "quit",
    "sleep",
    "calm",
    "debt",
    "save",
    "run",
    "lift",
    "endure",
    "read",
    "language",
    "code",
    "exam",
    "screen",
    "early",
    "write",
    "music",
    "business",
    "job",
    "rise",
    "daily",
    "art",
    "people",
    "skill",
    "fit",
]


def _load(key: str) -> Topic:
    text = (Path(__file__).parent / f"{key}.yaml").read_text(encoding="utf-8")
    return Topic(key=key, **yaml.safe_load(text))


TOPICS: tuple[Topic, ...] = tuple(_load(key) for key in ORDER)
PROJECT = _load("project")
VAGUE = _load("vague")
