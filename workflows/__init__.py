"""Temporal workflows. Temporal replays their code, so it has to be deterministic.

It uses only the domain and the signatures of activities, which do all input and output.
"""
