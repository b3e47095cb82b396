"""One LLM stage: render, ask, parse, record. The single meeting point of prompts, llm, tracing, db.

The order is what makes it safe to be killed at any line: a call is reserved in the spend ledger
before it is made, its raw answer is stored before it is parsed, and the result, its event and its
spans are stored in one transaction. A retry that finds the stored answer does not ask again.
"""

import asyncio

from temporalio.exceptions import ApplicationError

from activities.attempt import Attempt
from activities.beat import beating
from activities.task import D, R, Task
from db.pool import Pool, acquire
from db.prompts import select_prompt_body
from domain.runs import PromptRef
from llm.gemini import Gemini
from prompts.library import Prompt, parse


class StageRunner:
    """Runs stages; holds what they need from the world."""

    def __init__(self, pool: Pool, gemini: Gemini, *, repair: Prompt, timeout_s: float) -> None:
        self._pool = pool
        self._gemini = gemini
        self._repair = repair
        self._timeout_s = timeout_s
        self._prompts: dict[PromptRef, Prompt] = {}

    async def run(self, task: Task[D, R]) -> R:
        """One attempt of one stage.

        Raises ApplicationError with the error's code as its type: retryable, with the wait that
        the provider asked for, or not.
        """
        prompt = await self._prompt(task.prompt)
        attempt = Attempt(task, prompt, self._repair, self._pool, self._gemini, self._timeout_s)
        try:
            async with beating():
                return await attempt.record(await attempt.obtain())
        except asyncio.CancelledError:
            await asyncio.shield(attempt.cut())
            raise
        except Exception as error:
            raise await attempt.fail(error) from error

    async def _prompt(self, ref: PromptRef) -> Prompt:
        if ref not in self._prompts:
            async with acquire(self._pool) as conn:
                body = await select_prompt_body(conn, ref)
            if body is None:
                raise ApplicationError(
                    f"Prompt {ref.stage} v{ref.version} ({ref.sha256[:12]}…) is not registered; "
                    "start a worker that has it, then rerun",
                    type="PROMPT_MISSING",
                    non_retryable=True,
                )
            self._prompts[ref] = parse(ref.stage, ref.version, body)
        return self._prompts[ref]
