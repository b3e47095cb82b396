"""What a rerun is made of: the earlier run's words and manifest, but for what is changed."""

import re
from uuid import UUID

from api.runs import NewRun, unknown_run
from db.pool import Connection
from db.prompts import select_prompt
from db.results import select_report
from domain.errors import InvalidRequest, NotReady
from domain.goals import Rerun, RerunSubmission
from domain.results import GoalReport, redone_stages
from domain.runs import FINAL_STATUSES, Manifest, PromptRef, Stage

# Which models there are is the provider's to say; a name that is none is refused here already.
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


async def repeat(
    conn: Connection, trace_id: UUID, submission: RerunSubmission, key: str | None
) -> NewRun:
    """Raises NotFound, NotReady (under way, or it never came that far) or InvalidRequest."""
    source = await select_report(conn, trace_id)
    if source is None:
        raise unknown_run(trace_id)
    _check_stored(source, submission.from_stage)
    return NewRun(
        user_id=source.user_id,
        goal=source.goal,
        locale=source.locale,
        context=source.context,
        manifest=await _manifest(conn, source.manifest, submission),
        rerun=Rerun(source_trace_id=trace_id, from_stage=submission.from_stage),
        idempotency_key=key,
        body=submission.model_dump_json(),
    )


def _check_stored(source: GoalReport, from_stage: Stage) -> None:
    if source.status not in FINAL_STATUSES:
        raise NotReady(
            f"the run is {source.status}; only an ended run can be repeated",
            cure="wait for its end, or cancel it first",
        )
    clarified = source.clarified_goal is not None and source.clarified_goal.verdict == "goal"
    if from_stage == "generate" and not clarified:
        raise NotReady(
            "the run has no clarified goal to generate from", cure="rerun from 'preprocess'"
        )
    if from_stage in ("evaluate", "plan") and not (clarified and source.resolution):
        raise NotReady(
            f"the run has no resolution to {from_stage}",
            cure=f"rerun from {'generate' if clarified else 'preprocess'!r}",
        )


async def _manifest(conn: Connection, old: Manifest, submission: RerunSubmission) -> Manifest:
    if submission.model is not None and not _MODEL_NAME.fullmatch(submission.model):
        raise InvalidRequest(
            f"body.model: expected a model's name, came {submission.model!r}",
            cure="send a name as in 'gemini-3.5-flash-lite', or leave it out",
        )
    redone = redone_stages(submission.from_stage)
    changed: dict[Stage, PromptRef] = {}
    for stage, version in submission.prompts.items():
        if stage not in redone:
            raise InvalidRequest(
                f"body.prompts.{stage}: a rerun from {submission.from_stage!r} does not repeat it",
                cure=f"name only stages that are done again: {', '.join(sorted(redone))}",
            )
        changed[stage] = await _prompt(conn, stage, version)
    return old.model_copy(
        update={"model": submission.model or old.model, "prompts": old.prompts | changed}
    )


async def _prompt(conn: Connection, stage: Stage, version: int) -> PromptRef:
    found = await select_prompt(conn, stage, version) if 1 <= version < 2**31 else None
    if found is None:
        raise InvalidRequest(
            f"body.prompts.{stage}: there is no version {version}",
            cure="name a registered version; a run's manifest shows those in use",
        )
    return found
