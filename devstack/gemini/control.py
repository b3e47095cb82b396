"""The control routes, outside Gemini's paths: faults, gates, latency, calls, ledger, and the page."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from devstack.gemini.faults import STAGES, Rule
from devstack.gemini.page import page
from devstack.gemini.protocol import HTML_TYPE, BadRequest, Json, parse_json
from devstack.gemini.watch import ANY, LATENCIES
from devstack.gemini.wire import Exchange

if TYPE_CHECKING:
    from devstack.gemini.app import StandIn

MAX_WAIT = 300.0


async def handle(home: "StandIn", exchange: Exchange) -> None:
    """Answer one control request. Raises BadRequest for what is not understood."""
    body = await exchange.body()
    parts = [part for part in exchange.path.split("/") if part]
    if exchange.method == "GET" and not parts:
        await exchange.reply(200, page(home).encode(), HTML_TYPE)
        return
    if parts == ["healthz"]:
        await exchange.reply(200, b'{"status":"ok","stand_in":"gemini"}')
        return
    if not parts or parts[0] != "control":
        raise BadRequest(404, "Not found.")
    query = {key: values[0] for key, values in parse_qs(exchange.query.decode()).items()}
    result = await _control(home, exchange.method, parts[1:], query, body)
    await exchange.reply(200, json.dumps(result).encode())


async def _control(
    home: "StandIn", method: str, parts: list[str], query: dict[str, str], body: bytes
) -> Json:
    what, stage = (parts[0] if parts else ""), (parts[1] if len(parts) > 1 else None)
    if what == "faults":
        return _faults(home, method, body)
    if what == "latency":
        return _latency(home, method, body)
    if what == "gates":
        return await _gates(home, method, stage, query, body)
    if what == "calls":
        return await _calls(home, query)
    if what == "release" and method == "POST":
        return {"released": home.watch.release_hanging()}
    if what == "ledger":
        return {"lines": list(home.ledger.lines(int(query.get("since", 0))))}
    if what == "" and method == "DELETE":
        return _reset(home)
    raise BadRequest(404, "Control routes: faults, latency, gates, calls, release, ledger.")


def _faults(home: "StandIn", method: str, body: bytes) -> Json:
    if method in ("PUT", "POST"):
        try:
            data = json.loads(body)
        except ValueError as error:
            raise BadRequest(400, "faults: a JSON list of rules is expected") from error
        rules = [Rule.read(rule) for rule in (data if isinstance(data, list) else [data])]
        home.faults.rules = rules if method == "PUT" else home.faults.rules + rules
    elif method == "DELETE":
        home.faults.rules = []
        home.watch.release_hanging()
    return {"faults": [asdict(rule) for rule in home.faults.rules]}


def _latency(home: "StandIn", method: str, body: bytes) -> Json:
    if method == "PUT":
        data = parse_json(body)
        mode = data.pop("mode", None)
        if mode is not None and mode not in LATENCIES:
            raise BadRequest(400, f"mode must be one of {sorted(LATENCIES)}")
        if not all(s in STAGES and isinstance(t, int | float) for s, t in data.items()):
            raise BadRequest(400, f"seconds by stage are expected; stages: {STAGES}")
        home.latency = {**LATENCIES[mode or "none"], **data}
    elif method == "DELETE":
        home.latency = dict(home.usual_latency)
    return {"latency": home.latency}


async def _gates(
    home: "StandIn", method: str, stage: str | None, query: dict[str, str], body: bytes
) -> Json:
    watch = home.watch
    if stage is not None and stage not in (*STAGES, ANY):
        raise BadRequest(400, f"stage must be one of {(*STAGES, ANY)}")
    if method == "PUT" and stage is not None:
        watch.close_gate(stage, int(parse_json(body or b"{}").get("pass", 0)))
    elif method == "DELETE":
        for name in [stage] if stage else list(watch.gates):
            watch.open_gate(name)
    wanted = int(query.get("wait_for", 0))

    def waiting() -> int:
        alone = stage is not None and stage != ANY
        return watch.waiting[stage] if stage and alone else sum(watch.waiting.values())

    reached = await watch.until(lambda: waiting() >= wanted, _timeout(query))
    return {"gates": sorted(watch.gates), "count": waiting(), "reached": reached, **watch.counts()}


async def _calls(home: "StandIn", query: dict[str, str]) -> Json:
    """`state` is arrived (default), finished, waiting or hanging."""
    watch, stage, state = home.watch, query.get("stage"), query.get("state", "arrived")
    counters = {"arrived": watch.arrived, "finished": watch.finished, "waiting": watch.waiting}
    if state not in (*counters, "hanging"):
        raise BadRequest(400, "state must be arrived, finished, waiting or hanging")

    def count() -> int:
        if state == "hanging":
            return len(watch.hanging)
        counter = counters[state]
        return counter[stage] if stage else sum(counter.values())

    wanted = int(query.get("wait_for", 0))
    reached = await watch.until(lambda: count() >= wanted, _timeout(query))
    return {"count": count(), "reached": reached, **watch.counts()}


def _timeout(query: dict[str, str]) -> float:
    return min(MAX_WAIT, float(query.get("timeout", 30)))


def _reset(home: "StandIn") -> Json:
    """Back to good weather. Counters and ledger stay: they are history."""
    home.faults.rules = []
    home.latency = dict(home.usual_latency)
    for name in list(home.watch.gates):
        home.watch.open_gate(name)
    return {"released": home.watch.release_hanging(), **home.watch.counts()}
