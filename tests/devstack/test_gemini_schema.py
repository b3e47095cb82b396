"""One writer answers any response schema, also those of stages it has never heard of."""

import json
from datetime import date
from enum import Enum
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from devstack.gemini.answers.words import Words
from devstack.gemini.answers.writer import Writer
from devstack.gemini.schema import compiled, stage_of
from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft
from domain.resolutions import ResolutionDraft
from tests.devstack.gemini_answers import TODAY, answer


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str = Field(min_length=3, max_length=5)
    children: list["Tree"]
    parent: "Tree | None" = None


class Mixed(BaseModel):
    kind: Literal["a", "b"]
    colour: Colour
    when: date
    count: int = Field(ge=3, le=7)
    share: float = Field(gt=0, lt=1)
    tags: list[str] = Field(min_length=2, max_length=3)
    pair: tuple[int, str]
    either: int | str
    maybe: str | None
    yes: bool
    table: dict[str, int]
    tree: Tree


SCHEMAS: list[dict[str, Any]] = [
    Mixed.model_json_schema(),
    Tree.model_json_schema(),
    *(
        model.model_json_schema()
        for model in (ClarifiedGoalDraft, ResolutionDraft, EvaluationDraft, PlanDraft)
    ),
    {"type": "array", "items": {"type": ["string", "null"], "enum": ["x", None]}, "minItems": 5},
    {"const": 3},
    {"type": "object", "properties": {"n": {"type": "integer", "exclusiveMinimum": 4}}},
]
PROMPTS = [
    "paint the old fence",
    "",
    "<goal>Run a 5K by June</goal><today>2026-11-25</today><weeks>3</weeks>",
    "<goal>I want to kill myself</goal>",
    "<goal>hello</goal>",
    "<resolution>{}</resolution>",
]


def written(schema: dict[str, Any], user: str) -> Any:
    return Writer(Words(user)).write(compiled(schema))


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(schema.get("title", "")))
@pytest.mark.parametrize("user", PROMPTS)
def test_an_answer_is_valid(schema: dict[str, Any], user: str) -> None:
    jsonschema.validate(written(schema, user), schema)


NAMES = ["title", "week", "weeks", "minutes", "score", "day", "verdict", "tags", "deadline", "x"]
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}]),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more},
        st.integers(-5, 5),
        st.integers(1, 9),
    ),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 300),
        st.integers(0, 9),
    ),
    st.builds(lambda kind: {"type": "string", "format": kind}, st.sampled_from(["date", "uuid"])),
    st.builds(lambda words: {"enum": words}, st.lists(st.sampled_from("abc"), min_size=1)),
)


def _grown(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(
            lambda items, least, more: {
                "type": "array",
                "items": items,
                "minItems": least,
                "maxItems": least + more,
            },
            parts,
            st.integers(0, 4),
            st.integers(0, 4),
        ),
        st.builds(lambda one: {"anyOf": [one, {"type": "null"}]}, parts),
        st.builds(
            lambda found: {"type": "object", "properties": found, "required": [*found]},
            st.dictionaries(st.sampled_from(NAMES), parts, max_size=4),
        ),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, _grown, max_leaves=12), st.sampled_from(PROMPTS))
def test_an_answer_is_valid_for_any_schema(schema: dict[str, Any], user: str) -> None:
    jsonschema.validate(written(schema, user), schema)


def test_geminis_spelling_means_the_same() -> None:
    schema = {
        "type": "OBJECT",
        "required": ["size", "names"],
        "properties": {
            "size": {"type": "STRING", "format": "enum", "enum": ["S", "L"]},
            "names": {
                "type": "ARRAY",
                "min_items": 2,
                "maxItems": "2",
                "items": {"type": "STRING"},
            },
            "note": {"type": "STRING", "nullable": True},
        },
    }
    value = written(schema, "word")
    assert value["size"] in ("S", "L")
    assert len(value["names"]) == 2
    assert value["note"] is None


Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


class Step(BaseModel):
    until: int
    what: str
    done_when: str


class Track(BaseModel):
    day: Day
    minutes: tuple[int, int]
    steps: list[Step] = Field(min_length=2, max_length=4)


class Once(BaseModel):
    week: int
    day: Day
    minutes: int
    what: str
    done_when: str


class Milestone(BaseModel):
    week: int
    title: str
    measure: str


class Sketch(BaseModel):
    """A plan as a rhythm with exceptions, which no writer was written for."""

    first_step_today: str
    rhythm: list[Track]
    easier_weeks: list[int]
    once: list[Once]
    milestones: list[Milestone]


