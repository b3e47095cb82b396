"""The application: Gemini's routes on one side, the control routes on the other. Plain ASGI, for speed."""

import asyncio
import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from devstack.gemini import control
from devstack.gemini.answers import writer
from devstack.gemini.faults import (
    CANDIDATE_FAULTS,
    HTML_200,
    STATUS_FAULTS,
    TEXT_FAULTS,
    Faults,
    Rule,
    error_answer,
    spoiled_answer,
    spoiled_text,
)
from devstack.gemini.ledger import Ledger
from devstack.gemini.protocol import (
    HTML_TYPE,
    MODELS,
    Ask,
    BadRequest,
    Json,
    Usage,
    answer_body,
    count_tokens,
    error_body,
    error_info,
    find_model,
    model_json,
    parse_ask,
    parse_contents,
    parse_json,
    text_candidate,
    thought_tokens,
)
from devstack.gemini.schema import stage_of
from devstack.gemini.watch import LATENCIES, Watch
from devstack.gemini.wire import ClientGone, Exchange, Receive, Scope, Send

ROUTE = re.compile(r"^/(?:v1|v1beta|v1alpha)/models(?:/([^/:]+))?(?::(\w+))?$")
CACHE = 512
GONE = 499


class StandIn:
    """An ASGI application that answers like Gemini. All state is here; one process, one loop."""

    def __init__(self, ledger: Path, *, seed: int = 0, latency: str = "none") -> None:
        self.seed = seed
        self.ledger = Ledger(ledger)
        self.faults = Faults(seed)
        self.watch = Watch()
        self.usual_latency = LATENCIES[latency]
        self.latency = dict(self.usual_latency)
        self._written: OrderedDict[str, Any] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        route = ROUTE.match(exchange.path)
        try:
            if route is None:
                await control.handle(self, exchange)
            else:
                await self._gemini(exchange, route[1], route[2])
        except BadRequest as error:
            await exchange.reply(error.code, error_body(error.code, error.message, error.details))
        except ClientGone:
            return

    async def _gemini(self, exchange: Exchange, name: str | None, verb: str | None) -> None:
        query = parse_qs(exchange.query.decode("latin-1")) if exchange.query else {}
        key = exchange.header(b"x-goog-api-key") or query.get("key", [""])[0]
        body = await exchange.body()
        _check_key(key)
        if exchange.method == "GET" and verb is None:
            found = model_json(find_model(name)) if name else _all_models()
            await exchange.reply(200, json.dumps(found).encode())
        elif exchange.method != "POST" or name is None:
            raise BadRequest(404, "Not found.")
        elif verb == "countTokens":
            await exchange.reply(200, _counted(body))
        elif verb in ("generateContent", "streamGenerateContent"):
            ask = parse_ask(find_model(name), body)
            how = "" if verb == "generateContent" else query.get("alt", ["json"])[0]
            await Call(self, exchange, ask, key, how).run()
        else:
            raise BadRequest(404, f"models/{name} does not support {verb}.")

    def written(self, ask: Ask) -> Any:
        """The answer before any fault; kept, because the same request always has the same answer."""
        found = self._written.get(ask.sha256)
        if found is None:
            found = self._written[ask.sha256] = writer.write(ask)
            if len(self._written) > CACHE:
                self._written.popitem(last=False)
        return found


