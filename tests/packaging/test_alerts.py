"""The alert rules: promtool runs their tests; each metric is one that Rein has, each has a page."""

import re
import shutil
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from temporalio.runtime import Runtime

from activities.metrics import Metrics
from api.gauges import Gauges
from api.middleware import HttpMiddleware
from api.sites import Sites
from devstack.ports import Ports
from domain.ledger import Settlement
from domain.runs import Usage
from worker import telemetry

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "ops/prometheus/rules.yml").read_text())["groups"]
    for rule in group["rules"]
]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not there: apt's prometheus")
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    command = ["promtool", "test", "rules", "ops/prometheus/rules_test.yml"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_test_and_a_paragraph_for_whoever_is_woken(rule: dict[str, str]) -> None:
    name = rule["alert"]
    assert f"alertname: {name}" in (ROOT / "ops/prometheus/rules_test.yml").read_text()
    assert f"\n#### {name}\n" in (ROOT / "docs/operations.md").read_text()
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"  # type: ignore[index]


def worker_page() -> str:
    """What Prometheus reads of a worker that has done one of everything."""
    address = f"127.0.0.1:{Ports.free().api}"
    runtime = Runtime(telemetry=telemetry(address))
    metrics = Metrics(runtime.metric_meter)
    settled = Settlement(
        call_id=uuid4(),
        state="answered",
        finished_at=datetime.now(UTC),
        usage=Usage(input_tokens=560, output_tokens=300, thought_tokens=13),
        cost_usd=Decimal("0.0125"),
        cost_at_most=False,
        answer="{}",
    )
    metrics.call("gemini-2.5-flash", "plan", settled, timedelta(seconds=2.5))
    metrics.attempt("plan", "retrying")
    metrics.end("goal_generation", "success", timedelta(seconds=12))
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        text: str = answer.read().decode()
    return text


def test_a_worker_counts_calls_tokens_dollars_retries_and_durations_in_units() -> None:
    page = worker_page()
    of_call = 'model="gemini-2.5-flash",stage="plan"'
    for line in (
        f'rein_model_calls_total{{code="",{of_call},state="answered"}} 1',
        f'rein_model_tokens_total{{direction="input",{of_call}}} 560',
        f'rein_model_tokens_total{{direction="output",{of_call}}} 313',
        f'rein_model_cost_usd_sum{{at_most="False",{of_call}}} 0.0125',
        f"rein_model_call_seconds_sum{{{of_call}}} 2.5",
        'rein_stage_attempts_total{result="retrying",stage="plan"} 1',
        'rein_runs_ended_total{kind="goal_generation",status="success"} 1',
        'rein_run_seconds_sum{kind="goal_generation",status="success"} 12',
        "rein_reconcile_rounds_total 0",
        'rein_runs_reconciled_total{result="failed"} 0',
    ):
        assert f"\n{line}\n" in page


def test_each_metric_of_an_alert_is_one_that_rein_has() -> None:
    registry = CollectorRegistry()
    Gauges(registry)
    HttpMiddleware(None, registry=registry, sites=Sites("http://rein.test"))  # type: ignore[arg-type]
    known = generate_latest(registry).decode() + worker_page()
    for rule in RULES:
        for name in re.findall(r"\brein_\w+", rule["expr"]):
            assert f"{name.removesuffix('_total')}" in known, name
