"""Response schemas, in Gemini's spelling or JSON Schema's: compiled once, then obeyed."""

import json
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from devstack.gemini.protocol import Json, either

MAX_DEPTH = 6


@dataclass
class Node:
    """One place in a schema. `kind` is JSON Schema's type in lower case, or 'any'."""

    kind: str = "any"
    name: str = ""
    properties: "dict[str, Node]" = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    closed: bool = True
    items: "Node | None" = None
    choices: list[Any] = field(default_factory=list)
    options: "list[Node]" = field(default_factory=list)
    nullable: bool = False
    format: str = ""
    low: float | None = None
    high: float | None = None
    shortest: int = 0
    longest: int | None = None


class _Compiler:
    def __init__(self, root: Json) -> None:
        self.root = root
        self.seen: dict[str, Node] = {}

    def resolve(self, ref: str) -> Node:
        if ref not in self.seen:
            node = self.seen[ref] = Node()  # first the shell: a schema may name itself
            target: Any = self.root
            for step in ref.removeprefix("#").strip("/").split("/"):
                target = target.get(step, {}) if step else target
            self.fill(node, target, ref.rsplit("/", 1)[-1])
        return self.seen[ref]

    def compile(self, schema: Json, name: str = "") -> Node:
        ref = schema.get("$ref")
        if ref:
            return self.resolve(ref)
        node = Node()
        self.fill(node, schema, name)
        return node

    def fill(self, node: Node, schema: Json, name: str) -> None:
        node.name = name
        kinds = schema.get("type")
        listed = [str(k).lower() for k in (kinds if isinstance(kinds, list) else [kinds]) if k]
        node.nullable = bool(schema.get("nullable")) or "null" in listed
        node.kind = next((kind for kind in listed if kind != "null"), "null" if listed else "any")
        self._choices(node, schema)
        self._options(node, schema, name)
        self._bounds(node, schema)
        children = schema.get("properties") or {}
        if children or node.kind == "object":
            node.kind = "object"
            node.properties = {key: self.compile(value, key) for key, value in children.items()}
            node.required = frozenset(schema.get("required") or ())
            node.closed = bool(children)
        if isinstance(schema.get("items"), dict):
            node.kind = "array"
            node.items = self.compile(schema["items"], name)

    def _choices(self, node: Node, schema: Json) -> None:
        node.choices = [schema["const"]] if "const" in schema else list(schema.get("enum") or [])
        if node.choices and node.kind == "any":
            node.kind = "enum"

    def _options(self, node: Node, schema: Json, name: str) -> None:
        merged = schema.get("allOf") or []
        if merged and not schema.get("properties"):
            for part in merged:
                self.fill(node, self._target(part), name)
        options = either(schema, "anyOf", "any_of") or schema.get("oneOf") or []
        for option in options:
            if str(option.get("type", "")).lower() == "null":
                node.nullable = True
            else:
                node.options.append(self.compile(option, name))

    def _target(self, part: Json) -> Json:
        ref = str(part.get("$ref", ""))
        found: Any = self.root
        for step in ref.removeprefix("#").strip("/").split("/"):
            found = found.get(step, {}) if step else found
        return found if ref else part

    @staticmethod
    def _bounds(node: Node, schema: Json) -> None:
        node.format = str(schema.get("format") or "")
        node.low, node.high = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        step = 1 if node.kind == "integer" else 0.5
        node.low = above + step if isinstance(above, int | float) else node.low
        node.high = below - step if isinstance(below, int | float) else node.high
        least, most = (
            ("minItems", "maxItems") if node.kind == "array" else ("minLength", "maxLength")
        )
        if node.kind in ("array", "string"):
            snake = {"minItems": "min_items", "maxItems": "max_items"}
            snake |= {"minLength": "min_length", "maxLength": "max_length"}
            node.shortest = int(either(schema, least, snake[least]) or 0)
            longest = either(schema, most, snake[most])
            node.longest = None if longest is None else int(longest)


@lru_cache(maxsize=128)
def _compiled(text: str) -> Node:
    root: Json = json.loads(text)
    return _Compiler(root).compile(root)


def compiled(schema: Json) -> Node:
    """The schema as a tree; the same schema is compiled once per process."""
    return _compiled(json.dumps(schema))


STAGE_MARKS = (
    ("preprocess", {"clarified_goal", "smart"}),
    ("generate", {"title", "strategy", "phases"}),
    ("evaluate", {"clarity", "specificity", "measurability", "actionability"}),
    ("plan", {"weeks", "milestones", "first_step_today"}),
)


