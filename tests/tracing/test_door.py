"""Other rooms import tracing through its door, which does not load Opik's client."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_opik_is_loaded_by_the_shipper_alone() -> None:
    code = "import sys, tracing; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(said.stdout.split())
    assert "tracing.spans" in loaded
    assert not loaded & {"opik", "httpx", "litellm", "tracing.ship"}


def test_the_shipper_turns_the_clients_telemetry_off_but_leaves_the_owners_choice() -> None:
    code = (
        "import os; os.environ['OPIK_ANALYTICS_ENABLE'] = 'true'; import tracing.ship;"
        "print(os.environ['OPIK_SENTRY_ENABLE'], os.environ['OPIK_ANALYTICS_ENABLE'])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["false", "true"]


def test_the_roots_and_benchmarks_use_the_door_too() -> None:
    """The import contract covers packages; single modules and benchmarks are read here."""
    files = [*ROOT.glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    imported = [
        (file.name, node.module)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tracing"
    ]
    assert ("client.py", "tracing") in imported
    assert {module for _, module in imported} == {"tracing"}
