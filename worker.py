"""The worker: the one place where everything is wired. Runs until SIGINT or SIGTERM."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import logs
from activities.goals import GoalActivities
from activities.reconcile import ReconcileActivities
from activities.reruns import RerunActivities
from activities.runs import RunActivities
from activities.stage import StageRunner
from client import connect
from db import pool as database
from db.pool import Pool, acquire
from db.prompts import insert_prompt_version
from domain.goals import GoalRequest
from llm.gemini import Gemini
from prompts.library import Prompt, files, parse
from settings import Settings, read_settings
from tracing import TraceContext, attach
from workflows.goals import GoalGenerationWorkflow
from workflows.options import SEARCH_ATTRIBUTES
from workflows.reconcile import ReconcileWorkflow
from workflows.schedules import upsert_schedules
from workflows.starting import start_goal_generation

log = structlog.get_logger()

# Longer than the longest stage, so that a deploy repeats no model call.
GRACE = timedelta(seconds=155)


async def register_prompts(pool: Pool) -> Prompt:
    """Register every prompt file; returns the repair prompt.

    Raises RuntimeError when a file's text changed under a version that is registered already.
    """
    repair: Prompt | None = None
    async with acquire(pool) as conn:
        for file in sorted(files(), key=lambda file: (file.stage, file.version)):
            stored = await insert_prompt_version(
                conn, file.stage, file.version, file.sha256, file.body
            )
            if stored != file.sha256:
                raise RuntimeError(
                    f"prompts/{file.stage}/v{file.version}.md differs from the registered text "
                    f"({stored[:12]}…); put the old text back and write a new version"
                )
            if file.stage == "repair":
                repair = parse(file.stage, file.version, file.body)
    if repair is None:
        raise RuntimeError("prompts/repair has no version")
    return repair


async def register_search_attributes(client: Client) -> None:
    """Add the search attributes that the namespace does not have yet."""
    operator = client.operator_service
    known = await operator.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = {
        key.name: IndexedValueType.ValueType(key.indexed_value_type)
        for key in SEARCH_ATTRIBUTES
        if key.name not in known.custom_attributes
    }
    if not missing:
        return
    try:
        await operator.add_search_attributes(
            AddSearchAttributesRequest(search_attributes=missing, namespace=client.namespace)
        )
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:  # another worker was faster
            raise


def make_worker(
    client: Client, pool: Pool, gemini: Gemini, repair: Prompt, settings: Settings
) -> Worker:
    """Everything that Rein runs, wired."""
    stages = StageRunner(pool, gemini, repair=repair, timeout_s=settings.model_timeout_s)
    goals = GoalActivities(stages)
    monitoring = ReconcileActivities(
        pool, client, project=settings.opik_project, start=_starter(client, settings)
    )
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[GoalGenerationWorkflow, ReconcileWorkflow],
        activities=[
            goals.preprocess,
            goals.generate,
            goals.evaluate,
            goals.plan,
            RerunActivities(pool).take_over,
            RunActivities(pool).complete,
            monitoring.reconcile,
        ],
        # The sandbox imports every workflow module again for each run: a third of the worker's
        # time. workflows/ruff.toml bans what it would catch, the replay tests find the rest.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=settings.max_cached_workflows,
        max_concurrent_activities=200,
        # A dead worker's tasks and activities are given to a living one after two seconds.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        max_heartbeat_throttle_interval=timedelta(seconds=0.5),
        default_heartbeat_throttle_interval=timedelta(seconds=0.5),
        graceful_shutdown_timeout=GRACE,
    )


def _starter(client: Client, settings: Settings) -> Callable[[GoalRequest], Awaitable[None]]:
    async def start(request: GoalRequest) -> None:
        context = TraceContext(
            trace_id=request.trace_id,
            project=settings.opik_project,
            environment=settings.environment,
        )
        with attach(context):
            await start_goal_generation(
                client,
                request,
                task_queue=settings.task_queue,
                trace_url=f"{settings.public_url}/api/traces/{request.trace_id}",
            )

    return start


async def main() -> None:
    """Wire, run, stop."""
    settings = read_settings()
    logs.configure(settings.log_format)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    client = await connect(settings, runtime=_runtime(settings))
    gemini = Gemini(
        api_key=settings.gemini_api_key.get_secret_value(), base_url=settings.gemini_base_url
    )
    async with await database.connect(settings.database_url, size=settings.database_pool) as pool:
        repair = await register_prompts(pool)
        await register_search_attributes(client)
        await upsert_schedules(client, settings.task_queue)
        async with make_worker(client, pool, gemini, repair, settings):
            log.info("worker_started", task_queue=settings.task_queue, model=settings.model)
            await stopped.wait()
            log.info("worker_stopping", grace_s=GRACE.total_seconds())
    await gemini.aclose()


def _runtime(settings: Settings) -> Runtime | None:
    if not settings.worker_metrics:
        return None
    return Runtime(
        telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=settings.worker_metrics))
    )


if __name__ == "__main__":
    asyncio.run(main())
