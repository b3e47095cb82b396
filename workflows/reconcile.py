"""The workflow of the reconciler, which starts and closes runs (activities/reconcile.py)."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.reconcile import ReconcileActivities
    from domain.reconcile import Cursor, Reconciled

# One workflow does the rounds of a whole hour. With one workflow per round, Temporal's list of
# workflows would show operators more reconcilers than runs.
SHIFT = timedelta(hours=1)
BETWEEN_ROUNDS = timedelta(minutes=1)


@workflow.defn
class ReconcileWorkflow:
    """Do the reconciler's rounds of one hour.

    Rounds are a minute apart, except after a round that repaired runs and did not reach the end of
    the list: the next one follows at once.
    """

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
        """Do one round. If it fails, report no progress, so that it is repeated a minute later.

        A round fails when PostgreSQL is unreachable, for example.
        """
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
    """Return an empty report with the position at which the previous workflow stopped."""
    earlier = workflow.get_last_completion_result(Reconciled)
    return Reconciled(reached=earlier.reached if earlier else None)
