"""The shipper: brings the outbox to Opik. The only part of Rein that imports opik."""

import os

# Opik's client reports errors and usage to third parties unless told otherwise, read at its import.
os.environ.setdefault("OPIK_SENTRY_ENABLE", "false")
os.environ.setdefault("OPIK_ANALYTICS_ENABLE", "false")
