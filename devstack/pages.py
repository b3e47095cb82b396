"""How a run looks on a terminal, 80 columns and up."""

from datetime import date, datetime

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from devstack.demo import Json

WIDTH = 100
DIMENSIONS = ("clarity", "specificity", "measurability", "actionability")
WEEKS_SHOWN = 3
STAGE_NAMES = {
    "preprocess": "clarify",
    "generate": "resolution",
    "evaluate": "scores",
    "plan": "plan",
}
STATUS_STYLES = {"success": "green", "partial": "yellow", "refused": "yellow"}


def console() -> Console:
    """Never wider than what reads well."""
    plain = Console(highlight=False)
    return Console(highlight=False, width=min(WIDTH, plain.width))


def indent(thing: RenderableType, by: int = 2) -> Padding:
    return Padding(thing, (0, 0, 0, by))


def heading(title: str) -> RenderableType:
    return Group(Text(""), Rule(Text(title, style="bold"), align="left", style="dim"))


def grid(*styles: str) -> Table:
    """Rows whose last column takes the room and wraps under itself."""
    table = Table.grid(padding=(0, 2))
    for style in styles[:-1]:
        table.add_column(style=style, no_wrap=True)
    table.add_column(style=styles[-1], overflow="fold")
    return table


def links(rows: list[tuple[str, str, str]]) -> RenderableType:
    """(name, address, what one finds there)."""
    table = grid("bold", "cyan", "dim")
    for row in rows:
        table.add_row(*row)
    return indent(table)


def earlier_goals(items: list[Json]) -> RenderableType:
    """One line for each."""
    table = grid("dim", "", "")
    for item in items:
        score = item["quality_score"]
        table.add_row(
            day_and_time(item["created_at"]),
            Text(item["status"], style=STATUS_STYLES.get(item["status"], "red")),
            (item["title"] or item["goal"]) + (f" · {score:g}/10" if score is not None else ""),
        )
    return Group(heading("Earlier goals"), indent(table))


def event_line(event: Json, started: datetime) -> RenderableType | None:
    """What a stage says as it happens; None for what the eye need not see."""
    # The two clocks are the same; the row may still be a little older than the answer about it.
    seconds = max(0.0, (datetime.fromisoformat(event["at"]) - started).total_seconds())
    kind, stage = event["kind"], STAGE_NAMES.get(event["stage"] or "", "")
    marks = {
        "accepted": "[dim]·[/]",
        "stage_started": "[cyan]▸[/]",
        "stage_finished": "[green]✓[/]",
        "stage_retrying": "[yellow]↻[/]",
        "stage_failed": "[red]✗[/]",
    }
    if kind not in marks:
        return None
    style = "dim" if kind in ("stage_started", "accepted") else ""
    table = grid("dim", "", "bold", style)
    table.columns[0].width, table.columns[0].justify = 7, "right"
    table.columns[2].width = 10
    table.add_row(f"{seconds:.1f} s", marks[kind], stage, Text(event["message"]))
    return table


def result(run: Json) -> RenderableType:
    """The whole result; of a run without one, why there is none."""
    parts: list[RenderableType] = []
    if run["refusal"]:
        parts += [heading("Refused"), indent(Text(run["refusal"]))]
    if run["error"]:
        told = f"{run['error']['code']}: {run['error']['message']}"
        parts += [heading(f"The run {run['status']}"), indent(Text(told, style="red"))]
    if run["resolution"]:
        parts.append(_resolution(run["resolution"]))
    if run["evaluation"]:
        parts.append(_scores(run["evaluation"]))
    if run["plan"]:
        parts.append(_plan(run["plan"]))
    for stage, code in run["missing"].items():
        again = f"ask again: {run['links']['rerun']}"
        note = f"{STAGE_NAMES.get(stage, stage)} is missing ({code}); {again}"
        parts.append(indent(Text(note, style="yellow")))
    return Group(*parts, _facts(run))


def _resolution(resolution: Json) -> RenderableType:
    phases = grid("dim", "bold", "")
    for phase in resolution["phases"]:
        weeks = f"weeks {phase['start_week']}–{phase['end_week']}"
        phases.add_row(weeks, phase["name"], phase["focus"])
    return Group(
        heading(resolution["title"]),
        indent(Text(resolution["summary"])),
        Text(""),
        indent(phases),
    )


