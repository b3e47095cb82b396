"""Faults on demand: which call gets which, and what an answer looks like when it is spoiled."""

import hashlib
import json
from typing import Any, Literal, get_args

from pydantic import Field, StrictInt

from devstack.gemini import protocol
from devstack.gemini.orders import obeyed, orders
from devstack.gemini.protocol import JSON_TYPE, Ask, Json, Usage, answer_body, error_body
from devstack.standin import Fault

StatusFault = Literal[
    "rate_limit", "daily_quota", "error", "bad_key", "unknown_model", "bad_request"
]
TransportFault = Literal["hang", "drip", "drop", "reset", "computed_then_dropped", "html_200"]
TextFault = Literal[
    "malformed", "fenced", "wrong_types", "extra_field", "nonsense", "huge", "hostile_text", "says",
    "obey",
]  # fmt: skip
CandidateFault = Literal[
    "truncated", "safety", "recitation", "prompt_blocked", "unknown_finish_reason", "empty_text",
    "no_parts", "uncounted",
]  # fmt: skip
STATUS_FAULTS, TEXT_FAULTS = get_args(StatusFault), get_args(TextFault)
CANDIDATE_FAULTS = get_args(CandidateFault)
ALL_FAULTS = (*STATUS_FAULTS, *get_args(TransportFault), *TEXT_FAULTS, *CANDIDATE_FAULTS)
Stage = Literal["preprocess", "generate", "evaluate", "plan", "other"]
STAGES = get_args(Stage)
HTML_TYPE = "text/html; charset=UTF-8"


class Rule(Fault):
    """One line of the fault plan. Calls are counted from when the rule was set, per rule."""

    fault: StatusFault | TransportFault | TextFault | CandidateFault
    stage: Stage | None = None
    calls: Literal["next", "all"] | StrictInt | list[StrictInt] = "next"
    share: float = 1.0
    args: Json = Field(default_factory=dict)
    seen: int = 0

    def takes(self, stage: str, seed: int) -> bool:
        """Whether it takes the call of a stage that has just come; counts the call."""
        if self.stage not in (None, stage):
            return False
        self.seen += 1
        if not self._wants():
            return False
        draw = hashlib.sha256(f"{seed}/{self.fault}/{stage}/{self.seen}".encode()).digest()
        return int.from_bytes(draw[:4]) / 2**32 < self.share

    def _wants(self) -> bool:
        if isinstance(self.calls, list):
            return self.seen in self.calls
        if self.calls == "all":
            return True
        return self.hits < (1 if self.calls == "next" else self.calls)


def error_answer(rule: Rule, ask: Ask) -> tuple[int, bytes, str]:
    """(status, body, media type) of a fault that Gemini answers with an error."""
    args = rule.args
    if rule.fault in ("rate_limit", "daily_quota"):
        return 429, _quota(ask, daily=rule.fault == "daily_quota", args=args), JSON_TYPE
    if rule.fault == "bad_key":
        code = int(args.get("code", 401))
        return code, _bad_key(code), JSON_TYPE
    if rule.fault == "unknown_model":
        message = f"models/{ask.model.name} is not found for API version v1."
        return 404, error_body(404, message), JSON_TYPE
    if rule.fault == "bad_request":
        message = args.get("message", "Request contains an invalid argument.")
        return 400, error_body(400, message), JSON_TYPE
    code = int(args.get("code", 500))
    if args.get("html", code == 502):
        return code, _html(f"Error {code} (Server Error)!!1"), HTML_TYPE
    return code, error_body(code, args.get("message", _MESSAGES.get(code, "Error."))), JSON_TYPE


_MESSAGES = {
    500: "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
    504: "Deadline expired before operation could complete.",
}


def _quota(ask: Ask, *, daily: bool, args: Json) -> bytes:
    seconds = args.get("seconds", 3600 if daily else 37.5)
    per = "PerDay" if daily else "PerMinute"
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    violation = {
        "quotaMetric": metric,
        "quotaId": f"GenerateRequests{per}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": ask.model.name},
        "quotaValue": "200" if daily else "15",
    }
    link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    details: list[Json] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.Help", "links": [link]},
    ]
    if args.get("retry_info", True):
        delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:g}s"}
        details.append(delay)
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n"
        f"* Quota exceeded for metric: {metric}, limit: {violation['quotaValue']}\n"
        f"Please retry in {seconds:g}s."
    )
    return error_body(429, message, details)


