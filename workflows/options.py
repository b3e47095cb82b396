"""How Rein calls activities, and the search attributes it sets: one place each."""

from datetime import timedelta

from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.workflow import ActivityCancellationType, ActivityConfig, LocalActivityConfig

KIND = SearchAttributeKey.for_keyword("ReinKind")
TENANT = SearchAttributeKey.for_keyword("ReinTenant")
USER = SearchAttributeKey.for_keyword("ReinUser")
STATUS = SearchAttributeKey.for_keyword("ReinStatus")
SCORE = SearchAttributeKey.for_float("ReinScore")
MODEL = SearchAttributeKey.for_keyword("ReinModel")
PROMPTS = SearchAttributeKey.for_keyword_list("ReinPrompt")
TRACE = SearchAttributeKey.for_keyword("ReinTrace")
SEARCH_ATTRIBUTES = (KIND, TENANT, USER, STATUS, SCORE, MODEL, PROMPTS, TRACE)

# An attempt makes at most two model calls (the second one repairs the first), each of which ends at
# its own timeout. The rest is for a PostgreSQL that is away while an answer is in hand.
STAGE_TIMEOUT = timedelta(minutes=15)
# Transient failures are worth waiting for; what is permanent fails at once (llm/errors.py).
STAGE_PATIENCE = timedelta(hours=12)
# The safety net: a dead worker is noticed sooner (activities/workers.py), and a living one must not
# miss this however busy its machine is. Activities beat every three seconds.
HEARTBEAT_TIMEOUT = timedelta(seconds=12)


def llm_call(summary: str) -> ActivityConfig:
    """Timeouts and retries of a stage that asks a model; `summary` is shown in the Temporal UI."""
    return ActivityConfig(
        start_to_close_timeout=STAGE_TIMEOUT,
        schedule_to_close_timeout=STAGE_PATIENCE,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        # So that a cancelled stage can still say so on its span before the run ends.
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500),
            backoff_coefficient=2,
            maximum_interval=timedelta(seconds=60),
        ),
        summary=summary,
    )


def db_call(summary: str) -> LocalActivityConfig:
    """Timeouts and retries of a step that only reads or writes PostgreSQL: local, one event."""
    return LocalActivityConfig(
        start_to_close_timeout=timedelta(seconds=15),
        schedule_to_close_timeout=STAGE_PATIENCE,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=200),
            backoff_coefficient=2,
            maximum_interval=timedelta(seconds=10),
        ),
        summary=summary,
    )
