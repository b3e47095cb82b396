"""The reconciler's story: rows and workflows are made to agree, every minute."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityConfig

with workflow.unsafe.imports_passed_through():
    from activities.monitoring import MonitoringActivities
    from domain.monitoring import Reconciled


def _round(summary: str) -> ActivityConfig:
    return ActivityConfig(
        start_to_close_timeout=timedelta(minutes=5),
        heartbeat_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(maximum_attempts=3),
        summary=summary,
    )


@workflow.defn
class ReconcileWorkflow:
    """Start what was accepted and never started; close what was ended from outside."""

    @workflow.run
    async def run(self) -> Reconciled:
        started = await workflow.execute_activity_method(
            MonitoringActivities.start_accepted, **_round("Start accepted runs")
        )
        closed = await workflow.execute_activity_method(
            MonitoringActivities.close_ended, **_round("Close runs that were ended from outside")
        )
        return Reconciled(started=started.started, closed=closed.closed)
