"""The reconciler's story: rows and workflows are made to agree, every minute."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities
    from domain.reconcile import Cursor, Reconciled

# One workflow makes the rounds of an hour, so that they do not bury the runs in Temporal's list.
SHIFT = timedelta(hours=1)
BETWEEN_ROUNDS = timedelta(minutes=1)


@workflow.defn
class ReconcileWorkflow:
    """Start what was accepted and never started; close what was ended from outside."""

    @workflow.run
    async def run(self) -> Reconciled:
        ends_at, total = workflow.now() + SHIFT, _earlier()
        while workflow.now() < ends_at:
            done = await self._round(total.reached)
            total = total.plus(done)
            workflow.set_current_details(
                f"Started {total.started}, closed {total.closed}. "
                f"Could not mend {done.failed} in the last round, {workflow.now():%H:%M:%S} UTC"
            )
            if done.reached is None or not (done.started or done.closed):
                await workflow.sleep(BETWEEN_ROUNDS)
        return total

    async def _round(self, after: Cursor | None) -> Reconciled:
        """One round. One that fails, as when PostgreSQL is away, is made again a minute later."""
        try:
            return await workflow.execute_activity_method(
                ReconcileActivities.reconcile,
                after,
                start_to_close_timeout=timedelta(minutes=5),
                heartbeat_timeout=timedelta(seconds=30),
                retry_policy=RetryPolicy(maximum_attempts=3),
                summary="Make rows and workflows agree",
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            workflow.logger.warning("reconcile_failed", exc_info=error.cause)
            return Reconciled(reached=after)


def _earlier() -> Reconciled:
    """Where the shift before this one stopped."""
    earlier = workflow.get_last_completion_result(Reconciled)
    return Reconciled(reached=earlier.reached if earlier else None)
