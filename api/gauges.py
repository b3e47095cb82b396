"""The gauges that are read from PostgreSQL when Prometheus asks."""

from prometheus_client import CollectorRegistry, Gauge

from db.runs import RecentRuns
from tracing import Backlog


class Gauges:
    """Runs and the tracing outbox, as of the last reading."""

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

    def set(self, runs: RecentRuns, outbox: Backlog) -> None:
        """Take over what was read."""
        self._runs.clear()
        for status, count in runs.by_status.items():
            self._runs.labels(status).set(count)
        self._unknown_calls.set(runs.unknown_calls)
        self._cost_unknown.set(float(runs.cost_unknown_usd))
        self._pending.set(outbox.pending)
        self._oldest.set(outbox.oldest_age_s)
        self._dead.set(outbox.dead)
        self._open.set(outbox.open)
        self._up.set(1)

    def unreadable(self) -> None:
        """PostgreSQL is away: the other gauges keep what they had."""
        self._up.set(0)
