"""A goal as a coach hears it: what, how much, until when, with how many hours, and how sharply said."""

import re
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache

from devstack.gemini.answers.dates import NUMBERS, find_deadline, spell
from devstack.gemini.answers.topic import Topic
from devstack.gemini.answers.topics import PROJECT, TOPICS, VAGUE
from devstack.gemini.text import Request

DEFAULT_WEEKS, MAX_WEEKS = 12, 26

_LEAD_IN = re.compile(
    r"^(?:(?:hi|hello|hey|please|so|well|ok|okay)[\s,!.]+)*"
    r"(?:(?:my|the|a)\s+(?:\w+\s+)?(?:goal|resolution|dream|plan|aim|wish)\s*(?:this\s+year\s+)?"
    r"(?:is\s+to|is|:|was\s+to)\s*"
    r"|goal\s*:\s*|this\s+year,?\s+i(?:['’]ll|\s+will)\s+"
    r"|i(?:['’]d|\s+would)\s+(?:really\s+)?(?:like|love|want)\s+to\s+(?:be\s+able\s+to\s+)?"
    r"|i(?:['’]m|\s+am)\s+(?:trying|planning|going|hoping|aiming|looking)\s+to\s+"
    r"|i\s+(?:really\s+|finally\s+|just\s+)*(?:want|need|wish|hope|plan|intend|have|would\s+like|aim|am\s+determined)"
    r"\s+to\s+(?:be\s+able\s+to\s+|finally\s+)?"
    r"|i\s+(?:want|need)\s+|i(?:['’]ll|\s+will)\s+|we\s+want\s+to\s+"
    r"|(?:can|could|would)\s+you\s+(?:please\s+)?help\s+me\s+(?:to\s+)?|help\s+me\s+(?:to\s+)?"
    r"|how\s+(?:can|do|could|should)\s+i\s+|to\s+(?=\w))",
    re.I,
)
_PRONOUNS = (
    (r"\bI['’]m\b|\bI\s+am\b", "you are"), (r"\bI['’]ve\b", "you have"), (r"\bI['’]ll\b", "you will"),
    (r"\bI['’]d\b", "you would"), (r"\bI\b", "you"), (r"\bmyself\b", "yourself"),
    (r"\bmy\b", "your"), (r"\bmine\b", "yours"), (r"\bme\b", "you"),
)  # fmt: skip
_VAGUE = re.compile(
    r"\b(?:better|things?|stuff|improve|life|happ(?:y|ier)|success(?:ful)?|more|best\s+(?:self|version)|"
    r"chang(?:e|es)|somehow|something|good|great|productive|myself|yourself|grow|everything)\b",
    re.I,
)
_FILLER = re.compile(
    r"\b(?:a|an|the|to|at|in|on|of|my|your|i|you|be|become|get|do|make|have|and|with|for|it|really|"
    r"very|just|am|is|are|want|some|this|that|person|lot)\b",
    re.I,
)
_NUMBER_WORDS = "|".join(sorted(NUMBERS, key=len, reverse=True))
_TAIL = re.compile(r"[\s,;:–-]+(?:by|before|until|in|within|and|with|for|on)?\s*$", re.I)


