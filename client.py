"""Connects to Temporal and starts the workflows of runs, for the API and the worker."""

from datetime import timedelta
from typing import NamedTuple, Self

import structlog
from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from db.events import append_refused_start
from db.pool import Pool, transaction
from domain.errors import Unavailable
from domain.runs import RunRequest, run_path, workflow_id
from domain.text import as_markdown
from settings import Settings
from tracing import TraceContext, TracingPlugin, attach
from workflows.kinds import KINDS
from workflows.options import KIND, MODEL, PROMPTS, STAGE, STATUS, TENANT, TRACE, USER
from workflows.runs import list_cost

log = structlog.get_logger()

INTERACTIVE = Priority(priority_key=1)

# With these statuses Temporal has answered and refused the start, for example because the namespace
# or a search attribute is missing. An operator has to correct the cause.
_REFUSALS = frozenset(
    (
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNIMPLEMENTED,
    )
)

# Names of trace metadata that never contain a person's words. Their values are sent to Opik
# unchanged, whatever REIN_TRACE_TEXT says.
PLAIN_METADATA = (
    "accepted_at",
    "cost_input_usd",
    "cost_output_usd",
    "draft",
    "locale",
    "manifest",
    "model_version",
    "notice",
    "prompt",
    "prompt_sha256",
    "quality_status",
    "refusal_code",
    "rerun",
    "tenant",
    "run_url",
    "user_id",
    "workflow_id",
    "workflow_url",
)


async def connect(
    settings: Settings, *, runtime: Runtime | None = None, lazy: bool = False
) -> Client:
    """Return a Temporal client with Rein's data converter and tracing plugin.

    The SDK reads TLS, API key and similar options from its own environment variables, such as
    TEMPORAL_TLS and TEMPORAL_API_KEY. A `lazy` client connects when it is first used.
    """
    config = ClientConfig.load_client_connect_config()
    config["target_host"] = settings.temporal_address
    config["namespace"] = settings.temporal_namespace
    return await Client.connect(
        **config,
        data_converter=pydantic_data_converter,
        plugins=[
            TracingPlugin(
                project=settings.opik_project,
                environment=settings.environment,
                untraced=("ReconcileWorkflow",),
                text=settings.trace_text,
                text_key=settings.pseudonym_key.get_secret_value(),
                plain_metadata=PLAIN_METADATA,
                closed=list_cost,
            )
        ],
        runtime=runtime,
        lazy=lazy,
    )


class StartOptions(NamedTuple):
    """Options for starting workflows, which are the same for every run of an installation."""

    task_queue: str
    project: str
    environment: str
    public_url: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            task_queue=settings.task_queue,
            project=settings.opik_project,
            environment=settings.environment,
            public_url=settings.public_url.rstrip("/"),
        )


async def start_run(client: Client, request: RunRequest, options: StartOptions) -> None:
    """Start the workflow of the run that `request` describes.

    A repeated start of the same run has no effect. Raises RPCError when Temporal refuses or cannot
    be reached, and RuntimeError when a lazy client cannot connect.
    """
    trace_url = f"{options.public_url}{run_path(request.trace_id)}/trace"
    context = TraceContext(
        trace_id=request.trace_id, project=options.project, environment=options.environment
    )
    try:
        with attach(context):
            await client.start_workflow(
                KINDS[request.kind].run,
                request,
                id=workflow_id(request.kind, request.trace_id),
                task_queue=options.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                # Temporal gives a workflow task to another worker if the first one does not
                # complete the task within this time, for example because that worker died.
                task_timeout=timedelta(seconds=2),
                rpc_timeout=timedelta(seconds=3),
                search_attributes=_search_attributes(request),
                memo={
                    "trace_id": str(request.trace_id),
                    "trace_url": trace_url,
                    "manifest": request.manifest,
                },
                static_summary=f"{as_markdown(request.about)} · {request.user}",
                static_details=_details(request, trace_url),
                priority=INTERACTIVE,
            )
    except WorkflowAlreadyStartedError:
        # The workflow was started before and has ended, so there is nothing left to start.
        return


async def start_accepted(
    client: Client, request: RunRequest, options: StartOptions, pool: Pool
) -> None:
    """Start an accepted run. If Temporal refuses, store an event that tells the caller why.

    Raises what `start_run` raises. The reconciler retries even a refused start, because an operator
    may have corrected the cause.
    """
    try:
        await start_run(client, request, options)
    except RPCError as error:
        if error.status in _REFUSALS:
            await _tell(pool, request, error.status.name, error.message[:300])
        raise


async def _tell(pool: Pool, request: RunRequest, status: str, why: str) -> None:
    log.error("start_refused", trace_id=str(request.trace_id), status=status, why=why)
    try:
        async with transaction(pool, request.tenant) as conn:
            await append_refused_start(conn, request.trace_id, status, why)
    except Unavailable as error:
        log.warning("start_refused_untold", trace_id=str(request.trace_id), error=error.detail)


def _search_attributes(request: RunRequest) -> TypedSearchAttributes:
    prompts = [f"{stage}:v{ref.version}" for stage, ref in request.manifest.prompts.items()]
    return TypedSearchAttributes(
        [
            SearchAttributePair(KIND, request.kind),
            SearchAttributePair(TENANT, request.tenant),
            SearchAttributePair(USER, request.user),
            SearchAttributePair(STATUS, "running"),
            SearchAttributePair(STAGE, ["accepted"]),
            SearchAttributePair(MODEL, request.manifest.model),
            SearchAttributePair(PROMPTS, prompts),
            SearchAttributePair(TRACE, str(request.trace_id)),
        ]
    )


def _details(request: RunRequest, trace_url: str) -> str:
    rerun = request.rerun
    again = f"\n- Repeats {rerun.source_trace_id} from {rerun.from_stage}" if rerun else ""
    return (
        f"- About: {as_markdown(request.about)}\n"
        f"- For: `{request.user}` of `{request.tenant}`\n"
        f"- Trace: [{request.trace_id}]({trace_url}){again}\n"
    )
