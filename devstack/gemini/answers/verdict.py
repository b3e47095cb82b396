"""What is not coached: texts that hold no goal, and goals that would endanger someone."""

import re
from typing import Literal

from devstack.gemini.answers.reading import number
from devstack.gemini.answers.topics import TOPICS

Verdict = Literal["not_a_goal", "harmful"]

_SELF = re.compile(
    r"\b(?:kill|hurt|harm|cut|injure|poison)\s+(?:myself|yourself)\b|\bsuicid|\bend\s+my\s+(?:own\s+)?life\b|"
    r"\bself[\s-]?harm|\b(?:want\s+to|wanna)\s+die\b|\bstop\s+living\b|\bnot\s+be\s+alive\b",
    re.I,
)
_STARVE = re.compile(
    r"\bstarv(?:e|ing)\b|\bstop\s+eating(?:\s*(?:$|[.!]|altogether|completely|food|for\s+\w+\s+(?:days|weeks)))|"
    r"\bpurg(?:e|ing)\b|\banorexi|\bbulimi|\bthrow\s+up\s+after|\b(?:eat|eating)\s+nothing\b|"
    r"\blaxatives?\b|\bfast\s+for\s+(?:[2-9]\d|1[0-9])\s+days\b",
    re.I,
)
_CALORIES = re.compile(
    r"\b(\d{2,4})\s*(?:k?cal(?:orie)?s?)\s*(?:a|per|each|/)\s*day|\b(\d{2,4})\s*kcal\b", re.I
)
_FAST_LOSS = re.compile(
    r"lose\s+(\d+)\s*(kg|kilos?|lbs?|pounds)\b.{0,30}?\b(?:in|within)\s+(\d+|a|one|two|three|four)\s+(day|week)",
    re.I,
)
_VIOLENCE = re.compile(
    r"\b(?:kill|murder|stab|shoot|poison|beat\s+up|assault|torture|hurt|attack|kidnap|stalk|blackmail|"
    r"threaten)\s+(?:(?:my|the|a|an|some|his|her|their|our)\s+)?(?:\w+\s+)?"
    r"(?:someone|somebody|people|person|ex|wife|husband|boss|girlfriend|boyfriend|neighbou?r|coworker|"
    r"colleague|teacher|classmates?|parents?|mother|father|kids?|child(?:ren)?|brother|sister|him|her|them|dog|cat)\b|"
    r"\btake\s+revenge\b|\bget\s+(?:my\s+)?revenge\b|\bmake\s+(?:him|her|them)\s+suffer\b",
    re.I,
)
_WEAPON = re.compile(
    r"\b(?:build|make|buy|assemble|3d[\s-]?print|get)\b.{0,30}\b(?:bombs?|explosives?|guns?|firearms?|"
    r"silencers?|grenades?|nerve\s+agents?|bio-?weapons?|molotov)\b",
    re.I,
)
_CRIME = re.compile(
    r"\b(?:rob|burgle|shoplift|launder|embezzle|counterfeit|forge)\b|\bsteal\b(?!\s+(?:the\s+show|time))|"
    r"\bhack\s+(?:into\s+)?(?:my\s+|the\s+|a\s+|an\s+)?(?:\w+(?:['’]s)?\s+)?(?:account|phone|email|bank|computer|network|instagram)|"
    r"\b(?:cook|make|sell|deal|smuggle|traffic)\s+(?:some\s+)?(?:meth|cocaine|heroin|drugs|crack|fentanyl)|"
    r"\b(?:evade|dodge|cheat\s+on)\s+(?:my\s+)?tax|\bscam\s+(?:people|old|elderly|someone)|\bfake\s+(?:ids?|passports?)\b|"
    r"\bget\s+away\s+with\s+(?:murder|fraud)|\binsurance\s+fraud|\b(?:groom|seduce)\s+(?:a\s+)?(?:minor|child|teen)",
    re.I,
)

_REASONS = {
    "self": (
        "I am sorry that things are this heavy; I cannot help with this, but please talk to someone now: "
        "your local emergency number or a crisis line is there for you at any hour."
    ),
    "starve": (
        "I care about your health more than about this goal, so I cannot help with eating this little or "
        "losing weight this fast; a doctor or dietitian can plan a safe way with you."
    ),
    "violence": (
        "I cannot help with something that would hurt someone; if you are angry or afraid, I would gladly "
        "help you with a goal that protects you and leaves everyone unharmed."
    ),
    "crime": (
        "I cannot help with something that is against the law or endangers others; tell me what you "
        "need from it, and we may find an honest way there."
    ),
}

