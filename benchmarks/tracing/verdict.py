"""What is left of a run's trace after a crash, as figures."""

from collections import Counter
from dataclasses import dataclass

from benchmarks.tracing.collector import Span
from benchmarks.tracing.sample import ATTEMPTS
from benchmarks.tracing.ways import WAYS


@dataclass(frozen=True)
class Verdict:
    """`attempts`: activity attempts that can be seen, of `of`. The rest should be 0, traces 1."""

    way: str
    what: str
    attempts: int
    of: int
    spans: int
    orphans: int
    duplicates: int
    unended: int
    traces: int
    open_traces: int


def verdict(way: str, what: str, spans: list[Span], traces: int, open_traces: int) -> Verdict:
    """Count. An orphan's parent is nowhere; a duplicate's id came twice."""
    ids = {span.id for span in spans}
    copies = Counter(span.id for span in spans)
    return Verdict(
        way=way,
        what=what,
        attempts=len({span.attempt for span in spans if span.attempt}),
        # In the terminated run C has one attempt only.
        of=ATTEMPTS if what == "worker killed" else ATTEMPTS - 1,
        spans=len(spans),
        orphans=sum(bool(span.parent) and span.parent not in ids for span in spans),
        duplicates=sum(count - 1 for count in copies.values()),
        unended=sum(not span.ended for span in spans),
        traces=traces,
        open_traces=open_traces,
    )


def table(found: list[Verdict]) -> str:
    """Markdown."""
    lines = [
        "| way | run | attempts seen | spans | orphans | duplicates | spans never ended "
        "| traces | traces never ended |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {WAYS[each.way]} | {each.what} | {each.attempts} of {each.of} | {each.spans} "
        f"| {each.orphans} | {each.duplicates} | {each.unended} | {each.traces} "
        f"| {each.open_traces} |"
        for each in found
    ]
    return "\n".join(lines)
