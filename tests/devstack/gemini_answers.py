"""A goal on its way through the model stand-in's writer, as Rein would send it."""

import json
from datetime import date
from typing import TypeVar

from pydantic import BaseModel

from devstack.gemini.answers import writer
from devstack.gemini.protocol import find_model, parse_ask
from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft, plan_weeks
from domain.resolutions import ResolutionDraft

M = TypeVar("M", bound=BaseModel)
TODAY = date(2026, 11, 25)


def answer(schema: type[M], **parts: object) -> M:
    """What is answered to a prompt of these delimited parts."""
    user = "\n".join(f"<{name}>\n{value}\n</{name}>" for name, value in parts.items())
    config = {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema.model_json_schema(),
    }
    body = {"contents": [{"parts": [{"text": user}]}], "generationConfig": config}
    ask = parse_ask(find_model("gemini-2.0-flash"), json.dumps(body).encode())
    return schema.model_validate(writer.write(ask))


class Goal:
    """A goal with its context, and the answers of the four stages."""

    def __init__(self, text: str, context: str = "none given", today: date = TODAY) -> None:
        self.today = today
        self.context = context
        self.clarified = answer(ClarifiedGoalDraft, today=today, goal=text, context=context)
        self.weeks = plan_weeks(today, self.clarified.deadline)

    def resolution(self, revision: str = "") -> ResolutionDraft:
        return answer(ResolutionDraft, **self._parts(), revision=revision)

    def revised(self) -> ResolutionDraft:
        """The resolution, sent back with the suggestions for it."""
        first = self.resolution()
        wishes = "\n".join(f"- {wish}" for wish in self.evaluation(first).suggestions)
        return self.resolution(f"{first.model_dump_json()}\n\nSuggestions:\n{wishes}")

    def evaluation(self, resolution: ResolutionDraft) -> EvaluationDraft:
        return answer(EvaluationDraft, resolution=resolution.model_dump_json())

    def overall(self, resolution: ResolutionDraft) -> float:
        marks = self.evaluation(resolution).scores().values()
        return sum(mark.score for mark in marks) / 4

    def plan(self) -> PlanDraft:
        resolution = self.resolution().model_dump_json()
        return answer(PlanDraft, **self._parts(), resolution=resolution)

    def texts(self) -> list[str]:
        """Everything that is said about the goal, one JSON text for each stage."""
        return [
            model.model_dump_json() for model in (self.clarified, self.resolution(), self.plan())
        ]

    def _parts(self) -> dict[str, object]:
        goal = self.clarified.model_dump_json()
        return {
            "today": self.today,
            "weeks": self.weeks,
            "clarified_goal": goal,
            "context": self.context,
        }
