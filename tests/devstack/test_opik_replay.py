"""What the real client once sent, sent again: every request is answered as it was."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

RECORDED = Path(__file__).parent / "data" / "opik_requests.jsonl"
# The recorder of that time did less than a server does: it made no project for a prompt.
BETTER = {("C5_prompt_history", "/v1/private/projects/retrieve"): 200}
Row = dict[str, Any]


def sessions() -> list[list[Row]]:
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [list(each) for _, each in groupby(rows, key=lambda row: row["section"][0])]


def at(document: Any, path: str) -> str:
    for step in path.split("."):
        document = document[int(step) if step.isdigit() else step]
    return str(document)


async def replay(opik: httpx.AsyncClient, rows: list[Row]) -> list[str]:
    """Every request whose status differs, in words."""
    ours: dict[str, str] = {}
    different = []
    for row in rows:
        text = json.dumps({name: row.get(name) for name in ("path", "query", "body")})
        for recorded, minted in ours.items():
            text = text.replace(recorded, minted)
        sent = json.loads(text)
        answer = await opik.request(
            row["method"], f"/api{sent['path']}", params=sent["query"], json=sent["body"]
        )
        wanted = BETTER.get((row["section"], row["path"]), row["status"])
        if answer.status_code != wanted:
            line = f"{row['section']} {row['method']} {sent['path']}: {answer.status_code}"
            different.append(f"{line} instead of {wanted}: {answer.text[:200]}")
            continue
        for recorded, where in row.get("minted", {}).items():
            ours[recorded] = at(answer.json(), where)
    return different


@pytest.mark.parametrize("rows", sessions(), ids=lambda rows: rows[0]["section"])
async def test_recorded_requests_are_answered_as_they_were(
    opik: httpx.AsyncClient, rows: list[Row]
) -> None:
    assert await replay(opik, rows) == []


def test_recording_is_whole() -> None:
    assert sum(map(len, sessions())) == 161
    assert RECORDED.stat().st_size < 150_000
