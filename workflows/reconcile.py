"""The workflow that a schedule starts every minute to repair runs (activities/reconcile.py)."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities
    from domain.reconcile import Reconciled


@workflow.defn
class ReconcileWorkflow:
    """Start accepted runs that have no workflow, and record the ends that no row has yet."""

    @workflow.run
    async def run(self) -> Reconciled:
        return await workflow.execute_activity_method(
            ReconcileActivities.reconcile,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(maximum_attempts=3),
            summary="Make rows and workflows agree",
        )
