"""The log format of every process: one line per event, as text for people or as JSON.

Tracebacks show files and lines but no values of variables, because these may be personal or secret.
"""

import logging
import sys
from typing import Literal

import structlog
from structlog.types import Processor

LogFormat = Literal["text", "json"]

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(form: LogFormat) -> None:
    """Send the logs of structlog and of the standard library to standard error.

    Call this once, when the process starts.
    """
    rendering: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # These libraries log a line for every request to Gemini or Opik, and the spans of a trace
    # contain the same information.
    for chatty in ("httpx", "httpx2", "google_genai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
