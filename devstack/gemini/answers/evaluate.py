"""The evaluate stage: four scores that follow the text, each with a reason taken from it."""

import random
import re
from dataclasses import dataclass

from devstack.gemini.protocol import Json
from devstack.gemini.text import Request

_VAGUE = re.compile(
    r"\b(?:better|things?|stuff|various|somehow|something|some|improve|improvement|progress|regularly|more|"
    r"step by step|as you go|over time|motivated|motivation|feels? right|different|smoothly|a bit|often|"
    r"sometimes|maybe|try|enough|in general|satisfied|happier|think about|change)\b",
    re.I,
)
_DATE = re.compile(
    r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2}\s+(?:January|February|March|April|May|June|July|August|September|October|"
    r"November|December)\b|\bweek\s+\d+|\b(?:in|within)\s+(?:the\s+next\s+)?\d+\s+weeks\b|\bQ[1-4]\b",
    re.I,
)
_MEASURE = re.compile(
    r"\d|\b(?:half|twice|daily|level [ABC][12]|every|each|never|all|no more|known|signed|passed)\b",
    re.I,
)
_CUE = re.compile(
    r"\d|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day|\b(?:every|each|after|before|when|same|right|daily|once|"
    r"twice|evening|morning|never)\b",
    re.I,
)
_PLAN = re.compile(
    r"\d|\b(?:if|when|move|halve|swap|replace|ask|write|stop|cut|book|call|take|keep|set|use|plan|do)\b",
    re.I,
)


@dataclass(frozen=True)
class Draft:
    """A resolution's texts."""

    title: str
    summary: str
    strategy: str
    phases: list[str]
    weeks_given: int
    criteria: list[str]
    risks: list[str]
    habits: list[str]

    @property
    def whole(self) -> str:
        lists = (*self.phases, *self.criteria, *self.risks, *self.habits)
        return " ".join((self.title, self.summary, self.strategy, *lists))


def _lines(value: object, *keys: str) -> list[str]:
    if not isinstance(value, list):
        return []
    return [
        ": ".join(str(item.get(key, "")) for key in keys if item.get(key))
        if isinstance(item, dict)
        else str(item)
        for item in value
    ]


def _draft(request: Request) -> Draft:
    data = request.resolution or {"summary": request.resolution_text or request.goal}
    phases = data.get("phases")
    ranged = (
        [p for p in phases if isinstance(p, dict) and p.get("end_week")]
        if isinstance(phases, list)
        else []
    )
    return Draft(
        title=str(data.get("title", "")),
        summary=str(data.get("summary", "")),
        strategy=str(data.get("strategy", "")),
        phases=_lines(phases, "name", "focus"),
        weeks_given=len(ranged),
        criteria=_lines(data.get("success_criteria"), "criterion", "text"),
        risks=_lines(data.get("risks"), "response"),
        habits=_lines(data.get("habits"), "habit", "text"),
    )


def _share(lines: list[str], pattern: re.Pattern[str]) -> float:
    return sum(bool(pattern.search(line)) for line in lines) / len(lines) if lines else 0.0


def _score(value: float) -> float:
    return max(1.0, min(9.5, round(value * 2) / 2))


def _quote(text: str, limit: int = 90) -> str:
    text = text.strip().rstrip(".")
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


def _vague_per_100(text: str) -> float:
    return 100 * len(_VAGUE.findall(text)) / max(1, len(text.split()))


def write(request: Request, rng: random.Random) -> Json:
    """An EvaluationDraft."""
    draft = _draft(request)
    found = {
        "clarity": _clarity(draft),
        "specificity": _specificity(draft),
        "measurability": _measurability(draft),
        "actionability": _actionability(draft),
    }
    marks: Json = {name: {"score": score, "why": why} for name, (score, why) in found.items()}
    return marks | {
        "strengths": _strengths(draft, found),
        "suggestions": _suggestions(draft, found),
    }


