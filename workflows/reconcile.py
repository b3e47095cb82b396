"""The reconciler's story: rows and workflows are made to agree, every minute."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities
    from domain.reconcile import Reconciled


@workflow.defn
class ReconcileWorkflow:
    """Start what was accepted and never started; close what was ended from outside."""

    @workflow.run
    async def run(self) -> Reconciled:
        return await workflow.execute_activity_method(
            ReconcileActivities.reconcile,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(maximum_attempts=3),
            summary="Make rows and workflows agree",
        )
