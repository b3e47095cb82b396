"""Clients for the stand-ins' control routes: faults, gates, ledger, waiting without polling."""

from types import TracebackType
from typing import Any, Self

import httpx


class _Control:
    """An async context manager around one connection pool. `url` is the stand-in's root."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=10)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.http.aclose()


class GeminiControl(_Control):
    """The model stand-in's controls. Every call raises when the stand-in says no."""

    async def faults(self, *rules: dict[str, Any]) -> None:
        """Replaces the fault plan, e.g. `{"fault": "rate_limit", "stage": "generate"}`."""
        (await self.http.put("/control/faults", json=list(rules))).raise_for_status()

    async def latency(self, **seconds: float) -> None:
        """Seconds by stage."""
        (await self.http.put("/control/latency", json=seconds)).raise_for_status()

    async def close_gate(self, stage: str, *, let_through: int = 0) -> None:
        """Holds every further call of a stage until `open_gate`."""
        answer = await self.http.put(f"/control/gates/{stage}", json={"pass": let_through})
        answer.raise_for_status()

    async def wait_waiting(self, stage: str, calls: int = 1) -> None:
        """Returns when that many calls wait at the stage's gate; fails after 30 s."""
        answer = await self.http.get(
            f"/control/gates/{stage}", params={"wait_for": calls}, timeout=40
        )
        _reached(answer)

    async def open_gate(self, stage: str) -> None:
        """Lets the held calls go."""
        (await self.http.delete(f"/control/gates/{stage}")).raise_for_status()

    async def wait_calls(self, calls: int, *, stage: str = "", state: str = "arrived") -> None:
        """Returns when so many calls have arrived (or: finished, waiting, hanging)."""
        query: dict[str, str | int] = {"wait_for": calls, "state": state}
        query |= {"stage": stage} if stage else {}
        answer = await self.http.get("/control/calls", params=query, timeout=40)
        _reached(answer)

    async def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The ledger's lines after number `since`."""
        answer = await self.http.get("/control/ledger", params={"since": since})
        answer.raise_for_status()
        lines: list[dict[str, Any]] = answer.json()["lines"]
        return lines

    async def reset(self) -> None:
        """Fair weather; the ledger stays."""
        (await self.http.delete("/control")).raise_for_status()


class OpikControl(_Control):
    """The Opik receiver's controls."""

    @property
    def api_url(self) -> str:
        """What OPIK_URL_OVERRIDE is set to."""
        return f"{self.url}/api"

    async def fault(self, **fault: Any) -> None:
        """Adds one, e.g. `kind="429", count=2` or `kind="hang"`."""
        (await self.http.post("/control/faults", json=fault)).raise_for_status()

    async def wait(self, **wanted: str | int) -> dict[str, Any]:
        """Waits for e.g. `trace_id=…, ended=1, closed_spans=1, scores=5`; fails after `timeout`."""
        query: dict[str, str | int] = {"timeout": 30, **wanted}
        answer = await self.http.get("/control/wait", params=query, timeout=60)
        _reached(answer)
        found: dict[str, Any] = answer.json()
        return found

    async def rule_triggers(self, trace_id: str) -> int:
        """How often Opik's online rules would have judged a trace."""
        answer = await self.http.get("/control/rule-triggers")
        answer.raise_for_status()
        return int(answer.json()["triggers"].get(trace_id, 0))

    async def reset(self) -> None:
        """No faults."""
        (await self.http.delete("/control/faults")).raise_for_status()


def _reached(answer: httpx.Response) -> None:
    answer.raise_for_status()
    if not answer.json()["reached"]:
        raise TimeoutError(answer.text)