@dataclass(frozen=True)
class Goal:
    """`sharp`: 0 vague, 1 a topic without a measure or a date, 2 a measure and a date."""

    phrase: str
    topic: Topic
    noun: str
    amount: float
    given: bool
    start: float
    deadline: date | None
    said: str
    today: date | None
    weeks: int
    span: int
    hours: float
    hours_given: bool
    sharp: int
    experience: str
    constraints: str

    @property
    def target(self) -> str:
        return self.topic.show(self.amount)

    @property
    def title(self) -> str:
        return self.phrase[:1].upper() + self.phrase[1:]

    @property
    def due(self) -> str:
        if self.deadline is not None:
            return spell(self.deadline)
        return f"the end of week {self.weeks}"

    def level(self, week: int) -> float:
        """What is reached at the end of a week; week 0 is the start."""
        share = min(1.0, week / self.span)
        if self.topic.curve == "grow":
            share = min(1.0, share * 1.05)
        return self.start + (self.amount - self.start) * share

    def words(self, week: int = 0, **more: object) -> dict[str, str]:
        """What the texts' places are filled with."""
        topic, now, before = self.topic, self.level(week), self.level(max(0, week - 1))
        part = abs(now - before) if week else abs(self.amount - self.start) / self.span
        filled = {
            "goal": self.phrase,
            "target": self.target,
            "start": topic.show(self.start),
            "v": topic.show(now),
            "vn": topic.show(now).split(" ")[0],
            "prev": topic.show(before),
            "part": topic.show(max(part, topic.step)),
            "left": topic.show(abs(self.amount - now)),
            "half": topic.show((self.start + self.amount) / 2),
            "noun": self.noun,
            "n": str(week),
            "weeks": str(self.weeks),
            "due": self.due,
            "hours": f"{self.hours:g} hour{'' if self.hours == 1 else 's'}",
        }
        return filled | {key: str(value) for key, value in more.items()}

    def say(self, text: str, week: int = 0, **more: object) -> str:
        said = text.format_map(self.words(week, **more))
        return said[:1].upper() + said[1:]


def number(text: str) -> float:
    """'5,000' → 5000, '2.5' → 2.5, '10k' → 10000, 'ten' → 10."""
    text = text.lower().strip()
    if text in NUMBERS:
        return float(NUMBERS[text])
    thousands = text.endswith("k")
    text = re.sub(r"[\s,'’](?=\d{3}\b)", "", text.rstrip("k")).replace(",", ".")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+", text):
        text = text.replace(".", "")
    return float(re.sub(r"[^\d.]", "", text) or 0) * (1000 if thousands else 1)


def you(text: str) -> str:
    """The person's words turned round: my → your."""
    for pattern, word in _PRONOUNS:
        text = re.sub(pattern, word, text, flags=re.I if pattern[2:4] != "I\\" else 0)
    return re.sub(r"\byou (?:am|was)\b", "you are", text)


def _main_sentence(text: str) -> str:
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if s.strip()]
    known = (s for topic in TOPICS for s in sentences if topic.found_in(s))
    return next(known, sentences[0] if sentences else text)


def _phrase(text: str, said: str) -> str:
    sentence = text.replace(said, " ") if said else text
    sentence = _LEAD_IN.sub("", sentence.strip())
    sentence = re.sub(r"\s+", " ", sentence).strip(" .!?;,–-")
    for _ in range(2):
        sentence = _TAIL.sub("", sentence)
    sentence = you(sentence)
    if len(sentence) > 110:
        sentence = sentence[:110].rsplit(" ", 1)[0].rstrip(" ,;")
    keep = sentence[:2].isupper() or sentence[:1].isdigit()
    return sentence if keep else sentence[:1].lower() + sentence[1:]


def _topic(text: str) -> Topic:
    known = next((topic for topic in TOPICS if topic.found_in(text)), None)
    if known is not None:
        return known
    # How the preprocess stage dates a goal that named no day says nothing about its subject.
    text = re.sub(r"within the next \d+ weeks", " ", text, flags=re.I)
    content = _FILLER.sub(" ", _VAGUE.sub(" ", text))
    bare = not re.search(r"\d", text) and len(re.findall(r"\w{3,}", content)) < 2
    return VAGUE if bare and (_VAGUE.search(text) or len(text.split()) < 3) else PROJECT


def _amount(topic: Topic, text: str) -> tuple[float, bool, float | None]:
    """(target, was it given, the start when it was given too)."""
    if not topic.amount:
        return topic.target, False, None
    pattern = topic.amount.replace("NUM", rf"(\d[\d.,]*\s?k?\b|\d[\d.,]*|\b(?:{_NUMBER_WORDS})\b)")
    match = re.search(pattern, text, re.I)
    groups = [group for group in match.groups() if group] if match else []
    if not groups:
        return topic.target, False, None
    change = re.search(r"from\s+(\d[\d.,]*)\s*\D{0,14}?\s+(?:down\s+)?to\s+(\d[\d.,]*)", text, re.I)
    if change and topic.key != "weight":
        return number(change[2]), True, number(change[1])
    if change:
        return abs(number(change[1]) - number(change[2])), True, None
    value = number(groups[0])
    return (value, True, None) if value > 0 else (topic.target, False, None)