def stage_of(schema: Json | None) -> str:
    """Which coaching stage asks, told by the names of the answer's properties."""
    names = (schema or {}).get("properties") or {}
    found = (stage for stage, marks in STAGE_MARKS if marks <= names.keys())
    return next(found, "other")


def generate(node: Node, words: list[str], rng: random.Random, depth: int = 0) -> Any:
    """Any value that the schema allows, written with words of the request."""
    if node.choices:
        return rng.choice(node.choices)
    if node.options:
        if depth >= MAX_DEPTH and node.nullable:
            return None
        return generate(node.options[0], words, rng, depth + 1)
    if node.nullable and (depth >= MAX_DEPTH or rng.random() < 0.2):
        return None
    if node.kind == "object":
        wanted = node.required if depth >= MAX_DEPTH else node.properties.keys()
        return {
            key: generate(node.properties.get(key, Node()), words, rng, depth + 1)
            for key in sorted(wanted, key=list(node.properties).index)
        }
    if node.kind == "array":
        count = node.shortest if depth >= MAX_DEPTH else max(node.shortest, rng.randint(1, 3))
        count = count if node.longest is None else min(count, node.longest)
        items = node.items or Node("string")
        return [generate(items, words, rng, depth + 1) for _ in range(count)]
    return _scalar(node, words, rng)


def _scalar(node: Node, words: list[str], rng: random.Random) -> Any:
    if node.kind == "boolean":
        return rng.random() < 0.5
    if node.kind == "null":
        return None
    if node.kind in ("integer", "number"):
        low = node.low if node.low is not None else min(1.0, node.high or 1.0)
        high = node.high if node.high is not None else low + 9
        value = low + (high - low) * rng.random()
        return (
            max(int(low), min(int(value), int(high)))
            if node.kind == "integer"
            else (min(max(round(value * 2) / 2, low), high))
        )
    formats = {
        "date": f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        "date-time": f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T09:00:00Z",
        "time": f"{rng.randint(6, 21):02d}:00:00",
        "uuid": f"{rng.getrandbits(64):016x}"[:8]
        + "-0000-4000-8000-"
        + f"{rng.getrandbits(48):012x}",
        "email": "someone@example.org",
        "uri": "https://example.org/",
    }
    if node.format in formats:
        return formats[node.format]
    return _fit_text(_phrase(node.name, words, rng), node)


def _phrase(name: str, words: list[str], rng: random.Random) -> str:
    start = rng.randrange(max(1, len(words) - 6)) if words else 0
    said = " ".join(words[start : start + 6]) or "nothing was said"
    return f"{name.replace('_', ' ').strip().capitalize() or 'Answer'}: {said}"


def _fit_text(text: str, node: Node) -> str:
    if len(text) < node.shortest:
        text = text.ljust(node.shortest, ".")
    return text if node.longest is None else text[: node.longest].rstrip() or text[: node.longest]


def conform(value: Any, node: Node, words: list[str], rng: random.Random) -> Any:
    """A written answer made to obey a schema that may ask for more, for less or for shorter."""
    if value is None or (node.choices and value not in node.choices):
        return None if value is None and node.nullable else generate(node, words, rng)
    if node.options:
        fitting = [o for o in node.options if _fits(value, o)]
        return conform(value, (fitting or node.options)[0], words, rng)
    if not _fits(value, node):
        return generate(node, words, rng)
    if node.kind == "object" and node.closed:
        return {
            key: conform(value.get(key), child, words, rng)
            for key, child in node.properties.items()
            if key in value or key in node.required
        }
    if node.kind == "array" and node.items is not None:
        return _conform_list(value, node, words, rng)
    if node.kind in ("integer", "number"):
        value = value if node.low is None else max(value, node.low)
        value = value if node.high is None else min(value, node.high)
        return int(value) if node.kind == "integer" else value
    return _fit_text(value, node) if node.kind == "string" else value


def _conform_list(value: list[Any], node: Node, words: list[str], rng: random.Random) -> list[Any]:
    items = node.items or Node("string")
    kept = [conform(item, items, words, rng) for item in value[: node.longest]]
    missing = range(node.shortest - len(kept))
    return kept + [generate(items, words, rng) for _ in missing]


_PYTHON = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int | float,
    "number": int | float,
}


def _fits(value: Any, node: Node) -> bool:
    kind = _PYTHON.get(node.kind)
    return kind is None or (isinstance(value, kind) and (kind is bool or value is not True))
