"""What the housekeeping reports."""

from domain.runs import Message


class Reconciled(Message):
    """What one round of the reconciler mended; `failed` counts runs that it could not mend."""

    started: int = 0
    closed: int = 0
    failed: int = 0
