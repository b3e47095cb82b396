"""Stable codes, for callers and operators, of why a run has no result or waits for a retry."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from typing_extensions import TypeAliasType

# Why an attempt of a stage has no usable answer of the model. llm/errors.py says which failure gets
# which code, and whether the stage is retried.
ModelErrorCode = Literal[
    "RATE_LIMITED",
    "QUOTA_EXHAUSTED",
    "PROVIDER_UNAVAILABLE",
    "TIMEOUT",
    "CONNECTION_LOST",
    "NO_GEMINI_ANSWER",
    "REQUEST_REFUSED",
    "KEY_REFUSED",
    "MODEL_UNKNOWN",
    "BLOCKED",
    "RECITATION",
    "OUTPUT_TRUNCATED",
    "OUTPUT_EMPTY",
    "OUTPUT_INVALID",
    "OUTPUT_TOO_LARGE",
    "OUTPUT_UNFINISHED",
    "SPEND_UNKNOWN_LIMIT",
    "CANCELLED",
    "WORKER_STOPPED",
    "ATTEMPT_LOST",
    "UNKNOWN",
    "DATABASE_UNAVAILABLE",
    "RUN_UNKNOWN",
]
# Why a run has no result or waits: the codes of its stages, and codes of the run as a whole.
AnyRunErrorCode = Literal[
    ModelErrorCode,
    "PROMPT_MISSING",
    "START_REFUSED",
    "TIMED_OUT",
    "TERMINATED",
    "OUTCOME_INVALID",
]
RUN_ERRORS: dict[AnyRunErrorCode, str] = {
    "RATE_LIMITED": "The model's provider asks to wait; retried after the time that it named",
    "QUOTA_EXHAUSTED": "The provider's daily quota is used up; retried every five minutes or later",
    "PROVIDER_UNAVAILABLE": "The provider cannot be reached, or cannot answer now; retried",
    "TIMEOUT": "The model did not answer in time; retried, at most twice",
    "CONNECTION_LOST": "The connection to the provider was lost; retried, at most twice",
    "NO_GEMINI_ANSWER": "What came was no answer of the model; retried, at most twice",
    "REQUEST_REFUSED": "The provider refused the request for good",
    "KEY_REFUSED": "The provider refused the API key",
    "MODEL_UNKNOWN": "The provider does not know the model",
    "BLOCKED": "The provider blocked the text or its answer",
    "RECITATION": "The answer was too like a known text",
    "OUTPUT_TRUNCATED": "The answer was cut at the limit of its length, twice",
    "OUTPUT_EMPTY": "The answer was empty, twice",
    "OUTPUT_INVALID": "The answer did not fit what was asked for, twice",
    "OUTPUT_TOO_LARGE": "The answer was larger than any that fits",
    "OUTPUT_UNFINISHED": "The model stopped early for a reason of its own, twice",
    "SPEND_UNKNOWN_LIMIT": "Three calls of one request may have been billed without an answer",
    "CANCELLED": "The run was cancelled",
    "WORKER_STOPPED": "The worker was stopped in the middle of a stage; begun again",
    "ATTEMPT_LOST": "Temporal gave the attempt up in the middle of a stage; begun again",
    "UNKNOWN": "An error that nobody has classified; the message names it",
    "DATABASE_UNAVAILABLE": "PostgreSQL did not answer; retried",
    "RUN_UNKNOWN": "The workflow was started past the API, so the run has no row",
    "PROMPT_MISSING": "No worker has registered the prompt version that the run was made with",
    "START_REFUSED": "Temporal refused to start the run's workflow; tried again every minute",
    "TIMED_OUT": "The run, or one of its steps, took longer than it may",
    "TERMINATED": "An operator ended the run",
    "OUTCOME_INVALID": "The workflow returned what is no outcome of a run",
}
# Type names of Temporal's errors, and of Rein's own errors outside a stage, with their codes.
_ENGINE: dict[str, AnyRunErrorCode] = {
    "TimeoutError": "TIMED_OUT",
    "WorkflowTimedOut": "TIMED_OUT",
    "WorkflowTerminated": "TERMINATED",
    "WorkflowCancelled": "CANCELLED",
    "Unavailable": "DATABASE_UNAVAILABLE",
    "NotFound": "RUN_UNKNOWN",
    "WORKER_LOST": "ATTEMPT_LOST",
    "SUPERSEDED": "ATTEMPT_LOST",
}


def run_error_code(name: str) -> AnyRunErrorCode:
    """Return the code of an error that ended or delays a run.

    `name` is a code, or the type name of an error. Any other name gives UNKNOWN.
    """
    for code in RUN_ERRORS:
        if code == name:
            return code
    return _ENGINE.get(name, "UNKNOWN")


# A stored code that this release does not know, because another release wrote it, becomes UNKNOWN.
RunErrorCode = TypeAliasType(
    "RunErrorCode",
    Annotated[
        AnyRunErrorCode,
        BeforeValidator(run_error_code),
        Field(
            description="Why a run has no result, or waits",
            json_schema_extra={"x-enumDescriptions": dict(RUN_ERRORS)},
        ),
    ],
)