def _scores(evaluation: Json) -> RenderableType:
    table = grid("", "bold", "dim")
    table.columns[1].justify = "right"
    for name in DIMENSIONS:
        given = evaluation[name]
        table.add_row(name, f"{given['score']:g}", Text(given["why"]))
    table.add_row(
        Text("overall", style="bold"),
        f"{evaluation['overall']:g}",
        Text(evaluation["status"], style="bold not dim " + _quality_style(evaluation["overall"])),
    )
    return Group(heading("Scores, of 10"), indent(table))


def _plan(plan: Json) -> RenderableType:
    parts: list[RenderableType] = [
        heading(f"Plan · {len(plan['weeks'])} weeks, {span(plan['starts_on'], plan['ends_on'])}"),
        indent(_labelled("today", plan["first_step_today"])),
    ]
    for week in plan["weeks"][:WEEKS_SHOWN]:
        title = f"Week {week['week']} · {span(week['starts_on'], week['ends_on'])}"
        parts += [Text(""), indent(Text.assemble((title, "bold"), f" · {week['focus']}"))]
        table = grid("dim", "dim", "")
        for task in week["tasks"]:
            done = Text(f" – {task['done_when']}", style="dim")
            table.add_row(day(task["date"]), f"{task['minutes']:>3} min", Text(task["what"]) + done)
        parts.append(indent(table, 4))
    more = len(plan["weeks"]) - WEEKS_SHOWN
    if more > 0:
        parts.append(indent(Text(f"… and {more} weeks more", style="dim"), 4))
    parts += [Text(""), indent(Text("Milestones", style="bold"))]
    milestones = grid("dim", "", "dim")
    for milestone in plan["milestones"]:
        milestones.add_row(day(milestone["date"]), Text(milestone["title"]), milestone["measure"])
    return Group(*parts, indent(milestones, 4))


def _labelled(label: str, text: str) -> Table:
    table = grid("bold green", "")
    table.add_row(label, Text(text))
    return table


def _facts(run: Json) -> RenderableType:
    table = grid("bold", "")
    table.columns[0].width = 8
    tokens = f"{run['input_tokens']:,} tokens in, {run['output_tokens']:,} out"
    cost = f"${run['cost_usd']}" if run["cost_usd"] is not None else "price not known"
    if run["unknown_calls"]:
        cost = f"at most {cost}"
    seconds = f"{run['duration_ms'] / 1000:.1f} s" if run["duration_ms"] is not None else "–"
    table.add_row("took", f"{seconds} · {tokens} · {cost} · {run['manifest']['model']}")
    return Group(heading(f"This run · {run['status']}"), indent(table))


def run_links(console: Console, run: Json) -> None:
    """Printed unbroken, whatever the width: a folded address cannot be opened."""
    for name in ("trace", "workflow"):
        address = run["links"][name]
        line = Text.assemble((f"  {name:<10}", "bold"), (address, f"cyan link {address}"))
        console.print(line, soft_wrap=True)


def next_steps(console: Console, url: str, key: str) -> None:
    """How to send a second goal, and where the endpoints are. Printed unbroken, to be copied."""
    shown = [f"export REIN_KEY={key}"] if key else []
    bearer = '-H "Authorization: Bearer $REIN_KEY" ' if key else ""
    body = '{"goal": "Read 20 books this year", "user_id": "me"}'
    shown.append(f"curl {url}/api/goals {bearer}-H 'Content-Type: application/json' -d '{body}'")
    docs = f"{url}/docs#key={key}" if key else f"{url}/docs"
    for line in ("", *(f"  {line}" for line in shown), ""):
        console.print(Text(line), soft_wrap=True)
    try_it = Text.assemble(("  try it    ", "bold"), (docs, f"cyan link {docs}"))
    console.print(try_it, soft_wrap=True)


def _quality_style(overall: float) -> str:
    return "green" if overall >= 7.5 else "yellow" if overall >= 6 else "red"


def day(text: str) -> str:
    """E.g. "Tue 24 Nov" or "Tue  1 Dec": one width, for columns."""
    when = date.fromisoformat(text)
    return f"{when:%a} {when.day:>2} {when:%b}"


def span(start: str, end: str) -> str:
    """E.g. "Tue 24 Nov – Mon 5 Apr 2027"."""
    last = date.fromisoformat(end)
    year = f" {last.year}" if last.year != date.fromisoformat(start).year else ""
    return f"{day(start)} – {day(end)}{year}".replace("  ", " ")


def day_and_time(text: str) -> str:
    """Local time."""
    return f"{datetime.fromisoformat(text).astimezone():%d %b %H:%M}"
