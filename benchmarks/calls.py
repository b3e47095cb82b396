"""The work that every contestant does: four model calls with Rein's own prompts, four rows."""

from datetime import date
from uuid import UUID, uuid4

import asyncpg
from pydantic import BaseModel

from domain.evaluations import EvaluationDraft
from domain.goals import ClarifiedGoalDraft
from domain.plans import PlanDraft
from domain.resolutions import ResolutionDraft
from llm.answers import take_apart
from llm.gemini import Gemini, ModelCall
from llm.parsing import read
from prompts.library import Prompt, files, parse, render

GOAL = "I want to run a 5K by end of Q1"
TODAY = date(2026, 11, 24)
WEEKS = "19"
MODEL = "gemini-2.0-flash"
PROMPTS: dict[str, Prompt] = {
    file.stage: parse(file.stage, file.version, file.body) for file in files()
}
COMMON = {"locale": "en", "context": "none given", "today": TODAY.isoformat()}

TABLE = """
CREATE TABLE IF NOT EXISTS bench_results (
    run uuid NOT NULL, stage text NOT NULL, body text NOT NULL, PRIMARY KEY (run, stage)
)
"""


async def ask(gemini: Gemini, stage: str, data: dict[str, str], schema: type[BaseModel]) -> str:
    """One stage: rendered, asked, parsed; the result as JSON."""
    prompt = PROMPTS[stage]
    rendered = render(prompt, data)
    call = ModelCall(
        model=MODEL,
        system=rendered.system,
        user=rendered.user,
        schema=schema,
        temperature=prompt.temperature,
        max_output_tokens=prompt.max_output_tokens,
        thinking_budget=prompt.thinking_budget,
        timeout_s=60,
    )
    return read(take_apart(await gemini.ask(call)), schema).model_dump_json()


async def preprocess(gemini: Gemini) -> str:
    return await ask(gemini, "preprocess", {"goal": GOAL, **COMMON}, ClarifiedGoalDraft)


async def generate(gemini: Gemini, goal: str) -> str:
    data = {"clarified_goal": goal, "weeks": WEEKS, "revision": "", **COMMON}
    return await ask(gemini, "generate", data, ResolutionDraft)


async def evaluate(gemini: Gemini, resolution: str) -> str:
    return await ask(
        gemini, "evaluate", {"resolution": resolution, "locale": "en"}, EvaluationDraft
    )


async def plan(gemini: Gemini, goal: str, resolution: str) -> str:
    data = {"clarified_goal": goal, "resolution": resolution, "weeks": WEEKS, **COMMON}
    return await ask(gemini, "plan", data, PlanDraft)


async def store(pool: "asyncpg.Pool", run: UUID, stage: str, body: str) -> None:
    """One row, written once."""
    await pool.execute(
        "INSERT INTO bench_results (run, stage, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        run,
        stage,
        body,
    )


def new_run() -> UUID:
    return uuid4()
