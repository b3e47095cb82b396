"""Records the histories that test_replay.py replays: `PYTHONPATH=. python tests/replay/record.py`.

A changed workflow gets new recordings beside the old ones, under a new version; the old ones stay,
because runs that began with the old code may still be open. Names after the command record those
ends alone.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import httpx
from temporalio.client import Client

from devstack.controls import GeminiControl
from devstack.stack import Stack

VERSION = "v3"
FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
GOAL = "I want to run a 5K by end of Q1"


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rein-record-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - PostgreSQL's own user has to pass
        async with (
            Stack(Path(folder) / "stack", durable=False) as stack,
            GeminiControl(stack.urls["gemini"]) as gemini,
            stack.client(timeout_s=60) as http,
        ):
            temporal = await Client.connect(stack.urls["temporal"])
            ended = await submit(http, GOAL)
            await save(temporal, "success", ended)
            await save(temporal, "revised", await submit(http, "get better at things"))
            await save(temporal, "refused", await submit(http, "I want to rob a bank"))
            await save(temporal, "crisis", await submit(http, "I want to starve myself"))
            await gemini.faults({"stage": "preprocess", "fault": "prompt_blocked"})
            await save(temporal, "blocked", await submit(http, GOAL))
            await gemini.faults({"stage": "evaluate", "fault": "safety", "calls": "all"})
            partial = await submit(http, GOAL)
            await save(temporal, "partial", partial)
            await gemini.faults({"stage": "generate", "fault": "bad_key", "calls": "all"})
            await save(temporal, "failed", await submit(http, GOAL))
            await gemini.reset()
            answer = await http.post(
                f"/api/runs/{partial}/rerun",
                json={"from_stage": "evaluate"},
                headers={"Prefer": "wait=30"},
            )
            await save(temporal, "rerun", answer.json()["trace_id"])
            await gemini.close_gate("generate")
            waiting = asyncio.create_task(submit(http, GOAL))
            await gemini.wait_waiting("generate")
            newest = (await http.get("/api/goals", params={"limit": 1})).json()["items"][0]
            await http.post(f"/api/runs/{newest['trace_id']}/cancel")
            await save(temporal, "cancelled", await waiting)
    sys.stdout.flush()
    os._exit(0)  # a living temporalio client may abort a usual exit


async def submit(http: httpx.AsyncClient, goal: str) -> str:
    answer = await http.post(
        "/api/goals", json={"goal": goal, "user_id": "recorder"}, headers={"Prefer": "wait=30"}
    )
    trace_id: str = answer.json()["trace_id"]
    return trace_id


async def save(temporal: Client, name: str, trace_id: str) -> None:
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    handle = temporal.get_workflow_handle(f"goal_generation-{trace_id}")
    history = await handle.fetch_history()
    # Stack traces name files from the repository's root, not where it lies on this machine.
    text = history.to_json().replace(f"{ROOT}/", "")
    (FOLDER / f"goal_generation-{VERSION}-{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
