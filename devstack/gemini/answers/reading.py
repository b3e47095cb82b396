"""Reading a goal out of a person's words, or out of the sentence that the preprocess stage made."""

import re
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from devstack.gemini.answers.dates import NUMBERS, find_deadline
from devstack.gemini.answers.goal import Goal
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
_HOURS = re.compile(
    r"(?:[,;.]\s*(?:and\s+)?|\b(?:with|in|for|at|and)\s+)(?:I\s+have\s+|with\s+|in\s+|for\s+|at\s+)?"
    r"(?:about\s+)?(\d+(?:\.\d+)?)\s*(?:hours?|hrs?|h)\s+(?:a|per|each|every)\s+week\b",
    re.I,
)
_TAIL = re.compile(r"[\s,;:–-]+(?:by|before|until|in|within|and|with|for|on)?\s*$", re.I)


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
    sentence = _HOURS.sub(" ", text)
    sentence = sentence.replace(said, " ") if said else sentence
    sentence = _LEAD_IN.sub("", sentence.strip())
    sentence = re.sub(r"\s+", " ", sentence).strip(" .!?;,–-")
    for _ in range(2):
        sentence = _TAIL.sub("", sentence)
    sentence = you(sentence).replace(": ", ", ") or "reach your goal"
    if len(sentence) > 110:
        sentence = sentence[:110].rsplit(" ", 1)[0].rstrip(" ,;")
    keep = sentence[:2].isupper() or sentence[:1].isdigit()
    return sentence if keep else sentence[:1].lower() + sentence[1:]


def _topic(text: str) -> Topic:
    known = next((topic for topic in TOPICS if topic.found_in(text)), None)
    if known is not None:
        return known
    if any(ord(char) > 0x24F for char in text):
        return PROJECT  # another script: it is taken as said
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


_CURRENCY = {"eur": "€", "dol": "$", "usd": "$", "pou": "£", "gbp": "£"}


def _unit(topic: Topic, text: str) -> Topic:
    """The person's own unit or currency instead of ours."""
    if topic.unit in "€$£":
        named = r"[€$£]|\b(?:euros?|dollars?|pounds?|eur|usd|gbp)\b"
        sign = re.search(named, text, re.I)
        return replace(topic, unit=_CURRENCY.get(sign[0][:3].lower(), sign[0])) if sign else topic
    for pattern, (unit, target, step) in topic.units.items():
        if re.search(rf"\b(?:{pattern})s?\b", text, re.I):
            return replace(topic, unit=unit, target=target, step=step)
    return topic


class Key(NamedTuple):
    """What an analysis depends on. `clarified`: the text is the preprocess stage's own sentence."""

    text: str
    today: date | None
    hours: float | None
    weeks: int | None
    due: date | None
    experience: str
    constraints: str
    clarified: bool
    assumed: str


_NAMED = ((r"half[\s-]?marathon", 21.0), (r"\bmarathon", 42.0))


def _subject(key: Key) -> str:
    """The sentence that says what is wanted; of a clarified one without the outcome after its colon."""
    if key.clarified:
        return re.split(r":\s", key.text, maxsplit=1)[0]
    return _main_sentence(key.text)


def _wanted(topic: Topic, subject: str, key: Key) -> tuple[float, bool, float | None]:
    """(target, was it given, start) from the subject, else from the rest of the text."""
    amount, given, start = _amount(topic, subject)
    if not given:
        amount, given, start = _amount(topic, key.text)
    if topic.key == "run" and not re.search(r"\d\s*(?:k|km|mi)", subject, re.I):
        named = next((km for pattern, km in _NAMED if re.search(pattern, subject, re.I)), None)
        amount, given = (named, True) if named else (amount, given)
    if start is None and topic.curve == "grow" and topic.amount:
        can = _amount(topic, key.experience)
        start = can[0] if can[1] and can[0] < amount else None
    return amount, given, start


def _modest(topic: Topic, span: int) -> float:
    """Our own target where the person named none, for as many weeks as there are."""
    if topic.key == "project":
        return float(min(20, max(4, span // 2)))
    if topic.curve == "sum":
        return max(1.0, topic.step, round(topic.target * min(2.0, span / DEFAULT_WEEKS)))
    if topic.unit == "days":
        return min(topic.target, span * 5.0)
    start = topic.target * topic.begin
    return start + (topic.target - start) * min(1.0, span / 8)


@lru_cache(maxsize=512)
def analyse(key: Key) -> Goal:
    """Everything that the writers need, from the person's text and what they added to it."""
    subject, today = _subject(key), key.today
    found = find_deadline(subject, today) or (
        None if key.clarified else find_deadline(key.text, today)
    )
    topic = _topic(subject)
    if topic in (VAGUE, PROJECT) and not key.clarified:
        topic = _topic(key.text)
    topic = _unit(topic, key.text)
    deadline = key.due or (found.day if found and not key.clarified else None)
    if deadline is not None and today is not None and deadline <= today:
        deadline = None
    said_hours = _HOURS.search(key.text)
    hours = key.hours or (float(said_hours[1]) if said_hours else None)
    span = key.weeks or DEFAULT_WEEKS
    if deadline and today:
        span = max(1, ((deadline - today).days + 1) // 7)
    weeks = max(1, key.weeks or min(MAX_WEEKS, span))
    span = max(span, weeks)
    amount, given, start = _wanted(topic, subject, key)
    amount = amount if given else _modest(topic, span)
    goal = Goal(
        phrase=_phrase(subject, found.said if found and found.said in subject else ""),
        topic=topic,
        noun=_noun(topic, key.text),
        amount=amount,
        given=given,
        start=start if start is not None else amount * topic.begin * (topic.curve == "grow"),
        deadline=deadline,
        said=found.said.strip(" ,") if found else "",
        today=today,
        weeks=weeks,
        span=span,
        hours=hours or topic.hours + (2 if topic.key == "run" and amount > 12 else 0),
        hours_given=hours is not None,
        hours_said=bool(said_hours),
        sharp=0,
        experience=key.experience,
        constraints=key.constraints,
    )
    if goal.seasoned and start is None:
        goal = replace(goal, start=max(goal.start, amount * 0.25), memo={})
    given = given and goal.say(topic.assumes) not in key.assumed
    numbered = re.search(r"\d|\b[ABC][12]\b", goal.phrase)
    measured = given or bool(numbered)
    sharp = 0 if topic is VAGUE else 2 if measured and deadline else 1
    return replace(goal, given=given, sharp=sharp, memo={})


def _noun(topic: Topic, text: str) -> str:
    match = re.search(topic.noun_pattern, text, re.I) if topic.noun_pattern else None
    if match is None:
        return topic.noun
    return you(next((group for group in match.groups() if group), match[0]))[:60]


def read_goal(request: Request) -> Goal:
    """The goal of a request. Its `sharp` is the same before and after it was clarified."""
    return analyse(
        Key(
            request.goal,
            request.today,
            request.hours,
            request.weeks,
            request.deadline,
            request.experience,
            request.constraints,
            bool(request.clarified),
            str(request.clarified.get("assumptions") or ""),
        )
    )
