"""Tracing of Temporal runs in Opik: each run becomes exactly one trace.

Other packages import only from this module. Importing it loads neither Opik's client nor
`tracing.ship`, the shipper, which runs in a process of its own.
"""

from tracing.children import ChildSpan
from tracing.context import TraceContext, attach
from tracing.ids import new_trace_id
from tracing.links import project_id, trace_url, workflow_url
from tracing.outbox import Backlog, backlog
from tracing.plugin import TracingPlugin
from tracing.spans import StageTrace, store_lost_steps
from tracing.traces import RunEnd, Score, close_trace, lost_end, open_trace, put_scores

__all__ = [
    "Backlog",
    "ChildSpan",
    "RunEnd",
    "Score",
    "StageTrace",
    "TraceContext",
    "TracingPlugin",
    "attach",
    "backlog",
    "close_trace",
    "lost_end",
    "new_trace_id",
    "open_trace",
    "project_id",
    "put_scores",
    "store_lost_steps",
    "trace_url",
    "workflow_url",
]
