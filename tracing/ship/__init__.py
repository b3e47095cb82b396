"""The shipper: a process that sends the outbox to Opik.

In the product only this package imports `opik`.
"""

import os

# Opik's client sends error reports and usage statistics to third parties unless these variables are
# false. The client reads them when it is imported, so they are set before that.
os.environ.setdefault("OPIK_SENTRY_ENABLE", "false")
os.environ.setdefault("OPIK_ANALYTICS_ENABLE", "false")
