"""The HTTP API. Endpoints store and select rows, and start or cancel workflows at Temporal.

The work of a run, such as the calls of a model, is done by the worker.
"""
