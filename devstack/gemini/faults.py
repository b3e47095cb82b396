"""Faults on demand: which call gets which, and what an answer looks like when it is spoiled."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from devstack.gemini.protocol import (
    Ask,
    BadRequest,
    Json,
    Usage,
    answer_body,
    count_tokens,
    error_body,
    error_info,
    text_candidate,
)

Fault = Literal[
    "rate_limit", "daily_quota", "error", "bad_key", "unknown_model", "bad_request",
    "hang", "drip", "drop", "reset", "computed_then_dropped", "html_200",
    "truncated", "safety", "recitation", "prompt_blocked", "unknown_finish_reason",
    "empty_text", "no_parts",
    "malformed", "fenced", "wrong_types", "extra_field", "nonsense", "huge", "hostile_text",
]  # fmt: skip
STATUS_FAULTS = {
    "rate_limit", "daily_quota", "error", "bad_key", "unknown_model", "bad_request",
}  # fmt: skip
TRANSPORT_FAULTS = {"hang", "drip", "drop", "reset", "computed_then_dropped", "html_200"}
TEXT_FAULTS = {
    "malformed", "fenced", "wrong_types", "extra_field", "nonsense", "huge", "hostile_text",
}  # fmt: skip
CANDIDATE_FAULTS = {
    "truncated", "safety", "recitation", "prompt_blocked", "unknown_finish_reason", "empty_text",
    "no_parts",
}  # fmt: skip
ALL_FAULTS = STATUS_FAULTS | TRANSPORT_FAULTS | TEXT_FAULTS | CANDIDATE_FAULTS
STAGES = ("preprocess", "generate", "evaluate", "plan", "other")


@dataclass
class Rule:
    """One line of the fault plan. Calls are counted from when the rule was set, per rule."""

    fault: str
    stage: str | None = None
    calls: str | int | list[int] = "next"
    share: float = 1.0
    args: Json = field(default_factory=dict)
    seen: int = 0
    hit: int = 0

    @classmethod
    def read(cls, data: Json) -> "Rule":
        """Raises BadRequest (400) for a fault, stage or call that does not exist."""
        if not isinstance(data, dict) or "fault" not in data:
            raise BadRequest(400, "a rule is an object with at least a fault")
        rule = cls(**{key: data[key] for key in data if key in cls.__dataclass_fields__})
        unknown = set(data) - {"fault", "stage", "calls", "share", "args", "seen", "hit"}
        if unknown:
            raise BadRequest(400, f"unknown keys: {sorted(unknown)}")
        if rule.fault not in ALL_FAULTS:
            raise BadRequest(400, f"fault must be one of {sorted(ALL_FAULTS)}")
        if rule.stage is not None and rule.stage not in STAGES:
            raise BadRequest(400, f"stage must be null or one of {STAGES}")
        counted = isinstance(rule.calls, int) and not isinstance(rule.calls, bool)
        listed = isinstance(rule.calls, list) and all(isinstance(n, int) for n in rule.calls)
        if not (rule.calls in ("next", "all") or counted or listed):
            raise BadRequest(400, "calls must be 'next', 'all', a count or a list of numbers")
        return rule

    def takes(self, stage: str, seed: int) -> bool:
        if self.stage not in (None, stage):
            return False
        self.seen += 1
        if not self._wants():
            return False
        draw = hashlib.sha256(f"{seed}/{self.fault}/{stage}/{self.seen}".encode()).digest()
        if int.from_bytes(draw[:4]) / 2**32 >= self.share:
            return False
        self.hit += 1
        return True

    def _wants(self) -> bool:
        if self.calls == "all":
            return True
        if self.calls == "next":
            return self.hit == 0
        if isinstance(self.calls, int):
            return self.hit < self.calls
        return self.seen in self.calls


class Faults:
    """The fault plan. The first rule that takes a call decides it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rules: list[Rule] = []

    def take(self, stage: str) -> Rule | None:
        if not self.rules:
            return None
        return next((rule for rule in self.rules if rule.takes(stage, self.seed)), None)


