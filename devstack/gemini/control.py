"""The control routes: faults, gates, latency, calls and the ledger."""

from collections import Counter

from pydantic_core import from_json
from starlette.requests import Request
from starlette.routing import Route

from devstack.gemini.faults import STAGES
from devstack.gemini.state import ANY, LATENCIES, State
from devstack.standin import control, read_body


def routes(state: State) -> list[Route]:
    """Everything under /control."""
    controls, verbs = _Controls(state), ("GET", "PUT", "DELETE")
    return [
        *state.faults.routes(),
        *(control(verb, "/latency", controls.latency) for verb in verbs),
        *(control(verb, "/gates", controls.gates) for verb in verbs),
        *(control(verb, "/gates/{stage}", controls.gates) for verb in verbs),
        control("GET", "/calls", controls.calls),
        control("POST", "/release", controls.release),
        control("GET", "/ledger", controls.ledger),
        control("DELETE", "", controls.reset),
    ]


class _Controls:
    """The answers. A ValueError is the caller's mistake."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def latency(self, request: Request) -> object:
        """PUT takes seconds by stage, on top of a `mode` if one is named."""
        if request.method == "DELETE":
            self.state.latency = dict(self.state.usual_latency)
        elif request.method == "PUT":
            seconds = from_json(await read_body(request))
            mode = seconds.pop("mode", "none")
            if mode not in LATENCIES:
                raise ValueError(f"mode must be one of {sorted(LATENCIES)}")
            if not all(s in STAGES and isinstance(t, int | float) for s, t in seconds.items()):
                raise ValueError(f"seconds by stage are expected; stages: {STAGES}")
            self.state.latency = {**LATENCIES[mode], **seconds}
        return {"latency": self.state.latency}

    async def gates(self, request: Request) -> object:
        """PUT closes a gate, DELETE opens it, GET waits until calls stand before it."""
        state, stage = self.state, request.path_params.get("stage")
        if stage not in (None, *STAGES, ANY):
            raise ValueError(f"stage must be one of {(*STAGES, ANY)}")
        if request.method == "PUT" and stage:
            asked = from_json(await read_body(request) or b"{}")
            state.close_gate(stage, int(asked.get("pass", 0)))
        elif request.method == "DELETE":
            for name in [stage] if stage else list(state.gates):
                state.open_gate(name)
        reached = await self._reached(request, state.waiting, None if stage == ANY else stage)
        return {"gates": sorted(state.gates), **reached}

    async def calls(self, request: Request) -> object:
        """Waits for calls in a `state`: arrived (default), finished, waiting or hanging."""
        state, wanted = self.state, request.query_params.get("state", "arrived")
        counters = {"arrived": state.arrived, "finished": state.finished, "waiting": state.waiting}
        if wanted not in (*counters, "hanging"):
            raise ValueError("state must be arrived, finished, waiting or hanging")
        return await self._reached(request, counters.get(wanted), request.query_params.get("stage"))

    async def _reached(
        self, request: Request, counter: Counter[str] | None, stage: str | None
    ) -> dict[str, object]:
        def count() -> int:
            if counter is None:
                return len(self.state.faults.hanging)
            return counter[stage] if stage else sum(counter.values())

        wanted = int(request.query_params.get("wait_for", 0))
        seconds = min(300.0, float(request.query_params.get("timeout", 30)))
        reached = await self.state.changes.until(lambda: count() >= wanted, seconds)
        return {"count": count(), "reached": reached, **self.state.counts()}

    async def release(self, request: Request) -> object:
        return {"released": self.state.faults.release()}

    async def ledger(self, request: Request) -> object:
        since = int(request.query_params.get("since", 0))
        return {"lines": list(self.state.ledger.lines(since))}

    async def reset(self, request: Request) -> object:
        """No faults, gates and added latency. Counters and ledger stay: they are history."""
        self.state.faults.faults = []
        self.state.latency = dict(self.state.usual_latency)
        for name in list(self.state.gates):
            self.state.open_gate(name)
        return {"released": self.state.faults.release(), **self.state.counts()}
