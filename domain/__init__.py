"""Domain models (pydantic) and pure rules, shared by the API, the workflows and the activities.

Nothing here talks to the network or to PostgreSQL, and nothing reads the clock, so workflows may
call it without breaking Temporal's replay.
"""
