"""What must hold whatever happened."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from functools import reduce
from typing import NamedTuple, TypeVar

from domain.runs import FINAL_STATUSES, Usage
from llm.prices import cost_usd
from tests.chaos.facts import Facts, Row, is_closed
from tests.chaos.people import People, Run

T = TypeVar("T")

ENDED = "accepted runs ended, in row and execution"
EVENTS = "events without gaps, in rows and streams"
BOOKS = "row, ledger, spans and trace agree"
PROVIDER = "calls that the provider bills are answered or unknown"
BOUGHT_ONCE = "stored answers not asked for again"
TRACES = "one whole, ended trace a run, judged once"
LEFT = "nothing left reserved, pending or dead"
RATINGS = "ratings are there once, and on the trace"
ANSWERS = "answers of the API are right, or 503"


class Verdict(NamedTuple):
    """How many things were looked at, and a line for each that breaks the invariant."""

    checked: int
    broken: list[str]


def verdicts(facts: Facts, people: People) -> dict[str, Verdict]:
    """Every invariant by its name."""
    return {
        ENDED: runs_ended(facts, people),
        EVENTS: events_whole(facts, people),
        BOOKS: books_agree(facts),
        PROVIDER: provider_agrees(facts),
        BOUGHT_ONCE: bought_once(facts),
        TRACES: traces_whole(facts),
        LEFT: nothing_left(facts),
        RATINGS: ratings_kept(facts, people),
        ANSWERS: no_surprises(people),
    }


def _each(things: Iterable[T], wrong: Callable[[T], str]) -> Verdict:
    """Looks at each thing; `wrong` says what is wrong with it, "" if nothing is."""
    found = [wrong(thing) for thing in things]
    return Verdict(len(found), [text for text in found if text])


def runs_ended(facts: Facts, people: People) -> Verdict:
    rows = {row["run"]: row for row in facts.runs}
    accepted = {run.trace_id for run in people.runs}

    def wrong(trace_id: str) -> str:
        row = rows.get(trace_id)
        if row is None or trace_id not in accepted:
            return f"{trace_id}: accepted {trace_id in accepted}, row {row is not None}"
        if row["status"] not in FINAL_STATUSES:
            return f"{trace_id} is {row['status']}"
        if not is_closed(row, facts.executions.get(row["workflow_id"], [])):
            return f"{trace_id} is {row['status']}, which is not the end of its last execution"
        return ""

    return _each(rows.keys() | accepted, wrong)


def events_whole(facts: Facts, people: People) -> Verdict:
    def wrong(run: Run) -> str:
        stored = [event["seq"] for event in facts.events[run.trace_id]]
        seen = run.events
        if stored == list(range(1, len(stored) + 1)) and seen and seen == stored[: len(seen)]:
            return ""
        return f"{run.trace_id}: stored {stored}, streamed {seen}"

    return _each(people.runs, wrong)


class Book(NamedTuple):
    """What was used; `usd_unknown` is the part of `usd` whose bill nobody knows (reserves)."""

    tokens_in: int = 0
    tokens_out: int = 0
    usd: Decimal = Decimal(0)
    usd_unknown: Decimal = Decimal(0)

    def plus(self, other: "Book") -> "Book":
        return Book(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.usd + other.usd,
            self.usd_unknown + other.usd_unknown,
        )


def books_agree(facts: Facts) -> Verdict:
    """Tokens and cost to the last digit, in the run's row, the ledger, Opik's spans and trace."""

    def wrong(run: Row) -> str:
        calls, spans = facts.calls[run["run"]], facts.spans[run["run"]]
        traces = facts.traces[run["run"]]
        totals = traces[0].get("metadata", {}) if traces else {}
        books = {
            "row": Book(
                run["input_tokens"],
                run["output_tokens"],
                _usd(run["cost_usd"]),
                _usd(run["cost_unknown_usd"]),
            ),
            "ledger": reduce(Book.plus, map(_book_of_call, calls), Book()),
            "spans": reduce(Book.plus, map(_book_of_span, spans), Book()),
            "trace": Book(
                totals.get("prompt_tokens", 0),
                totals.get("completion_tokens", 0),
                _usd(totals.get("cost_usd")),
                _usd(totals.get("cost_unknown_usd")),
            ),
        }
        if len(set(books.values())) == 1:
            return ""
        told = "; ".join(f"{name} {tuple(map(str, book))}" for name, book in books.items())
        return f"{run['run']} ({run['status']}): {told}"

    return _each(facts.runs, wrong)


def _book_of_call(call: Row) -> Book:
    return Book(
        call["input_tokens"],
        call["output_tokens"] + call["thought_tokens"],
        _usd(call["cost_usd"]),
        _usd(call["reserved_usd"]) if call["state"] == "unknown" else Decimal(0),
    )


def _book_of_span(span: Row) -> Book:
    usage, usd = span.get("usage") or {}, _usd(span.get("total_estimated_cost"))
    at_most = (span.get("metadata") or {}).get("cost_at_most", False)
    return Book(
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
        usd,
        usd if at_most else Decimal(0),
    )


def _usd(value: object) -> Decimal:
    """Dollars as they were written, digit by digit."""
    return Decimal(0) if value is None else Decimal(str(value))


class Bill(NamedTuple):
    """What the provider asks for one call."""

    stage: str
    model: str
    tokens: tuple[int, int, int]
    usd: Decimal | None


def provider_agrees(facts: Facts) -> Verdict:
    """What the provider served is answered in Rein's ledger, to the last token and digit; the rest
    of it is unknown there."""
    served, calls = Counter(map(_served, facts.served)), facts.all_calls
    answered = Counter(_answered(call) for call in calls if call["state"] == "answered")
    unknown = Counter(call["stage"] for call in calls if call["state"] == "unknown")
    broken = [f"{times} × {bill} was never served" for bill, times in (answered - served).items()]
    lost = Counter(bill.stage for bill in (served - answered).elements())
    broken += [f"{times} × {stage} is not known" for stage, times in (lost - unknown).items()]
    billed, counted = provider_bill(facts), sum(_usd(run["cost_usd"]) for run in facts.runs)
    if billed > counted:
        broken.append(f"the provider bills ${billed}, Rein counts ${counted}")
    return Verdict(served.total(), broken)


def provider_bill(facts: Facts) -> Decimal:
    """All that the provider asks for, in US dollars."""
    return sum((_served(line).usd or Decimal(0) for line in facts.served), Decimal(0))


def _served(line: Row) -> Bill:
    tokens = line["prompt_tokens"], line["candidates_tokens"], line["thoughts_tokens"]
    usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1], thought_tokens=tokens[2])
    usd = cost_usd(line["model"], usage, datetime.fromisoformat(line["at"]).date())
    return Bill(line["stage"], line["model"], tokens, usd)


def _answered(call: Row) -> Bill:
    tokens = call["input_tokens"], call["output_tokens"], call["thought_tokens"]
    return Bill(call["stage"], call["model"], tokens, call["cost_usd"])


def bought_once(facts: Facts) -> Verdict:
    def wrong(calls: list[Row]) -> str:
        stored: dict[tuple[str, str], datetime] = {}
        for call in calls:
            request = call["stage"], call["request_sha256"]
            if request in stored and stored[request] < call["started_at"]:
                return f"{call['run']}: {call['stage']} again, in attempt {call['attempt']}"
            if call["state"] == "answered":
                stored[request] = call["finished_at"]
        return ""

    return _each(facts.calls.values(), wrong)


def traces_whole(facts: Facts) -> Verdict:
    def wrong(run: Row) -> str:
        traces, calls = facts.traces[run["run"]], facts.calls[run["run"]]
        if len(traces) != 1:
            return f"{run['run']} has {len(traces)} traces"
        faults = [
            *_faults_of_trace(traces[0], run),
            *_faults_of_spans(facts.spans[run["run"]], calls),
        ]
        if facts.judged[run["run"]] != 1:
            faults.append(f"judged {facts.judged[run['run']]} times")
        return f"{run['run']} ({run['status']}): {', '.join(faults)}" if faults else ""

    return _each(facts.runs, wrong)


def _faults_of_trace(trace: Row, run: Row) -> list[str]:
    status = trace.get("metadata", {}).get("status")
    faults = [] if trace.get("end_time") else ["open"]
    return faults if status == run["status"] else [*faults, f"says {status}"]


def _faults_of_spans(spans: list[Row], calls: list[Row]) -> list[str]:
    ids = {span["id"] for span in spans}
    models = {span["id"] for span in spans if span["type"] == "llm"}
    billed = {span["id"] for span in spans if "usage" in span or "total_estimated_cost" in span}
    answered = {call["id"] for call in calls if call["state"] == "answered"}
    stages = Counter(_activity(span) for span in spans if _activity(span))
    counts = {
        "open": sum(not span.get("end_time") for span in spans),
        "orphans": len({span.get("parent_span_id") for span in spans} - ids - {None}),
        "twice": len(spans) - len(ids) + sum(times > 1 for times in stages.values()),
        "calls without a span": len(answered - models),
        "billed spans of no call": len(billed - {call["id"] for call in calls}),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _activity(span: Row) -> tuple[str, str] | None:
    """Whose span it is, if it is a stage's: each activity of each execution has one."""
    metadata = span.get("metadata") or {}
    activity = metadata.get("activity_id")
    return (metadata["workflow_run_id"], activity) if activity else None


