"""Why an attempt of an activity was cancelled, which says what is to become of its model call."""

from temporalio import activity

from domain.run_errors import ModelErrorCode as Code


def was_given_up() -> bool:
    """Whether this attempt was cancelled though nobody wants its run to stop.

    Temporal missed its heartbeats, say, and has begun another attempt.
    """
    details = activity.cancellation_details()
    return details is not None and not (details.cancel_requested or details.worker_shutdown)


def stop_code() -> Code:
    """Why this attempt was cancelled."""
    details = activity.cancellation_details()
    if details is not None and details.worker_shutdown:
        return "WORKER_STOPPED"
    return "ATTEMPT_LOST" if was_given_up() else "CANCELLED"
