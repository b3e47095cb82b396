"""What the housekeeping reports."""

from domain.runs import Message


class Reconciled(Message):
    """What one round of the reconciler mended."""

    started: int = 0
    closed: int = 0