def test_a_plan_sketch_is_written_without_code_for_it() -> None:
    context = "hours_per_week: 2\nconstraints: no training on Sundays"
    goal = "Run a 5K by 31 March 2027"
    sketch = answer(Sketch, today=TODAY, weeks=18, goal=goal, context=context)
    assert stage_of(Sketch.model_json_schema()) == "plan"
    assert len({track.day for track in sketch.rhythm} - {"Sun"}) == len(sketch.rhythm) == 3
    assert sum(track.minutes[1] for track in sketch.rhythm) <= 120
    assert all(track.minutes[0] <= track.minutes[1] for track in sketch.rhythm)
    assert [[step.until for step in track.steps] for track in sketch.rhythm] == [[6, 12, 18]] * 3
    assert len({step.what for track in sketch.rhythm for step in track.steps}) == 9
    assert sketch.easier_weeks == [4, 8, 12, 16]
    assert (sketch.once[-1].week, sketch.once[-1].what) == (18, "Run a 5K")
    assert [milestone.week for milestone in sketch.milestones] == [6, 12, 18]
    assert sketch.milestones[-1].measure == "5 km in one go"


class Limits(BaseModel):
    """What a later version of the preprocess stage may ask for."""

    verdict: Literal["goal", "not_a_goal", "harmful"]
    refusal_reason: str | None
    deadline: date | None
    hours_per_week: float | None
    rest_days: list[Day]
    time_zone: str | None
    left_out: list[str]


def test_limits_are_heard_and_none_is_made_up() -> None:
    said = "Swim 1500 m by June, 3 hours a week, no training on Sundays"
    limits = answer(Limits, today=TODAY, goal=said)
    assert (limits.deadline, limits.hours_per_week) == (date(2027, 6, 30), 3)
    assert (limits.rest_days, limits.time_zone, limits.left_out) == (["Sun"], None, [])
    silent = answer(Limits, today=TODAY, goal="Swim 1500 m")
    assert (silent.deadline, silent.hours_per_week, silent.rest_days) == (None, None, [])


class Coach(BaseModel):
    reply: str
    mood: Literal["positive", "neutral", "negative"]
    suggested_actions: list[str]
    plan_change: str | None
    needs_help: bool


def test_a_coach_answers_to_the_message() -> None:
    coach = answer(Coach, goal="Run a 5K", message="I missed two runs and feel bad")
    assert "You wrote: “I missed two runs and feel bad”" in coach.reply
    assert (coach.mood, coach.needs_help, coach.plan_change) == ("negative", False, None)
    assert coach.suggested_actions


def test_a_coach_answers_a_crisis_with_where_help_is_and_nothing_else() -> None:
    coach = answer(Coach, goal="Run a 5K", message="I want to die, nobody cares")
    assert "crisis line" in coach.reply
    assert (coach.suggested_actions, coach.plan_change, coach.needs_help) == ([], None, True)


class Habit(BaseModel):
    habit: str
    minutes: int


class Advice(BaseModel):
    habits: list[Habit]
    suggestions: list[str]


def test_a_list_of_texts_may_also_be_one_of_objects() -> None:
    advice = answer(Advice, goal="Run a 5K by June", context="hours_per_week: 2")
    assert advice.habits[0].habit.startswith("After dinner on the day before")
    assert len({habit.habit for habit in advice.habits}) == len(advice.habits) == 2
    assert advice.habits[0].minutes == 40


class Verdict(BaseModel):
    why: str
    winner: Literal["a", "b", "tie"]


@pytest.mark.parametrize(
    ("a", "b", "winner"),
    [
        ("Try to be better somehow.", "Run 5 km by 31 March 2027, every Tuesday.", "b"),
        ("Run 5 km by 31 March 2027, every Tuesday.", "Try to be better somehow.", "a"),
        ("Run 5 km.", "Run 5 km.", "tie"),
    ],
)
def test_a_judge_counts_whichever_comes_first(a: str, b: str, winner: str) -> None:
    verdict = answer(Verdict, question="Which is better?", resolution_a=a, resolution_b=b)
    assert verdict.winner == winner
    assert verdict.why.startswith("Counted: ")


class Theme(BaseModel):
    theme: str
    mentions: int
    sentiment: Literal["positive", "negative", "mixed", "neutral"]
    quote: str


class Report(BaseModel):
    themes: list[Theme]


def test_themes_are_the_words_that_most_comments_hold() -> None:
    comments = ["The timeline was too tight", "Loved the milestones", "Timeline unclear"]
    first = answer(Report, comments="\n".join(comments)).themes[0]
    assert (first.theme, first.mentions, first.quote) == ("timeline", 2, comments[0])
    assert first.sentiment == "negative"


def test_what_people_say_in_comments_is_reported_not_refused() -> None:
    comments = "The timeline made me want to die laughing\nThe timeline is tight"
    assert answer(Report, comments=comments).themes[0].theme == "timeline"


def test_the_same_request_has_the_same_answer() -> None:
    texts = {json.dumps(written(SCHEMAS[5], PROMPTS[2])) for _ in range(3)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("model", "stage"),
    [
        (ClarifiedGoalDraft, "preprocess"),
        (ResolutionDraft, "generate"),
        (EvaluationDraft, "evaluate"),
        (PlanDraft, "plan"),
        (Tree, "other"),
    ],
)
def test_the_stage_is_told_by_the_schema(model: type[BaseModel], stage: str) -> None:
    assert stage_of(model.model_json_schema()) == stage
