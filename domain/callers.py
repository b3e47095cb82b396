"""Callers: services with an API key, each of a tenant that owns what it makes."""

import re

# A tenant's id stands in SQL and in Temporal's search attributes as it is.
TENANT_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")
# The tenant of an installation that serves only itself, and of all that was stored before tenants.
LOCAL_TENANT = "local"
