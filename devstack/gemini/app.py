"""Gemini's routes: a call for content goes through gate, fault, latency and ledger."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from devstack.gemini import control, faults, protocol
from devstack.gemini.answers import writer
from devstack.gemini.page import page
from devstack.gemini.protocol import JSON_TYPE, Ask, BadRequest, Json, Usage
from devstack.gemini.schema import stage_of
from devstack.gemini.state import State
from devstack.standin import CutConnection, application, read_body, while_connected


def stand_in(state: State) -> Starlette:
    """An ASGI application that answers like Gemini."""

    async def ask(request: Request) -> Response:
        return await _ask(state, request)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "stand_in": "gemini"})

    async def home(request: Request) -> Response:
        return page(state)

    versions = ("v1", "v1beta", "v1alpha")
    routes = [Route(f"/{v}/models/{{name}}:{{verb}}", ask, methods=["POST"]) for v in versions]
    routes += [Route("/", home), Route("/healthz", health), *control.routes(state)]
    return application(routes, on_error=_error, close=state.ledger.close)


def _error(error: HTTPException) -> Response:
    details = error.details if isinstance(error, BadRequest) else None
    body = protocol.error_body(error.status_code, error.detail, details)
    return Response(body, error.status_code, media_type=JSON_TYPE)


def _key(request: Request) -> str:
    key = request.headers.get("x-goog-api-key") or request.query_params.get("key", "")
    if not key:
        raise BadRequest(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API.",
            [protocol.error_info("CREDENTIALS_MISSING")],
        )
    return key


async def _ask(state: State, request: Request) -> Response:
    body, key = await read_body(request), _key(request)
    name, verb = request.path_params["name"], request.path_params["verb"]
    if verb not in ("generateContent", "streamGenerateContent"):
        raise BadRequest(404, f"models/{name} does not support {verb}.")
    ask = protocol.parse_ask(protocol.find_model(name), body)
    return await _Call(state, request, ask, key, verb != "generateContent").run()


@lru_cache(maxsize=512)
def _written(ask: Ask) -> Any:
    """The answer before any fault: the same request always has the same one."""
    return writer.write(ask)


class _Call:
    """One request for content. What `streams` is sent in pieces, as server-sent events."""

    def __init__(self, state: State, request: Request, ask: Ask, key: str, streams: bool) -> None:
        self.state = state
        self.request = request
        self.ask = ask
        self.key = key
        self.streams = streams
        self.stage = stage_of(ask.schema)
        self.n = state.ledger.next()
        self.rule: faults.Rule | None = None

    async def run(self) -> Response:
        """The answer, spoiled as the fault says. A ledger line is written before it leaves."""
        self.state.count(self.state.arrived, self.stage)
        try:
            await self.state.pass_gate(self.stage, self.request)
            seed = self.state.seed
            self.rule = self.state.faults.take(lambda rule: rule.takes(self.stage, seed))
            return await self._answer()
        except ClientDisconnect:
            self._enter(499)  # as nginx counts a client that left
            raise
        finally:
            self.state.count(self.state.finished, self.stage)

    @property
    def fault(self) -> str:
        return self.rule.fault if self.rule else ""

    async def _answer(self) -> Response:
        fault = self.fault
        if fault == "reset":
            self._enter(0)
            return CutConnection()
        if fault == "hang":
            await self.state.faults.hang(self.request)
        if self.rule and fault in faults.STATUS_FAULTS:
            status, body, media = faults.error_answer(self.rule, self.ask)
            self._enter(status)
            return Response(body, status, media_type=media)
        seconds = self.state.latency.get(self.stage, 0.0)
        if seconds > 0:
            await while_connected(self.request, asyncio.sleep(seconds))
        if fault == "html_200":
            self._enter(200)
            return Response(faults.HTML_200, media_type=faults.HTML_TYPE)
        response, usage = self._response()
        self._enter(200, usage)
        return self._sent(response)

    def _enter(self, status: int, usage: Usage | None = None) -> None:
        facts = {"stage": self.stage, "key": self.key[-4:], "fault": self.fault or None}
        self.state.ledger.write(self.n, self.ask, usage, status=status, **facts)

    def _response(self) -> tuple[Json, Usage]:
        answer, rule, ask = _written(self.ask), self.rule, self.ask
        if rule and rule.fault in faults.TEXT_FAULTS:
            text = faults.spoiled_text(rule, ask, answer)
        else:
            text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        thoughts = protocol.thought_tokens(ask)
        room, finish = max(0, ask.max_tokens - thoughts), "STOP"
        if protocol.count_tokens(text) > room and self.fault not in ("huge", "nonsense", "says"):
            text, finish = text[: room * 4], "MAX_TOKENS"
        usage = Usage(ask.prompt_tokens, protocol.count_tokens(text), thoughts)
        if rule and rule.fault in faults.CANDIDATE_FAULTS:
            return faults.spoiled_answer(rule, ask, text, usage)
        return protocol.answer_body(ask, protocol.text_candidate(text, finish), usage), usage

    def _sent(self, response: Json) -> Response:
        """The answer on the wire: whole, in pieces, drop by drop, or cut."""
        fault, args = self.fault, self.rule.args if self.rule else {}
        if fault == "computed_then_dropped":
            return CutConnection()
        if self.streams:
            pieces = [json.dumps(piece, ensure_ascii=False) for piece in _pieces(response)]
            events = [f"data: {piece}\r\n\r\n".encode() for piece in pieces]
            if fault == "drop":
                return CutConnection(events[0], media_type="text/event-stream")
            return StreamingResponse(_each(events), media_type="text/event-stream")
        data = json.dumps(response).encode()
        if fault == "drop":
            return CutConnection(data[: len(data) // 2], length=len(data))
        if fault == "drip":
            size, pause = int(args.get("bytes", 1)), float(args.get("seconds", 1))
            drops = [data[at : at + size] for at in range(0, len(data), size)]
            headers = {"content-length": str(len(data))}
            return StreamingResponse(_each(drops, pause), headers=headers, media_type=JSON_TYPE)
        return Response(data, media_type=JSON_TYPE)


async def _each(pieces: list[bytes], pause: float = 0) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(pause)


def _pieces(response: Json) -> list[Json]:
    """The response as a stream sends it: its text in cuts, the usage with the last of them."""
    candidate = (response.get("candidates") or [{}])[0]
    parts = candidate.get("content", {}).get("parts") or []
    text = parts[0]["text"] if parts else ""
    size = max(80, len(text) // 6)
    cuts = [text[at : at + size] for at in range(0, len(text), size)]
    contents = [{"parts": [{"text": cut}], "role": "model"} for cut in cuts]
    if len(contents) < 2:
        return [response]
    common = {"modelVersion": response["modelVersion"], "responseId": response["responseId"]}
    pieces = [{"candidates": [{"content": each, "index": 0}], **common} for each in contents[:-1]]
    return [*pieces, {**response, "candidates": [{**candidate, "content": contents[-1]}]}]
