"""All that the stand-in knows, most particular first: the first topic whose pattern is found decides."""

from devstack.gemini.answers.topic import Topic
from devstack.gemini.answers.topics.general import PROJECT, VAGUE

TOPICS: tuple[Topic, ...] = ()

__all__ = ["PROJECT", "TOPICS", "VAGUE"]