def _bad_key(code: int) -> bytes:
    if code == 401:
        message = (
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
            "cookie or other valid authentication credential."
        )
        return error_body(401, message, [protocol.error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED")])
    if code == 403:
        message = "Your API key was reported as leaked. Please use another API key."
        return error_body(403, message)
    message = "API key not valid. Please pass a valid API key."
    return error_body(400, message, [protocol.error_info("API_KEY_INVALID")])


def _html(title: str) -> bytes:
    return (
        f"<!DOCTYPE html>\n<html lang=en>\n<title>{title}</title>\n<p><b>{title}</b> "
        "<ins>That's an error.</ins>\n</html>\n"
    ).encode()


HTML_200 = _html("Sign in to the network")


def spoiled_text(rule: Rule, ask: Ask, answer: Any) -> str:
    """The answer's text, broken the way that the fault says. `answer` is JSON or plain text."""
    fault, args = rule.fault, rule.args
    if fault == "says":
        return str(args["text"])
    if fault == "wrong_types":
        answer = _wrong_types(answer)
    elif fault == "extra_field" and isinstance(answer, dict):
        answer = {**answer, "confidence": 0.93, "notes_to_user": "You are going to love this!"}
    elif fault == "nonsense":
        answer = _nonsense(answer)
    elif fault == "huge":
        answer = _stretched(answer, int(args.get("bytes", 5_000_000)))
    elif fault == "hostile_text":
        answer = _hostile(answer)
    elif fault == "obey" and orders(ask.user):
        answer = obeyed(answer, ask.user)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    if fault == "fenced":
        return f"```json\n{text}\n```"
    if fault == "malformed":
        return text.replace('": ', '" ', 1).removesuffix("}") + ",,"
    return text


def _wrong_types(value: Any) -> Any:
    if not isinstance(value, dict):
        return {"value": value}
    swap: dict[type, Any] = {list: "none", str: 42, dict: [], int: "eleven", float: "eleven"}
    return {key: swap.get(type(child), {"a": 1}) for key, child in value.items()}


def _nonsense(value: Any) -> Any:
    """Well-formed, of the right types, and absurd: every number is -1, every sentence empty."""
    if isinstance(value, dict):
        return {key: _nonsense(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_nonsense(child) for child in value]
    if isinstance(value, str):
        return "" if " " in value else value
    return value if value is None or isinstance(value, bool) else -1


HOSTILE = "\x00\ud800\u202egnihton\u202c\x1b[31mred\x1b[0m</script><script>alert(1)</script>"


def _hostile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hostile(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_hostile(child) for child in value]
    long = isinstance(value, str) and len(value) > 12  # not the enums and the dates
    return value[: len(value) // 2] + HOSTILE + value[len(value) // 2 :] if long else value


def _stretched(value: Any, size: int) -> Any:
    """The first long text is repeated until the whole is `size` bytes."""
    if isinstance(value, dict):
        for key, child in value.items():
            if isinstance(child, str) and len(child) > 12:
                return {**value, key: (child + " ") * (size // (len(child) + 1) + 1)}
        return {**value, "padding": "x" * size}
    return "x" * size


def spoiled_answer(rule: Rule, ask: Ask, text: str, usage: Usage) -> tuple[Json, Usage]:
    """A 200 whose candidate is not what one hoped for."""
    none = Usage(usage.prompt)
    rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
    match rule.fault:
        case "truncated":
            cut = text[: max(1, int(len(text) * rule.args.get("share", 0.5)))]
            usage = Usage(usage.prompt, protocol.count_tokens(cut), usage.thoughts)
            return answer_body(ask, protocol.text_candidate(cut, "MAX_TOKENS"), usage), usage
        case "safety":
            candidate: Json = {"finishReason": "SAFETY", "safetyRatings": [rating]}
        case "recitation":
            candidate = {"finishReason": "RECITATION"}
        case "prompt_blocked":
            reason = rule.args.get("reason", "SAFETY")
            feedback = {"blockReason": reason, "safetyRatings": [rating]}
            return answer_body(ask, None, none, promptFeedback=feedback), none
        case "unknown_finish_reason":
            candidate = protocol.text_candidate(text, "MOON_PHASE")
            return answer_body(ask, candidate, usage), usage
        case "empty_text":
            candidate = protocol.text_candidate("")
        case "uncounted":
            body = answer_body(ask, protocol.text_candidate(text), usage)
            del body["usageMetadata"]
            return body, usage
        case _:
            candidate = {"content": {"role": "model"}, "finishReason": "STOP"}
    return answer_body(ask, candidate, none), none
