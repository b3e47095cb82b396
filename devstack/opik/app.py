"""The ASGI application: unpack the body, obey the faults, answer, count, wake those who wait."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from devstack.opik import (
    alive,
    attachments,
    compare,
    datasets,
    experiments,
    feedback,
    metrics,
    pages,
    projects,
    prompts,
    queues,
    reads,
    stats,
    threads,
    writes,
)
from devstack.opik.control import Control
from devstack.opik.faults import Fault, Seen
from devstack.opik.http import Call, Handler, Refused, Reply, Routes
from devstack.opik.page import missing
from devstack.opik.rules import Rules
from devstack.opik.store import Store
from devstack.opik.wire import API, Receive, Scope, Send, cut, gone, new_call, read_body, send_reply

log = structlog.get_logger()

# The order matters where a template could swallow a fixed word: /traces/stats before /traces/{id}.
PARTS = (
    writes,
    alive,
    projects,
    feedback,
    stats,
    metrics,
    threads,
    reads,
    prompts,
    compare,
    datasets,
    experiments,
    queues,
    attachments,
)


def no_route(call: Call) -> Reply:
    """Opik's answer to an address it does not know."""
    return Reply(404, {"code": 404, "message": "HTTP 404 Not Found"})


def api_routes() -> Routes:
    """Every route below /api."""
    table = Routes()
    for part in PARTS:
        table.include(part.routes)
    return table


class Receiver:
    """Opik's API under /api, its faults under /control, pages for people everywhere else."""

    def __init__(self, store: Store, rules: Rules | None = None) -> None:
        self.store = store
        self.rules = rules or Rules()
        self.control = Control(store)
        self.api = api_routes()
        self.pages = pages.page_routes(self.control.faults)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="opik")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply: Reply | None
        try:
            packed = await read_body(receive)
            call = new_call(scope, self.store, self.rules, packed)
        except Refused as refused:
            reply = refused.reply()
        else:
            reply = await self._answer(call, len(packed), receive)
        if reply is None:
            await cut(scope, receive)
        else:
            await send_reply(send, reply, scope["method"])

    async def _answer(self, call: Call, wire: int, receive: Receive) -> Reply | None:
        if call.path.startswith("/control/"):
            return await self.control.answer(call)
        if not call.path.startswith(API + "/"):
            return await self._work(self.pages, call, missing)
        call = replace(call, path=call.path.removeprefix(API))
        fault = self.control.faults.take(call.method, call.path, call.body)
        reply = await self._under(fault, call, receive)
        self.control.requests.add(_seen(call, wire, reply, fault))
        await self.control.wake()
        return reply

    async def _under(self, fault: Fault | None, call: Call, receive: Receive) -> Reply | None:
        """The reply, or None when the connection is to be closed without one."""
        if fault is None:
            return await self._work(self.api, call)
        match fault.kind:
            case "refuse":
                return None
            case "hang":
                await self.control.first(self.control.faults.released.wait(), gone(receive))
                return None
            case "cut":
                await self._work(self.api, call)
                return None
            case "lose":
                return Reply(_good_status(call))
            case "slow":
                await asyncio.sleep(fault.seconds)
                return await self._work(self.api, call)
            case "status" | "poison":
                body: dict[str, object] = {"code": fault.status, "message": f"fault {fault.kind}"}
                return Reply(fault.status, body, fault.headers)

    async def _work(self, table: Routes, call: Call, otherwise: Handler = no_route) -> Reply:
        """Run a handler in a thread: SQLite and JSON of a batch would hold up the loop."""
        found = table.find("GET" if call.method == "HEAD" else call.method, call.path)
        handler, params = found or (otherwise, {})
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _run, handler, replace(call, params=params))


def _run(handler: Handler, call: Call) -> Reply:
    try:
        return handler(call)
    except Refused as refused:
        return refused.reply()
    except Exception:
        log.exception("opik_receiver_failed", method=call.method, path=call.path)
        return Reply(500, {"code": 500, "message": "the receiver failed; see its log"})


def _good_status(call: Call) -> int:
    return 201 if call.method == "POST" and not call.path.endswith(("/batch", "/items")) else 204


def _seen(call: Call, wire: int, reply: Reply | None, fault: Fault | None) -> Seen:
    return Seen(
        at=datetime.now(UTC),
        method=call.method,
        path=call.path,
        status=0 if reply is None else reply.status,
        items=0 if reply is None else reply.items,
        bytes=wire,
        fault=None if fault is None else fault.kind,
    )
