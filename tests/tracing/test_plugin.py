"""The plugin is light: neither workers nor the API load Opik's client or its dependencies."""

import subprocess
import sys


def test_opik_is_loaded_by_the_shipper_alone() -> None:
    code = (
        "import sys, tracing.plugin, tracing.spans, tracing.outbox, tracing.links;"
        "sys.exit(any(name.split('.')[0] in ('opik', 'httpx', 'litellm') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shipper_turns_the_clients_telemetry_off_but_leaves_the_owners_choice() -> None:
    code = (
        "import os; os.environ['OPIK_ANALYTICS_ENABLE'] = 'true'; import tracing.ship;"
        "print(os.environ['OPIK_SENTRY_ENABLE'], os.environ['OPIK_ANALYTICS_ENABLE'])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["false", "true"]
