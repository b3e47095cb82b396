"""How values look to people: durations, money, ages, words."""

from collections.abc import Mapping
from decimal import Decimal
from urllib.parse import urlsplit

from pydantic_core import from_json

from devstack.opik.rules import PICO, from_us, now_us

STATUSES: dict[str, tuple[str, str]] = {
    "success": ("✓", "Success"),
    "partial": ("◐", "Partial"),
    "running": ("●", "Running"),
    "refused": ("⊘", "Refused"),
    "failed": ("✕", "Failed"),
    "cancelled": ("■", "Cancelled"),
    "terminated": ("■", "Terminated"),
    "timed_out": ("◷", "Timed out"),
}


def status_icon(status: str) -> str:
    """A sign for a status; never the only carrier of its meaning."""
    return STATUSES.get(status, ("○", ""))[0]


def status_word(status: str) -> str:
    """A status as a word."""
    return STATUSES.get(status, ("", status.replace("_", " ").capitalize()))[1]


def duration(us: int | None) -> str:
    """Microseconds as people say it: 3.2 s, 48 ms, 4 min 5 s."""
    if us is None:
        return "–"
    if us < 0:
        return "0 ms"
    seconds = us / 1e6
    if seconds < 0.0995:
        return f"{us / 1000:.0f} ms" if us >= 1000 else f"{us / 1000:.1f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.995 else f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def money(pico: int | None) -> str:
    """Whole 1e-12 dollars with as many digits as the amount needs."""
    if pico is None:
        return "–"
    usd = pico / PICO
    if usd == 0:
        return "$0"
    if 0 < usd < Decimal("0.000001"):
        return "under $0.000001"
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.{4 if usd >= 0.01 else 6}f}"


def age(us: int) -> str:
    """How long ago, in words."""
    seconds = (now_us() - us) / 1e6
    if seconds < 60:
        return "Just now"
    for limit, unit, word in ((3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {word} ago"
    return from_us(us)[:10]


def moment(us: int | None) -> str:
    """A time in full, UTC."""
    return "–" if us is None else from_us(us)[:19].replace("T", " ") + " UTC"


def number(value: float | None) -> str:
    """A whole number with separators."""
    return "–" if value is None else f"{value:,.0f}"


def score(value: float | None) -> str:
    """A score without needless zeros: 8.2, 8, 7.5."""
    return "N/A" if value is None else f"{value:.1f}".removesuffix(".0")


def links(metadata: object) -> list[tuple[str, str]]:
    """Label and address of every `…_url` key that really is a web address."""
    if not isinstance(metadata, Mapping):
        return []
    found = []
    for key, value in metadata.items():
        if key.endswith("_url") and isinstance(value, str) and is_web(value):
            found.append((key.removesuffix("_url").replace("_", " ").capitalize(), value))
    return found


def is_web(address: str) -> bool:
    """Whether an address may become a link: http and https only, with a host."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def parsed(text: object) -> object:
    """The value of a text that is JSON itself, else None."""
    if not isinstance(text, str) or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value: object = from_json(text)
    except ValueError:
        return None
    return value


# Control characters by their numbers, and those a reader should know by their names.
_CONTROLS = {code: f"⟨{code:02X}⟩" for code in (*range(32), 0x7F) if chr(code) not in "\t\n\r"}
_VISIBLE = {**_CONTROLS, 0x1B: "⟨ESC⟩", 0x202D: "⟨LRO⟩", 0x202E: "⟨RLO⟩"}


def visible(value: object) -> object:
    """Text without characters that act on the reader's screen instead of being seen."""
    return value.translate(_VISIBLE) if type(value) is str else value


def gist(value: object) -> str:
    """What an input is about, in one line: its first text."""
    whole = parsed(value) or value
    if isinstance(whole, Mapping):
        texts = (each for each in whole.values() if isinstance(each, str) and each.strip())
        whole = next(texts, whole)
    return brief(whole, 160) if whole else ""


def leaves(value: object) -> int:
    """How many single values a JSON value holds."""
    if isinstance(value, Mapping):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list) else 1


def brief(value: object, limit: int = 90) -> str:
    """One line of a value, to stand beside a folded heading."""
    if isinstance(value, Mapping):
        text = " · ".join(f"{k}: {brief(v, 40)}" for k, v in list(value.items())[:4])
    elif isinstance(value, list):
        text = f"{len(value)} items"
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