_WILL = re.compile(
    r"\b(?:want|wish|would\s+like|i['’]d\s+like|need|goal|plan\s+to|hope\s+to|aim|learn|become|get|stop|quit|start|"
    r"lose|gain|save|build|finish|write|read|run|improve|reach|help\s+me|how\s+(?:can|do|could|should)\s+i|by\s+the\s+end)\b",
    re.I,
)
_QUESTION = re.compile(
    r"^(?:what|when|where|who|why|which|whose|how\s+(?:many|much|old|far|long|is|are))\b",
    re.I,
)
_SMALL_TALK = re.compile(
    r"^(?:hi|hello|hey|yo|thanks?|thank\s+you|ok(?:ay)?|yes|no|test(?:ing)?|good\s+(?:morning|evening|night)|"
    r"how\s+are\s+you|lol|hm+|bye|help|nothing|idk|i\s+don['’]?t\s+know|whatever|lorem\s+ipsum.*)(?:\s+(?:there|world|test|you))*[\s.!?]*$",
    re.I | re.S,
)
_STATEMENT = re.compile(
    r"^(?:the|it|this|that|there|today)\b.*\b(?:is|are|was|were|has|had)\b", re.I | re.S
)
_WORDS = re.compile(
    r"^(?:clean|clear|paint|move|travel|visit|see|find|buy|own|plant|fix|repair|make|create|open|launch|"
    r"organi[sz]e|prepare|host|adopt|master|be|do|have|more|less|no|happiness|success|peace|love|travel|"
    r"discipline|focus|confidence|grow|try|walk|bake|cook)$",
    re.I,
)

_VOWEL = re.compile(r"[aeiouyà-ÿ]", re.I)
_NOISE = re.compile(
    r"asdf|sdfg|dfgh|fghj|ghjk|hjkl|qwer|wert|zxcv|xcvb|uiop|jkl|(.)\1\1|[bcdfghjklmnpqrstvwxz]{5,}",
    re.I,
)


def _starves(text: str) -> bool:
    calories = _CALORIES.search(text)
    if (
        calories
        and int(calories[1] or calories[2]) < 1000
        and re.search(r"\b(?:eat|diet|only|under|below|live)", text, re.I)
    ):
        return True
    loss = _FAST_LOSS.search(text)
    if loss is None:
        return bool(_STARVE.search(text))
    kilos = number(loss[1]) * (0.45 if loss[2].lower().startswith(("lb", "pound")) else 1)
    weeks = number(loss[3]) / (7 if loss[4].lower() == "day" else 1)
    return kilos >= 4 and kilos / max(weeks, 0.1) > 2


def _gibberish(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+", text)
    if not words:
        return True
    if any(ord(char) > 0x24F for char in text):
        return False  # another script: no way to tell, so it is taken seriously
    known = any(topic.found_in(text) for topic in TOPICS) or _WILL.search(text)
    if known or any(_WORDS.match(word) for word in words):
        return False
    noise = [word for word in words if _NOISE.search(word) or not _VOWEL.search(word)]
    return len(noise) * 2 >= len(words) or len(words) == 1


def refusal(text: str) -> tuple[Verdict, str] | None:
    """None for a goal that can be coached, else why not, in one kind sentence for the person."""
    text = text.strip()
    if _SELF.search(text):
        return "harmful", _REASONS["self"]
    if _starves(text):
        return "harmful", _REASONS["starve"]
    if _VIOLENCE.search(text):
        return "harmful", _REASONS["violence"]
    if _WEAPON.search(text) or _CRIME.search(text):
        return "harmful", _REASONS["crime"]
    asks = (_QUESTION.match(text) or text.endswith("?")) and not _WILL.search(text)
    if (
        _SMALL_TALK.match(text)
        or asks
        or _gibberish(text)
        or (_STATEMENT.match(text) and not _WILL.search(text))
    ):
        return "not_a_goal", (
            f"I could not find something to work towards in '{text[:60]}'; "
            "tell me what you would like to be able to do, have or change, and by when."
        )
    return None
