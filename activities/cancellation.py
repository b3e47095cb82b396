"""Find out why an attempt was cancelled, which decides what happens to its model call."""

from temporalio import activity

from domain.run_errors import ModelErrorCode as Code


def was_given_up() -> bool:
    """Tell whether Temporal gave up this attempt although neither its run nor its worker stops.

    Temporal does so when it misses the attempt's heartbeats, for example, and then starts another
    attempt. False if the attempt is not cancelled at all.
    """
    details = activity.cancellation_details()
    return details is not None and not (details.cancel_requested or details.worker_shutdown)


def stop_code() -> Code:
    """Return the error code for the reason why this attempt was cancelled."""
    details = activity.cancellation_details()
    if details is not None and details.worker_shutdown:
        return "WORKER_STOPPED"
    return "ATTEMPT_LOST" if was_given_up() else "CANCELLED"