def _unit(topic: Topic, text: str) -> Topic:
    """The person's own unit or currency instead of ours."""
    if topic.unit in "€$£":
        sign = re.search(r"[€$£]", text) or re.search(
            r"\b(euros?|dollars?|pounds?|eur|usd|gbp)\b", text, re.I
        )
        names = {"eur": "€", "dol": "$", "usd": "$", "pou": "£", "gbp": "£"}
        unit = names.get(sign[0][:3].lower(), sign[0]) if sign else topic.unit
        return replace(topic, unit=unit)
    if topic.unit == "kg" and re.search(r"\b(?:lbs?|pounds)\b", text, re.I):
        return replace(topic, unit="lb")
    if topic.unit == "km" and re.search(r"\bmiles?\b", text, re.I):
        return replace(topic, unit="miles")
    return topic


_NAMED = ((r"half[\s-]?marathon", 21.1), (r"\bmarathon", 42.2))


@lru_cache(maxsize=256)
def analyse(request_key: "Key") -> Goal:
    """Everything that the writers need, from the person's text and what they added to it."""
    text, today, hours, weeks, due, experience, constraints = request_key
    sentence = re.sub(r":\s.*$", "", _main_sentence(text)) if ": " in text else _main_sentence(text)
    found = find_deadline(sentence, today) or find_deadline(text, today)
    topic = _unit(_topic(sentence) if _topic(sentence) is not VAGUE else _topic(text), text)
    amount, given, start = _amount(topic, sentence)
    if not given:
        amount, given, start = _amount(topic, text)
    if topic.key == "run" and not re.search(r"\d\s*(?:k|km|mi)", text, re.I):
        named = next((km for pattern, km in _NAMED if re.search(pattern, text, re.I)), None)
        amount, given = (named, True) if named else (amount, given)
    deadline = due or (found.day if found else None)
    if deadline is not None and today is not None and deadline <= today:
        deadline = None
    span = -(-(deadline - today).days // 7) if deadline and today else (weeks or DEFAULT_WEEKS)
    planned = weeks or min(MAX_WEEKS, span)
    noun = re.search(topic.noun_pattern, text, re.I) if topic.noun_pattern else None
    measured = given or bool(re.search(r"\d|\b[ABC][12]\b", sentence))
    phrase = _phrase(sentence, found.said if found and found.said in sentence else "")
    sharp = 0 if topic is VAGUE else (2 if measured and deadline else 1)
    if topic.key == "project" and not given:
        amount = float(min(20, max(4, span // 2)))
    if start is None:
        start = amount * topic.begin if topic.curve == "grow" else 0.0
    return Goal(
        phrase=phrase or "reach your goal",
        topic=topic,
        noun=you(next((g for g in noun.groups() if g), noun[0])) if noun else topic.noun,
        amount=amount,
        given=given,
        start=start,
        deadline=deadline,
        said=found.said.strip(" ,") if found else "",
        today=today,
        weeks=max(1, planned),
        span=max(1, span, planned),
        hours=hours or topic.hours,
        hours_given=hours is not None,
        sharp=sharp,
        experience=experience,
        constraints=constraints,
    )


Key = tuple[str, date | None, float | None, int | None, date | None, str, str]


def read_goal(request: Request) -> Goal:
    return analyse(
        (
            request.goal,
            request.today,
            request.hours,
            request.weeks,
            request.deadline,
            request.experience,
            request.constraints,
        )
    )


def day_after(goal: Goal, weeks: int) -> str:
    """The date `weeks` weeks from today, in words."""
    return spell(goal.today + timedelta(days=7 * weeks)) if goal.today else f"week {weeks}"