class Call:
    """One request for content on its way through gate, fault, latency, ledger and wire."""

    def __init__(self, home: StandIn, exchange: Exchange, ask: Ask, key: str, how: str) -> None:
        self.home = home
        self.exchange = exchange
        self.ask = ask
        self.key = key
        self.stream = how
        self.stage = stage_of(ask.schema)
        self.n = home.ledger.next()
        self.rule: Rule | None = None

    async def run(self) -> None:
        self.home.watch.arrive(self.stage)
        try:
            await self._hold()
            self.rule = self.home.faults.take(self.stage)
            if self._fault() in ("hang", "reset"):
                await self._silent()
            if self._fault() in STATUS_FAULTS:
                await self._refuse()
            elif self._fault() != "reset":
                await self._wait(self.home.latency.get(self.stage, 0.0))
                await self._answer()
        except ClientGone:
            self._enter(GONE, Usage(0), served=False)
            raise
        finally:
            self.home.watch.finish(self.stage)

    def _fault(self) -> str:
        return self.rule.fault if self.rule else ""

    def _enter(self, status: int, usage: Usage, *, served: bool) -> None:
        self.home.ledger.write(
            self.n,
            stage=self.stage,
            ask=self.ask,
            key=self.key,
            status=status,
            served=served,
            usage=usage,
            fault=self._fault() or None,
        )

    async def _hold(self) -> None:
        gate = self.home.watch.gate_for(self.stage) if self.home.watch.gates else None
        if gate is None:
            return
        self.home.watch.waiting[self.stage] += 1
        self.home.watch.changed()
        try:
            await self.exchange.unless_gone(gate.wait())
        finally:
            self.home.watch.waiting[self.stage] -= 1

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await self.exchange.unless_gone(asyncio.sleep(seconds))

    async def _silent(self) -> None:
        if self._fault() == "reset":
            self._enter(0, Usage(0), served=False)
            await self.exchange.reset()
            return
        hanging = self.home.watch.hanging
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        hanging.add(held)
        self.home.watch.changed()
        try:
            await self.exchange.unless_gone(held)
        finally:
            hanging.discard(held)

    async def _refuse(self) -> None:
        assert self.rule is not None  # noqa: S101
        status, body, html = error_answer(self.rule, self.ask)
        self._enter(status, Usage(0), served=False)
        if html:
            await self.exchange.reply(status, body, HTML_TYPE)
        else:
            await self.exchange.reply(status, body)

    async def _answer(self) -> None:
        response, usage = self._response()
        if self._fault() == "html_200":
            self._enter(200, Usage(0), served=False)
            await self.exchange.reply(200, HTML_200, HTML_TYPE)
            return
        self._enter(200, usage, served=True)
        if self.stream:
            await self._stream(response)
        else:
            await self._send(json.dumps(response).encode())

    def _response(self) -> tuple[Json, Usage]:
        answer, rule, ask = self.home.written(self.ask), self.rule, self.ask
        if rule is not None and rule.fault in TEXT_FAULTS:
            text = spoiled_text(rule, answer)
        else:
            text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        thoughts = thought_tokens(ask)
        room, finish = max(0, ask.max_tokens - thoughts), "STOP"
        if count_tokens(text) > room and self._fault() not in ("huge", "nonsense"):
            text, finish = text[: room * 4], "MAX_TOKENS"
        usage = Usage(ask.prompt_tokens, count_tokens(text), thoughts)
        if rule is not None and rule.fault in CANDIDATE_FAULTS:
            return spoiled_answer(rule, ask, text, usage)
        return answer_body(ask, text_candidate(text, finish), usage), usage

    async def _send(self, data: bytes) -> None:
        if self._fault() == "computed_then_dropped":
            await self.exchange.reset()
        elif self._fault() == "drop":
            await self.exchange.start(200, length=len(data))
            await self.exchange.part(data[: len(data) // 2])
            await self.exchange.reset()
        elif self._fault() == "drip":
            await self._drip(data)
        else:
            await self.exchange.reply(200, data)

    async def _drip(self, data: bytes) -> None:
        assert self.rule is not None  # noqa: S101
        size = int(self.rule.args.get("bytes", 1))
        pause = float(self.rule.args.get("seconds", 1))
        await self.exchange.start(200, length=len(data))
        for at in range(0, len(data), size):
            await self.exchange.part(data[at : at + size])
            try:
                await self._wait(pause)
            except ClientGone:
                return  # the line in the ledger was written when the answer was made
        await self.exchange.part(b"", last=True)

    async def _stream(self, response: Json) -> None:
        """The answer in pieces: server-sent events with alt=sse, else one JSON array."""
        pieces = [json.dumps(piece, ensure_ascii=False) for piece in _pieces(response)]
        if self._fault() == "computed_then_dropped":
            return await self.exchange.reset()
        if self.stream != "sse":
            return await self._send(("[" + ",\r\n".join(pieces) + "]").encode())
        await self.exchange.start(200, b"text/event-stream")
        for number, piece in enumerate(pieces):
            if self._fault() == "drop" and number:
                return await self.exchange.reset()
            await self.exchange.part(f"data: {piece}\r\n\r\n".encode())
        return await self.exchange.part(b"", last=True)


def _pieces(response: Json) -> list[Json]:
    candidate = (response.get("candidates") or [{}])[0]
    parts = candidate.get("content", {}).get("parts") or []
    text = parts[0]["text"] if parts else ""
    size = max(80, len(text) // 6)
    cuts = [text[at : at + size] for at in range(0, len(text), size)]
    if len(cuts) < 2:
        return [response]
    common = {"modelVersion": response["modelVersion"], "responseId": response["responseId"]}
    pieces = []
    for cut in cuts[:-1]:
        content = {"parts": [{"text": cut}], "role": "model"}
        pieces.append({"candidates": [{"content": content, "index": 0}], **common})
    content = {"parts": [{"text": cuts[-1]}], "role": "model"}
    return [*pieces, {**response, "candidates": [{**candidate, "content": content}]}]


def _check_key(key: str) -> None:
    if not key:
        raise BadRequest(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API.",
            [error_info("CREDENTIALS_MISSING")],
        )


def _all_models() -> Json:
    return {"models": [model_json(model) for model in MODELS.values()]}


def _counted(body: bytes) -> bytes:
    data = parse_json(body)
    system, user = parse_contents(data.get("generateContentRequest") or data)
    total = count_tokens(system) + count_tokens(user)
    details = [{"modality": "TEXT", "tokenCount": total}]
    return json.dumps({"totalTokens": total, "promptTokensDetails": details}).encode()
