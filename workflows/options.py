"""The timeouts and retries of activities, and the search attributes of Rein's workflows."""

from datetime import timedelta

from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.workflow import ActivityCancellationType, ActivityConfig, LocalActivityConfig

KIND = SearchAttributeKey.for_keyword("ReinKind")
TENANT = SearchAttributeKey.for_keyword("ReinTenant")
USER = SearchAttributeKey.for_keyword("ReinUser")
STATUS = SearchAttributeKey.for_keyword("ReinStatus")
STAGE = SearchAttributeKey.for_keyword_list("ReinStage")
ERROR = SearchAttributeKey.for_keyword("ReinError")
COST = SearchAttributeKey.for_float("ReinCost")
SCORE = SearchAttributeKey.for_float("ReinScore")
MODEL = SearchAttributeKey.for_keyword("ReinModel")
PROMPTS = SearchAttributeKey.for_keyword_list("ReinPrompt")
TRACE = SearchAttributeKey.for_keyword("ReinTrace")
SEARCH_ATTRIBUTES = (
    KIND,
    TENANT,
    USER,
    STATUS,
    STAGE,
    ERROR,
    SCORE,
    COST,
    MODEL,
    PROMPTS,
    TRACE,
)

# The limit of one attempt of a stage. An attempt makes at most two model calls, which have timeouts
# of their own. The remaining time is for storing an answer while PostgreSQL is unreachable.
STAGE_TIMEOUT = timedelta(minutes=15)
# The limit of a stage with all its retries. A transient failure may take hours to pass; permanent
# failures are not retried (llm/errors.py).
STAGE_PATIENCE = timedelta(hours=12)
# Temporal retries an activity that sent no heartbeat for this long. Activities send one every three
# seconds, so even a busy machine sends one in time. Other workers usually detect the death of a
# worker before this timeout (activities/workers.py).
HEARTBEAT_TIMEOUT = timedelta(seconds=12)


def llm_call(summary: str) -> ActivityConfig:
    """Return the timeouts and retries of a stage that asks a model.

    The Temporal UI shows `summary`.
    """
    return ActivityConfig(
        start_to_close_timeout=STAGE_TIMEOUT,
        schedule_to_close_timeout=STAGE_PATIENCE,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        # A run waits for its cancelled stages, so that they can record their cancellation.
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(milliseconds=500),
            backoff_coefficient=2,
            maximum_interval=timedelta(seconds=60),
        ),
        summary=summary,
    )


def db_call(summary: str) -> LocalActivityConfig:
    """Return the timeouts and retries of a step that only reads or writes PostgreSQL.

    It is a local activity, which adds only one event to the workflow's history.
    """
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
