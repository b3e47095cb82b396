"""`make doctor`: what is there, what is missing, how to get it, and whether Temporal obeys."""

from devstack.doctor.report import examine

__all__ = ["examine"]
