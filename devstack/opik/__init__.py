"""A local receiver that speaks Opik's HTTP protocol, and shows what it received on pages.

Run it with `python -m devstack.opik --port N --store FILE`. It is a stand-in for development and
tests: it shares no code with what it stands in for, nor with what sends to it.
"""
