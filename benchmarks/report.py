"""The table, and what of the goals was reached."""

import statistics
from typing import Any

Results = dict[str, Any]
CRITICAL_PATH_MS = 2900.0
NAMES = ("floor: plain asyncio", "plain temporalio, untuned", "DBOS", "Rein")


def report(results: Results) -> str:
    """Markdown: medians over the repetitions, lowest to highest in brackets."""
    lines = [
        "| contestant | one run, ms over the model's time, p50 / p95 "
        "| with the document's latencies, ms over, p50 | 50 in flight, runs/s | CPU ms a run |",
        "|---|---|---|---|---|",
    ]
    for name in NAMES:
        zero, document, load = (results[key][name] for key in ("latency", "document", "load"))
        cpu = [sum(each["cpu"].values()) for each in load]
        lines.append(
            f"| {name} | {_span([each['p50'] for each in zero])} / "
            f"{_span([each['p95'] for each in zero])} "
            f"| {_span([each['p50'] for each in document])} | "
            f"{_span([each['rate'] for each in load])} | {_span(cpu)} |"
        )
    return "\n".join([*lines, "", *_shares(results), "", *_goals(results)])


def _shares(results: Results) -> list[str]:
    shares: dict[str, list[float]] = {}
    for trial in results["load"]["Rein"]:
        for process, spent in trial["cpu"].items():
            shares.setdefault(process, []).append(spent)
    told = ", ".join(f"{name} {statistics.median(each):.1f}" for name, each in shares.items())
    return [f"Rein's CPU ms a run, by process: {told}."]


def _goals(results: Results) -> list[str]:
    def median(key: str, name: str, field: str) -> float:
        return float(statistics.median(each[field] for each in results[key][name]))

    def cpu(name: str) -> float:
        trials = results["load"][name]
        return float(statistics.median(sum(each["cpu"].values()) for each in trials))

    plain, dbos, ours = NAMES[1:]
    over = median("document", ours, "p50")
    recovery, taken, post = results["recovery"], results["take_over"], results["post"]
    rows = [
        ("whole run / critical path", 1 + over / CRITICAL_PATH_MS, "≤ 1.03"),
        (
            "overhead / plain temporalio's",
            median("latency", ours, "p50") / median("latency", plain, "p50"),
            "≤ 0.3",
        ),
        (
            "overhead / DBOS's",
            median("latency", ours, "p50") / median("latency", dbos, "p50"),
            "≤ 3",
        ),
        (
            "rate / plain temporalio's",
            median("load", ours, "rate") / median("load", plain, "rate"),
            "≥ 1.2",
        ),
        ("CPU / plain temporalio's", cpu(ours) / cpu(plain), "≤ 1"),
        ("POST, ms, p50", post["p50"], "< 15"),
        ("recovery of 50 runs, s", recovery["seconds"], "≤ 8"),
        ("runs done after the kill", recovery["done"], "50"),
        ("calls under way at the kill, made again", recovery["repeated"], "≤ 100"),
        ("stored answers bought again", recovery["bought_again"], "0"),
        ("until every cut stage runs again at another worker, s", taken["seconds"], "≤ 3"),
    ]
    lines = ["| goal | reached | wanted |", "|---|---|---|"]
    return lines + [f"| {name} | {value:.3g} | {wanted} |" for name, value, wanted in rows]


def _span(values: list[float]) -> str:
    found = f"{statistics.median(values):.3g}"
    return f"{found} ({min(values):.3g}–{max(values):.3g})" if len(values) > 1 else found
