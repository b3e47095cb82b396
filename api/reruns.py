"""Accepts reruns, which repeat an earlier run from one of its stages.

A rerun has the request and the manifest of the earlier run, with the changes in the body applied.
"""

import re
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.accepting import Accepted, Origin, Sent, accept, find_replayed, request_of, unknown_run
from api.deps import Services
from db.pool import Connection
from db.prompts import select_prompt
from db.results import select_run
from db.runs import select_request
from domain.callers import Caller
from domain.errors import InvalidRequest, NotReady
from domain.runs import FINAL_STATUSES, Manifest, PromptRef, RunRequest, Stage, day_of
from workflows.kinds import KINDS, Kind

# Only the provider knows which models exist. This pattern rejects texts that cannot be the name of
# a model.
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class RerunSubmission(BaseModel):
    """The body of `POST /api/runs/{trace_id}/rerun`.

    The body names the stage to start from, and may change the model and prompt versions. The
    earlier run and its results are kept.
    """

    model_config = ConfigDict(extra="forbid")

    from_stage: Stage = Field(
        max_length=40,
        description="The first stage that is done again; earlier results are taken over",
    )
    model: str | None = Field(
        default=None, max_length=100, description="Another model for the stages done again"
    )
    prompts: dict[Stage, int] | None = Field(
        default=None, max_length=20, description="Other prompt versions, by stage"
    )


async def repeat(
    services: Services,
    caller: Caller,
    trace_id: UUID,
    submission: RerunSubmission,
    sent: Sent,
) -> Accepted:
    """Accept a new run that repeats the run `trace_id`.

    Raises NotFound when the tenant has no such run, NotReady when it has not ended or never reached
    the stage, DeadlinePassed when the goal's deadline is over, InvalidRequest for a wrong stage,
    model or prompt version, and what `find_replayed` and `accept` raise.
    """
    async with services.transaction(caller) as conn:
        source = await select_run(conn, caller.tenant, trace_id)
        stored = await select_request(conn, caller.tenant, trace_id)
        if source is None or stored is None:
            raise unknown_run(trace_id)
        origin = Origin.new(services, caller, source.user_id)
        replayed = await find_replayed(conn, origin, sent)
        if replayed:
            return replayed
        if source.status not in FINAL_STATUSES:
            raise NotReady(
                f"the run is {source.status}; only an ended run can be repeated",
                cure="wait for its end, or cancel it first",
            )
        kind, earlier = KINDS[source.kind], request_of(stored)
        _check_stage(kind, submission.from_stage)
        request = await _request(conn, kind, earlier, origin, submission)
        return await accept(
            conn,
            services,
            origin,
            request,
            goal_id=source.goal_id,
            input={"repeats": str(trace_id), "from_stage": submission.from_stage},
        )


def _check_stage(kind: Kind, from_stage: Stage) -> None:
    names = kind.stage_names()
    if from_stage not in names:
        raise InvalidRequest(
            f"body.from_stage: expected one of {', '.join(names)}; came {from_stage!r}",
            cure="name a stage of the run that is repeated",
        )


async def _request(
    conn: Connection,
    kind: Kind,
    earlier: RunRequest,
    origin: Origin,
    submission: RerunSubmission,
) -> RunRequest:
    """Copy the earlier run's request for the new run.

    The copy has a new trace id, today's date, the new manifest, and the ids of the earlier results
    that the new run uses.
    """
    today = day_of(origin.at, earlier.time_zone)
    return earlier.model_copy(
        update={
            "trace_id": origin.trace_id,
            "today": today,
            "manifest": await _manifest(conn, kind, earlier.manifest, submission),
            "rerun": await kind.repeat(conn, earlier, submission.from_stage, today),
        }
    )


async def _manifest(
    conn: Connection, kind: Kind, old: Manifest, submission: RerunSubmission
) -> Manifest:
    if submission.model is not None and not _MODEL_NAME.fullmatch(submission.model):
        raise InvalidRequest(
            f"body.model: expected a model's name, came {submission.model!r}",
            cure="send a name as in 'gemini-3.5-flash-lite', or leave it out",
        )
    redone = kind.redone_from(submission.from_stage)
    changed: dict[Stage, PromptRef] = {}
    for stage, version in (submission.prompts or {}).items():
        if stage not in redone:
            raise InvalidRequest(
                f"body.prompts: a rerun from {submission.from_stage!r} does not repeat {stage!r}",
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
