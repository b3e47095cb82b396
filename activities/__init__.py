"""Temporal activities: the code through which workflows reach PostgreSQL, the model and Temporal.

Each feature has one class, which gets its dependencies as constructor arguments.
"""