def nothing_left(facts: Facts) -> Verdict:
    left = [call for call in facts.all_calls if call["state"] == "reserved"]
    calls = [f"call {call['id']} of {call['run']}" for call in left]
    rows = [
        f"{row['kind']} {row['id']}: {row['state']} {row['error'] or ''}"
        for row in facts.outbox
        if row["state"] != "sent"
    ]
    return Verdict(len(facts.all_calls) + len(facts.outbox), calls + rows)


def ratings_kept(facts: Facts, people: People) -> Verdict:
    def wrong(run: Run) -> str:
        stored = [float(each["rating"]) for each in facts.feedback[run.trace_id]]
        scores = [
            score["value"]
            for trace in facts.traces[run.trace_id]
            for score in trace.get("feedback_scores", [])
            if score["name"] == "user_feedback.rating"
        ]
        if stored == scores == [run.rating]:
            return ""
        return f"{run.trace_id}: said {run.rating}, stored {stored}, on the trace {scores}"

    return _each((run for run in people.runs if run.rating is not None), wrong)


def no_surprises(people: People) -> Verdict:
    """Away is 503; any other server error is a mistake, and so is a refusal without a reason."""
    mistakes = (status for status in people.answers if status >= 500 and status != 503)
    broken = [f"{people.answers[status]} × {status}" for status in mistakes]
    return Verdict(people.answers.total(), broken + people.surprises)
