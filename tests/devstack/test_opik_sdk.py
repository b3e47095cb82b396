"""The real opik client, unmodified, against the receiver."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.opik.serving import running

SCRIPT = Path(__file__).parent / "opik_sdk_session.py"


def read(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.read_text())
    return found


async def use_sdk(url: str, report: Path) -> dict[str, Any]:
    told = {
        "OPIK_URL_OVERRIDE": f"{url}/api",
        "OPIK_SENTRY_ENABLE": "false",
        "OPIK_ANALYTICS_ENABLE": "false",
        "HOME": str(report.parent),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPIK")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        str(report),
        env=kept | told,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-4000:]
    return read(report)


@pytest.mark.timeout(180)
async def test_the_real_client_runs_unmodified(tmp_path: Path) -> None:
    async with running(tmp_path / "opik.db") as url:
        report = await use_sdk(url, tmp_path / "report.json")
        async with httpx.AsyncClient(base_url=url) as client:
            requests = (await client.get("/control/requests")).json()

    traced = report["tracing"]
    identity = traced.pop("id")
    assert traced == {
        "duration": 3200,
        "cost": 0.0001752,
        "usage": {"prompt_tokens": 512, "completion_tokens": 456, "total_tokens": 968}
        | {
            "original_usage.prompt_tokens": 512,
            "original_usage.completion_tokens": 456,
            "original_usage.total_tokens": 968,
        },
        "scores": {"evaluation_logged.overall": 8.2, "user_feedback.rating": 4.5},
        "spans": ["generation_stage", "llm_call_generation"],
        "by_tag": [identity],
        "by_key": [identity],
        "none": [],
    }
    assert report["prompts"] == {
        "same": True,
        "pinned": "Plan {{goal}}",
        "latest": "A better plan for sleep",
        "history": 2,
        "missing": None,
    }
    assert report["experiments"] == {
        "items": ["read", "run 5k"],
        "name": "generate-v2",
        "scores": [0, 1],
        "average": {"has_plan": 0.5},
        "traces": 2,
        "status": "completed",
        "prompts": ["generate"],
        "found": [True],
    }
    extras = report["extras"]
    assert (extras["attachments"], extras["content"]) == (["note.txt"], "hello")
    assert (extras["queue"], extras["project"], extras["missing"]) == (1, "rein", 404)
    assert extras["stats"]["duration"] == "PERCENTAGE"
    assert extras["stats"]["feedback_scores.user_feedback.rating"] == "AVG"
    assert extras["names"] == ["evaluation_logged.overall", "has_plan", "user_feedback.rating"]
    assert (extras["threads"], extras["projects"]) == (["talk-1"], ["rein"])
    assert extras["summary"] == [3]
    # Whatever the client asked for was answered: no unknown route, no failure of the receiver.
    unknown = {
        f"{seen['method']} {seen['path']}": seen["status"]
        for seen in requests["recent"]
        if seen["status"] >= 400 and not seen["path"].endswith("/retrieve")
    }
    assert unknown == {}