def _clarity(draft: Draft) -> tuple[float, str]:
    vague = _VAGUE.search(f"{draft.title} {draft.summary}")
    head = f"{draft.title} {draft.summary}"
    value = 9.2 - min(5.0, _vague_per_100(head) * 0.45)
    value -= 1.5 if len(draft.summary.split()) < 12 else 0
    value -= 0.8 if not _DATE.search(head) else 0
    value -= 0.5 if len(draft.summary.split()) > 60 else 0
    value -= 0.5 if len(draft.title.split()) > 9 else 0
    # A number further on does not make up for a wish that stays open: "be happier: one area …".
    wish = re.split(r":\s|\sby\s|\sin\s\d", draft.title)[0]
    value -= 2 if _VAGUE.search(wish) and not re.search(r"\d", wish) else 0
    if vague and value < 7:
        return _score(
            value
        ), f"'{_quote(draft.title or draft.summary)}' leaves open what '{vague[0]}' means."
    return _score(
        value
    ), f"'{_quote(draft.title or draft.summary)}' says in one line what will be different."


def _specificity(draft: Draft) -> tuple[float, str]:
    text = draft.whole
    words = max(1, len(text.split()))
    numbers = len(re.findall(r"\d[\d.,]*", text))
    value = (
        3.6
        + min(3.6, 100 * numbers / words * 0.7)
        + (1.2 if _DATE.search(draft.title + draft.summary) else 0)
    )
    value += 0.9 if draft.weeks_given >= 3 else 0
    value -= min(2.0, _vague_per_100(text) * 0.25)
    vague = _VAGUE.search(draft.strategy) or _VAGUE.search(text)
    if value < 6 and vague:
        return _score(value), f"The strategy stays general: '{_quote(draft.strategy)}'."
    best = next((p for p in draft.phases if re.search(r"\d", p)), draft.strategy)
    return _score(value), f"It names numbers and times, for example '{_quote(best)}'."


def _measurability(draft: Draft) -> tuple[float, str]:
    share = _share(draft.criteria, _MEASURE)
    dated = sum(bool(_DATE.search(line)) for line in draft.criteria)
    value = 2.5 + 4.6 * share + 0.5 * min(3, dated) + min(1.0, 0.35 * len(draft.criteria) * share)
    if not draft.criteria:
        return _score(2.0), "There is no success criterion that could be checked."
    soft = next((line for line in draft.criteria if not _MEASURE.search(line)), None)
    if soft is not None:
        return _score(value), f"'{_quote(soft)}' cannot be checked by anyone but the person."
    return _score(value), f"Success can be counted: '{_quote(draft.criteria[0])}'."


def _actionability(draft: Draft) -> tuple[float, str]:
    cued, met = _share(draft.habits, _CUE), _share(draft.risks, _PLAN)
    precise = _share(draft.phases, re.compile(r"\d|\b[A-Z]?\w+ing\b|day\b"))
    value = 2.2 + 3.0 * cued + 1.6 * met + 1.3 * precise
    value += min(1.0, 0.35 * len(draft.habits)) if cued else 0
    value -= min(1.5, _vague_per_100(" ".join(draft.habits + draft.phases)) * 0.1)
    loose = next((line for line in draft.habits if not _CUE.search(line)), None)
    if loose is not None:
        return _score(value), f"'{_quote(loose)}' does not say when or how long."
    if not draft.habits:
        return _score(value), "No habit says what to do on an ordinary day."
    return _score(
        value
    ), f"'{_quote(draft.habits[0])}' can be done this week without further planning."


def _strengths(draft: Draft, found: dict[str, tuple[float, str]]) -> list[str]:
    strengths = []
    if draft.weeks_given >= 3:
        strengths.append(f"{draft.weeks_given} phases with weeks show the way from start to end")
    if found["measurability"][0] >= 7 and draft.criteria:
        strengths.append(f"A criterion that anyone can check: {_quote(draft.criteria[0], 160)}")
    if found["actionability"][0] >= 7 and draft.risks:
        strengths.append(f"A setback has its answer already: {_quote(draft.risks[0], 160)}")
    return strengths or [f"It starts from the person's own words: {_quote(draft.title, 120)}"]


def _suggestions(draft: Draft, found: dict[str, tuple[float, str]]) -> list[str]:
    wishes = {
        "clarity": f"Say in the title what will be different and by which day, in place of '{_quote(draft.title, 80)}'",
        "specificity": "Put a number of minutes, days or units into every phase and into the strategy",
        "measurability": "Give every success criterion a number and a date, and drop those that are only felt",
        "actionability": "Tie each habit to a day, a time or an event, and give its length in minutes",
    }
    weak = sorted((score, name) for name, (score, _) in found.items() if score < 7.5)
    if weak:
        return [wishes[name] for _, name in weak]
    return ["Name one person who is told about the milestone at half time, so that somebody asks"]
