"""Prometheus gauges whose values are read from PostgreSQL at each scrape."""

from prometheus_client import CollectorRegistry, Gauge

from db.runs import RecentRuns
from tracing import Backlog


class Gauges:
    """Gauges of the runs and the trace outbox, with the values of the last successful reading."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge("rein_postgresql_up", "1 when the gauges could be read", registry=registry)
        self._runs = Gauge(
            "rein_runs",
            "Runs by status: those not ended, and those of the last 24 hours",
            ["status"],
            registry=registry,
        )
        self._unknown_calls = Gauge(
            "rein_unknown_calls",
            "Model calls of runs of the last 24 hours that may have been billed for nothing",
            registry=registry,
        )
        self._cost_unknown = Gauge(
            "rein_cost_unknown_usd",
            "The most that these calls can have cost, in US dollars",
            registry=registry,
        )
        self._refused = Gauge(
            "rein_starts_refused",
            "Accepted runs that Temporal refused to start; their events say why",
            registry=registry,
        )
        self._pending = Gauge(
            "rein_outbox_pending", "Trace rows that wait to be sent", registry=registry
        )
        self._oldest = Gauge(
            "rein_outbox_oldest_seconds", "How long the oldest has waited", registry=registry
        )
        self._dead = Gauge(
            "rein_outbox_dead", "Trace rows set aside with a reason", registry=registry
        )
        self._open = Gauge("rein_traces_open", "Traces that have not ended", registry=registry)

    def set(self, runs: RecentRuns, refused: int, outbox: Backlog) -> None:
        """Set all gauges to values just read from PostgreSQL.

        `refused` counts the runs that Temporal refused to start.
        """
        self._runs.clear()
        for status, count in runs.by_status.items():
            self._runs.labels(status).set(count)
        self._unknown_calls.set(runs.unknown_calls)
        self._cost_unknown.set(float(runs.cost_unknown_usd))
        self._refused.set(refused)
        self._pending.set(outbox.pending)
        self._oldest.set(outbox.oldest_age_s)
        self._dead.set(outbox.dead)
        self._open.set(outbox.open)
        self._up.set(1)

    def unreadable(self) -> None:
        """Show that PostgreSQL is away. The other gauges keep the values of the last reading."""
        self._up.set(0)
