"""The report of the reconciler (activities/reconcile.py)."""

from domain.runs import Message


class Reconciled(Message):
    """How many runs one round of the reconciler repaired.

    `started` counts workflows that it started for accepted runs, `closed` runs whose end it
    recorded, and `failed` runs that it could not repair.
    """

    started: int = 0
    closed: int = 0
    failed: int = 0
