"""The worker: the one place where everything is wired. Runs until SIGINT or SIGTERM."""

import asyncio
import signal
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
from activities.stage import HEARTBEAT_INTERVAL_S, StageRunner
from activities.workers import WorkerWatch, this_worker
from client import StartOptions, connect, start_accepted
from db.pool import Pool, Pools, acquire
from db.prompts import insert_prompt_version
from db.runs import StoredRequest
from db.workers import WorkerRow
from llm.gemini import Gemini
from prompts.library import Prompt, files, parse
from settings import Settings, read_settings
from workflows.kinds import KINDS
from workflows.options import SEARCH_ATTRIBUTES
from workflows.reconcile import ReconcileWorkflow
from workflows.schedules import upsert_schedules

log = structlog.get_logger()

# Longer than two model calls of a minute, so that a deploy repeats none.
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
    client: Client,
    pools: Pools,
    gemini: Gemini,
    repair: Prompt,
    settings: Settings,
    me: WorkerRow,
) -> Worker:
    """Everything that Rein runs, wired."""
    stages = StageRunner(
        pools.application,
        gemini,
        repair=repair,
        timeout_s=settings.model_timeout_s,
        worker_id=me.worker_id,
    )
    goals = GoalActivities(stages)
    finish = {name: kind.finish for name, kind in KINDS.items()}
    options = StartOptions.of(settings)

    async def start(stored: StoredRequest) -> None:
        request = KINDS[stored.kind].request.model_validate(stored.body)
        await start_accepted(client, request, options, pools.application)

    reconcile = ReconcileActivities(
        pools.operations, client, project=settings.opik_project, start=start, finish=finish
    )
    return Worker(
        client,
        identity=me.identity,
        task_queue=settings.task_queue,
        workflows=[*(kind.workflow for kind in KINDS.values()), ReconcileWorkflow],
        activities=[
            goals.preprocess,
            goals.generate,
            goals.evaluate,
            goals.plan,
            RerunActivities(pools.application).take_over,
            RunActivities(pools.operations, finish).complete,
            reconcile.reconcile,
        ],
        # The sandbox imports every workflow module again for each run: a third of the worker's
        # time. workflows/ruff.toml bans what it would catch, the replay tests find the rest.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=settings.max_cached_workflows,
        max_concurrent_activities=200,
        # A dead worker's workflow tasks are given to a living one after this.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        # Every beat is sent, because cancellation is heard of with the answer.
        max_heartbeat_throttle_interval=timedelta(seconds=HEARTBEAT_INTERVAL_S),
        default_heartbeat_throttle_interval=timedelta(seconds=HEARTBEAT_INTERVAL_S),
        graceful_shutdown_timeout=GRACE,
    )


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
    async with Pools.connected(
        settings.database_url, size=settings.database_pool, name="rein worker"
    ) as pools:
        repair, me = await register_prompts(pools.operations), this_worker()
        await register_search_attributes(client)
        await upsert_schedules(client, settings.task_queue)
        watch = WorkerWatch(settings.database_url, pools.operations, client, me)
        worker = make_worker(client, pools, gemini, repair, settings, me)
        async with watch.watching(), worker:
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
