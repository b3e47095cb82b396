"""Response schemas, in Gemini's spelling or JSON Schema's, as a tree of places."""

from dataclasses import dataclass, field
from typing import Any

from devstack.gemini.protocol import Json, either


@dataclass
class Node:
    """One place in a schema. `kind` is JSON Schema's type in lower case, or 'any'.

    `first` are the items that have a schema each (prefixItems), `items` is that of all others.
    """

    kind: str = "any"
    properties: "dict[str, Node]" = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    first: "list[Node]" = field(default_factory=list)
    items: "Node | None" = None
    choices: list[Any] = field(default_factory=list)
    options: "list[Node]" = field(default_factory=list)
    nullable: bool = False
    format: str = ""
    low: float | None = None
    high: float | None = None
    shortest: int = 0
    longest: int | None = None

    def size(self, wanted: int) -> int:
        """The number of items or characters that is nearest to what is wanted."""
        most = wanted if self.longest is None else self.longest
        return max(self.shortest, min(wanted, most))

    def bounded(self, value: float) -> float:
        """The allowed number that is nearest to the value; a whole one where it has to be."""
        value = value if self.low is None else max(value, self.low)
        value = value if self.high is None else min(value, self.high)
        return int(value) if self.kind == "integer" else value


class _Compiler:
    def __init__(self, root: Json) -> None:
        self.root = root
        self.seen: dict[str, Node] = {}

    def compile(self, schema: Json) -> Node:
        ref = schema.get("$ref")
        if ref in self.seen:
            return self.seen[ref]
        node = Node()
        if ref:
            self.seen[ref] = node  # first the shell: a schema may name itself
        self.fill(node, self._target(schema))
        return node

    def _target(self, schema: Json) -> Json:
        found: Any = self.root if "$ref" in schema else schema
        for step in str(schema.get("$ref", "")).removeprefix("#").strip("/").split("/"):
            found = found.get(step, {}) if step else found
        return found if isinstance(found, dict) else {}

    def fill(self, node: Node, schema: Json) -> None:
        for part in schema.get("allOf") or []:
            self.fill(node, self._target(part))
        kinds = schema.get("type") or []
        listed = [str(k).lower() for k in (kinds if isinstance(kinds, list) else [kinds])]
        node.nullable |= bool(schema.get("nullable")) or "null" in listed
        named = [kind for kind in listed if kind != "null"] or listed or [node.kind]
        node.kind = named[0]
        node.choices += [schema["const"]] if "const" in schema else schema.get("enum") or []
        for option in either(schema, "anyOf", "any_of") or schema.get("oneOf") or []:
            if str(option.get("type", "")).lower() == "null":
                node.nullable, node.kind = True, "null"
            else:
                node.options.append(self.compile(option))
        self._children(node, schema)
        self._bounds(node, schema)

    def _children(self, node: Node, schema: Json) -> None:
        for name, child in (schema.get("properties") or {}).items():
            node.kind = "object"
            node.properties[name] = self.compile(child)
        node.required |= frozenset(schema.get("required") or ())
        first, items = either(schema, "prefixItems", "prefix_items"), schema.get("items")
        if first or isinstance(items, dict):
            node.kind = "array"
            node.first = [self.compile(each) for each in first or []]
            node.items = self.compile(items) if isinstance(items, dict) else None

    @staticmethod
    def _bounds(node: Node, schema: Json) -> None:
        node.format = str(schema.get("format") or node.format)
        step = 1 if node.kind == "integer" else 0.01
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        node.low = schema.get("minimum", node.low) if above is None else above + step
        node.high = schema.get("maximum", node.high) if below is None else below - step
        for what in ("Items", "Length"):
            least = either(schema, f"min{what}", f"min_{what.lower()}")
            most = either(schema, f"max{what}", f"max_{what.lower()}")
            node.shortest = node.shortest if least is None else int(least)
            node.longest = node.longest if most is None else int(most)


def compiled(schema: Json) -> Node:
    """The schema as a tree."""
    return _Compiler(schema).compile(schema)


# Gates, latency and faults are set by stage. A stage that is not here is called "other".
STAGE_MARKS = (
    ("preprocess", {"clarified_goal", "smart"}),
    ("generate", {"title", "strategy", "phases"}),
    ("evaluate", {"clarity", "specificity", "measurability", "actionability"}),
    ("plan", {"first_step_today", "milestones"}),
)


def stage_of(schema: Json | None) -> str:
    """Which coaching stage asks, told by the names of the answer's properties."""
    names = (schema or {}).get("properties") or {}
    found = (stage for stage, marks in STAGE_MARKS if marks <= names.keys())
    return next(found, "other")
