"""What a worker counts while it works, for its Prometheus page (REIN_WORKER_METRICS).

Counters are those of one process since its start; Prometheus sums them up over all workers.
"""

from datetime import timedelta
from decimal import Decimal

from temporalio.common import MetricMeter

from domain.ledger import Settlement
from domain.reconcile import Reconciled
from domain.runs import RunKind, RunStatus, Stage, Usage

# The upper bounds of the buckets of histograms, in their units: seconds and US dollars.
BUCKETS = {
    "rein_model_call": (0.5, 1, 2, 5, 10, 20, 30, 60, 120),
    "rein_run": (1, 2, 5, 10, 20, 30, 60, 120, 300, 3600, 86400),
    "rein_model_cost": (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1),
}


class Metrics:
    """The meters of one worker; without a meter nothing is counted."""

    def __init__(self, meter: MetricMeter = MetricMeter.noop) -> None:
        self._calls = meter.create_counter("rein_model_calls", "Model calls by how they ended")
        self._tokens = meter.create_counter("rein_model_tokens", "Tokens of model calls")
        self._call_time = meter.create_histogram_timedelta(
            "rein_model_call", "How long model calls took"
        )
        self._cost = meter.create_histogram_float(
            "rein_model_cost",
            "What model calls cost; the sum is in US dollars. Calls that may have been billed "
            "for nothing count at the most they can have cost",
            "usd",
        )
        self._attempts = meter.create_counter(
            "rein_stage_attempts", "Attempts of stages by how they ended"
        )
        self._ends = meter.create_counter("rein_runs_ended", "Ended runs by status")
        self._run_time = meter.create_histogram_timedelta(
            "rein_run", "How long runs took from their acceptance"
        )
        self._reconciled = meter.create_counter(
            "rein_runs_reconciled", "Runs that the reconciler started, closed or could not mend"
        )
        self._rounds = meter.create_counter("rein_reconcile_rounds", "Rounds of the reconciler")
        self.reconciled(Reconciled(), rounds=0)

    def call(self, model: str, stage: Stage, settled: Settlement, took: timedelta) -> None:
        """Count a model call that was settled in the ledger."""
        of_model = {"model": model, "stage": stage}
        ended = {"state": settled.state, "code": settled.error_code or ""}
        self._calls.add(1, of_model | ended)
        self._call_time.record(took, of_model)
        self._count_tokens(settled.usage, of_model)
        self._count_cost(settled.cost_usd, of_model | {"at_most": str(settled.cost_at_most)})

    def attempt(self, stage: Stage, result: str) -> None:
        """Count an attempt of a stage that finished, failed, was stopped, or is to be retried."""
        self._attempts.add(1, {"stage": stage, "result": result})

    def end(self, kind: RunKind, status: RunStatus, took: timedelta) -> None:
        """Count a run whose end was recorded."""
        labels = {"kind": kind, "status": status}
        self._ends.add(1, labels)
        self._run_time.record(took, labels)

    def reconciled(self, done: Reconciled, *, rounds: int = 1) -> None:
        """Count what a round of the reconciler mended."""
        self._rounds.add(rounds)
        for result in ("started", "closed", "failed"):
            self._reconciled.add(getattr(done, result), {"result": result})

    def _count_tokens(self, usage: Usage, labels: dict[str, str]) -> None:
        for direction, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens + usage.thought_tokens),
        ):
            self._tokens.add(tokens, labels | {"direction": direction})

    def _count_cost(self, cost: Decimal | None, labels: dict[str, str]) -> None:
        if cost is not None:
            self._cost.record(float(cost), labels)
