"""A project's numbers over time, and its four key numbers beside those of the time before."""

from datetime import UTC, datetime, timedelta

from devstack.opik.http import Call, Doc, Refused, Reply, Routes
from devstack.opik.queries import Where, add_filter, filters_of
from devstack.opik.rules import EPOCH, from_pico, from_us, to_us
from devstack.opik.stats import Sums, percentiles

routes = Routes("/v1/private/projects")
STEPS = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1), "WEEKLY": timedelta(weeks=1)}
MOST_BUCKETS = 1000
US = timedelta(microseconds=1)


def _sums(call: Call, filters: object, start_us: int, end_us: int) -> Sums:
    where = Where()
    where.add("e.project_id = ?", call.params["id"])
    where.add("e.start_us >= ? AND e.start_us < ?", start_us, end_us)
    for each in filters_of(filters):
        add_filter(where, "traces", each)
    return Sums(call.store.read(), "traces", where)


def _interval(doc: Doc) -> tuple[int, int]:
    now = (datetime.now(UTC) - EPOCH) // US
    try:
        end = to_us(doc["interval_end"]) if doc.get("interval_end") else now
        return to_us(doc["interval_start"]), end
    except (KeyError, ValueError) as error:
        raise Refused(400, "Invalid interval", str(error)) from error


def _values(metric: str, sums: Sums) -> dict[str, float | None]:
    """The named lines of a metric in one bucket."""
    match metric:
        case "TRACE_COUNT":
            return {"traces": sums.count}
        case "SPAN_COUNT":
            return {"spans": sums.span_count}
        case "TOKEN_USAGE":
            return {name: value for name, value in sorted(sums.usage.items())}
        case "COST":
            return {"cost": from_pico(sums.cost_pico)}
        case "DURATION":
            return {f"duration.{k}": v for k, v in (percentiles(sums.durations) or {}).items()}
        case "TRACE_AVERAGE_DURATION":
            return {"duration": _mean(sums.durations)}
        case "TRACE_ERROR_RATE":
            return {"error_rate": 100 * sums.errors / sums.count if sums.count else None}
        case "FEEDBACK_SCORES":
            return {str(each["name"]): float(each["value"]) for each in sums.scores()}
    raise Refused(400, f"metric_type '{metric}' is not known to this receiver")


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _buckets(start: int, end: int, interval: str) -> list[tuple[int, int]]:
    if interval not in STEPS:
        return [(start, end)]
    step = STEPS[interval] // US
    first = start // step * step
    if (end - first) // step > MOST_BUCKETS:
        raise Refused(400, f"more than {MOST_BUCKETS} buckets")
    return [(at, at + step) for at in range(first, end, step)]


@routes("POST", "/{id}/metrics")
def metrics(call: Call) -> Reply:
    """One metric in buckets of an hour, a day or a week, or in one."""
    doc = call.doc()
    metric, interval = str(doc.get("metric_type")), str(doc.get("interval", "TOTAL"))
    buckets = _buckets(*_interval(doc), interval)
    found = [
        (start, _values(metric, _sums(call, doc.get("trace_filters"), start, end)))
        for start, end in buckets
    ]
    names = sorted({name for _, values in found for name in values})
    results = [
        {
            "name": name,
            "data": [{"time": from_us(at), "value": values.get(name)} for at, values in found],
        }
        for name in names
    ]
    body = {"project_id": call.params["id"], "metric_type": metric, "interval": interval}
    return Reply(200, {**body, "results": results})


@routes("POST", "/{id}/kpi-cards")
def kpi_cards(call: Call) -> Reply:
    """Count, errors, duration and cost, now and in the interval of the same length before."""
    doc = call.doc()
    start, end = _interval(doc)
    now = _kpis(_sums(call, doc.get("filters"), start, end))
    before = _kpis(_sums(call, doc.get("filters"), 2 * start - end, start))
    stats = [
        {"type": name, "current_value": value, "previous_value": before[name]}
        for name, value in now.items()
    ]
    return Reply(200, {"stats": stats})


def _kpis(sums: Sums) -> dict[str, float | None]:
    return {
        "count": sums.count,
        "errors": 100 * sums.errors / sums.count if sums.count else None,
        "avg_duration": _mean(sums.durations),
        "total_cost": from_pico(sums.cost_pico),
    }
