"""The shipper: a process that brings the outbox to Opik, and the only importer of `opik`."""

import os

# Opik's client reports errors and usage to third parties unless these say no; it reads them when
# it is imported.
os.environ.setdefault("OPIK_SENTRY_ENABLE", "false")
os.environ.setdefault("OPIK_ANALYTICS_ENABLE", "false")
