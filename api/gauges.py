"""Prometheus gauges whose values are read from PostgreSQL at each scrape."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from db.runs import RecentRuns
from domain.runs import RunStatus
from tracing import Backlog


class Gauges:
    """Gauges of the runs and the trace outbox, with the values of the last successful reading."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge("rein_postgresql_up", "1 when the gauges could be read", registry=registry)
        self._runs = Gauge(
            "rein_runs",
            "Runs by status: those not ended, and those that ended in the last hour",
            ["status"],
            registry=registry,
        )
        self._oldest_accepted = Gauge(
            "rein_runs_accepted_oldest_seconds",
            "How long the oldest accepted run has waited to begin",
            registry=registry,
        )
        self._starts = Gauge(
            "rein_starts_waiting",
            "Accepted runs that this process is to start, or just starts",
            registry=registry,
        )
        self._feedback = Counter(
            "rein_feedback", "Feedback by its rating, stored", ["rating"], registry=registry
        )
        for half_stars in range(2, 11):
            self._feedback.labels(f"{half_stars / 2:g}")
        self._unknown_calls = Gauge(
            "rein_unknown_calls",
            "Model calls of the last 24 hours that may have been billed for nothing",
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

    def starts_waiting(self, count: int) -> None:
        """Set the length of this process's queue of runs to start."""
        self._starts.set(count)

    def count_feedback(self, rating: float) -> None:
        """Count feedback that was stored."""
        self._feedback.labels(f"{rating:g}").inc()

    def set(self, runs: RecentRuns, refused: int, outbox: Backlog) -> None:
        """Set all gauges to values just read from PostgreSQL.

        `refused` counts the runs that Temporal refused to start.
        """
        for status in get_args(RunStatus.__value__):
            self._runs.labels(status).set(runs.by_status.get(status, 0))
        self._oldest_accepted.set(runs.oldest_accepted_s)
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