def error_answer(rule: Rule, ask: Ask) -> tuple[int, bytes, bool]:
    """(status, body, is it HTML) of a fault that Gemini answers with an error."""
    args = rule.args
    if rule.fault in ("rate_limit", "daily_quota"):
        return 429, _quota(ask, daily=rule.fault == "daily_quota", args=args), False
    if rule.fault == "bad_key":
        code = int(args.get("code", 401))
        return code, _bad_key(code), False
    if rule.fault == "unknown_model":
        message = f"models/{ask.model.name} is not found for API version v1."
        return 404, error_body(404, message), False
    if rule.fault == "bad_request":
        message = "Request contains an invalid argument."
        return 400, error_body(400, args.get("message", message)), False
    code = int(args.get("code", 500))
    if args.get("html", code == 502):
        return code, _html(f"Error {code} (Server Error)!!1"), True
    return code, error_body(code, args.get("message", _MESSAGES.get(code, "Error."))), False


_MESSAGES = {
    500: "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
    502: "Bad gateway.",
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
        return error_body(401, message, [error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED")])
    if code == 403:
        message = "Your API key was reported as leaked. Please use another API key."
        return error_body(403, message)
    message = "API key not valid. Please pass a valid API key."
    return error_body(400, message, [error_info("API_KEY_INVALID")])


def _html(title: str) -> bytes:
    return (
        f"<!DOCTYPE html>\n<html lang=en>\n<title>{title}</title>\n<p><b>{title}</b> "
        "<ins>That's an error.</ins>\n</html>\n"
    ).encode()


HTML_200 = _html("Sign in to the network")


def spoiled_text(rule: Rule, answer: Any) -> str:
    """The answer's text, broken the way that the fault says. `answer` is parsed JSON or plain text."""
    fault, args = rule.fault, rule.args
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
    """Well-formed, of the right types, and absurd: score 11, week -1, five hundred tasks."""
    if isinstance(value, dict) and "first_step_today" in value:
        week = value["weeks"][0]
        return {**value, "weeks": [{**week, "week": -1, "tasks": week["tasks"][:1] * 500}]}
    if isinstance(value, dict) and "clarity" in value:
        return {**value, "clarity": {**value["clarity"], "score": 11}}
    if isinstance(value, dict) and "phases" in value:
        phase = {**value["phases"][0], "start_week": 40, "end_week": -1}
        return {**value, "phases": [phase]}
    if isinstance(value, dict) and "smart" in value:
        return {**value, "verdict": "goal", "clarified_goal": "", "smart": None}
    return _each_number(value, -1)


def _each_number(value: Any, number: int) -> Any:
    if isinstance(value, dict):
        return {key: _each_number(child, number) for key, child in value.items()}
    if isinstance(value, list):
        return [_each_number(child, number) for child in value]
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    return number if whole else value


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
            usage = Usage(usage.prompt, count_tokens(cut), usage.thoughts)
            return answer_body(ask, text_candidate(cut, "MAX_TOKENS"), usage), usage
        case "safety":
            candidate: Json = {"finishReason": "SAFETY", "safetyRatings": [rating]}
        case "recitation":
            candidate = {"finishReason": "RECITATION"}
        case "prompt_blocked":
            reason = rule.args.get("reason", "SAFETY")
            feedback = {"blockReason": reason, "safetyRatings": [rating]}
            return answer_body(ask, None, none, promptFeedback=feedback), none
        case "unknown_finish_reason":
            candidate = text_candidate(text, "MOON_PHASE")
            return answer_body(ask, candidate, usage), usage
        case "empty_text":
            candidate = text_candidate("")
        case _:
            candidate = {"content": {"role": "model"}, "finishReason": "STOP"}
    return answer_body(ask, candidate, none), none
