"""The application: Opik's API under /api, its faults under /control, pages everywhere else."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from devstack.opik import datasets, experiments, extras, projects, prompts, reads, scores, writes
from devstack.opik.calls import Call, Handler
from devstack.opik.control import Controls
from devstack.opik.errors import Refused, error_answer
from devstack.opik.faults import Fault
from devstack.opik.pages import page_routes
from devstack.opik.rules import Rules
from devstack.opik.store import Store
from devstack.standin import CutConnection, JsonDocument, application, read_body

PARTS = (writes, scores, reads, projects, prompts, datasets, experiments, extras)
VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def api_routes() -> dict[tuple[str, str], Handler]:
    """Every route below /api: its method and path template, and its handler."""
    return {key: handler for part in PARTS for key, handler in part.routes.handlers.items()}


def receiver(store: Store, rules: Rules | None = None) -> Starlette:
    """A receiver over a store; it closes the store when it stops."""
    controls = Controls(store)
    api = Api(store, rules or Rules(), controls)
    # A template would take a fixed word for an id, so fixed paths come first.
    handlers = sorted(api_routes().items(), key=lambda item: "{" in item[0][1])
    routes = [
        *(
            Route(f"/api{path}", api.endpoint(path, handler), methods=[method])
            for (method, path), handler in handlers
        ),
        Route("/api/{path:path}", api.endpoint("", _unknown), methods=VERBS),
        *controls.routes(),
    ]
    pages = page_routes(store, api.rules, controls.faults)
    return application([*routes, *pages], on_error=error_answer, close=store.close)


def _unknown(call: Call) -> Response:
    raise Refused(404, "HTTP 404 Not Found")


class Api:
    """Runs a handler for a request, or the fault that is on, and counts the request."""

    def __init__(self, store: Store, rules: Rules, controls: Controls) -> None:
        self.store = store
        self.rules = rules
        self.controls = controls

    def endpoint(self, route: str, handler: Handler) -> Endpoint:
        """The endpoint of a route; an unknown address is counted under its whole path."""

        async def endpoint(request: Request) -> Response:
            call = Call(request, await read_body(request), self.store, self.rules)
            faults = self.controls.faults
            fault = faults.take(lambda each: each.fits(call.method, call.path, call.body))
            answer: Response | None = None
            try:
                answer = await self._answer(request, call, handler, fault)
                return answer
            finally:
                cut = answer is None or isinstance(answer, CutConnection)
                status = 0 if cut or answer is None else answer.status_code
                self.controls.requests.add(call, route or call.path, status, fault)
                self.controls.changes.notify()

        return endpoint

    async def _answer(
        self, request: Request, call: Call, handler: Handler, fault: Fault | None
    ) -> Response:
        if fault is None:
            return await self.store.run(_run, handler, call)
        match fault.kind:
            case "hang":
                await self.controls.faults.hang(request)
            case "cut":
                await self.store.run(_run, handler, call)
            case "lose":
                made = call.method == "POST" and not call.path.endswith(("/batch", "/items"))
                return Response(status_code=201 if made else 204)
            case "html":
                return HTMLResponse("<!doctype html><title>Sign in</title><h1>Sign in</h1>")
            case "slow":
                await asyncio.sleep(fault.seconds)
                return await self.store.run(_run, handler, call)
            case "status" | "poison":
                body = {"code": fault.status, "message": f"fault {fault.kind}"}
                return JsonDocument(body, fault.status, fault.headers)
        return CutConnection()


def _run(handler: Handler, call: Call) -> Response:
    try:
        result = handler(call)
    except HTTPException as error:
        return error_answer(error)
    if isinstance(result, Response):
        return result
    return Response(status_code=204) if result is None else JsonDocument(result)
