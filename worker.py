"""The worker process: runs workflows and activities until SIGINT or SIGTERM.

This module creates all objects that the workflows and activities need, and connects them.
"""

import asyncio
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

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
from activities.metrics import BUCKETS, Metrics
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

# At shutdown the worker lets running activities finish for this long. An activity makes at most two
# model calls of a minute each, so a deployment interrupts no call that would have to be repeated.
GRACE = timedelta(seconds=155)


async def register_prompts(pool: Pool) -> Prompt:
    """Store every prompt file in PostgreSQL, and return the newest repair prompt.

    Raises RuntimeError when a file differs from the text that is stored under its version, or when
    there is no repair prompt.
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
    """Add those of Rein's search attributes that the Temporal namespace does not have yet."""
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
        # Another worker may have added the same search attributes at the same time.
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            raise


def make_worker(
    client: Client,
    pools: Pools,
    gemini: Gemini,
    repair: Prompt,
    settings: Settings,
    me: WorkerRow,
    metrics: Metrics | None = None,
) -> Worker:
    """Build the Temporal worker with all workflows and activities of Rein."""
    stages = StageRunner(
        pools.application,
        gemini,
        repair=repair,
        timeout_s=settings.model_timeout_s,
        worker_id=me.worker_id,
        metrics=metrics,
    )
    return Worker(
        client,
        identity=me.identity,
        task_queue=settings.task_queue,
        workflows=[*(kind.workflow for kind in KINDS.values()), ReconcileWorkflow],
        activities=_activities(client, pools, stages, settings, metrics),
        # The SDK's sandbox would import all workflow modules again for each run, which took a third
        # of the worker's time. Instead, workflows/ruff.toml forbids non-deterministic calls, and
        # the replay tests find what the linter misses.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=settings.max_cached_workflows,
        max_concurrent_activities=200,
        # Temporal first offers a workflow task to the worker that has the workflow in its cache. If
        # that worker does not take the task within this time, for example because it died, Temporal
        # gives the task to any worker.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        # An activity learns of its cancellation from Temporal's answer to a heartbeat. With these
        # intervals the SDK sends every heartbeat at once instead of holding it back.
        max_heartbeat_throttle_interval=timedelta(seconds=HEARTBEAT_INTERVAL_S),
        default_heartbeat_throttle_interval=timedelta(seconds=HEARTBEAT_INTERVAL_S),
        graceful_shutdown_timeout=GRACE,
    )


def _activities(
    client: Client,
    pools: Pools,
    stages: StageRunner,
    settings: Settings,
    metrics: Metrics | None,
) -> list[Callable[..., Any]]:
    goals = GoalActivities(stages)
    finish = {name: kind.finish for name, kind in KINDS.items()}
    options = StartOptions.of(settings)

    async def start(stored: StoredRequest) -> None:
        request = KINDS[stored.kind].request.model_validate(stored.body)
        await start_accepted(client, request, options, pools.application)

    reconcile = ReconcileActivities(
        pools.operations,
        client,
        project=settings.opik_project,
        start=start,
        finish=finish,
        metrics=metrics,
    )
    return [
        goals.preprocess,
        goals.generate,
        goals.evaluate,
        goals.plan,
        RerunActivities(pools.application).take_over,
        RunActivities(pools.operations, finish, metrics).complete,
        reconcile.reconcile,
    ]


async def main() -> None:
    """Connect to Temporal and PostgreSQL, and run the worker until a signal stops it."""
    settings = read_settings()
    logs.configure(settings.log_format)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    runtime = _runtime(settings)
    client = await connect(settings, runtime=runtime)
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
        metrics = Metrics(runtime.metric_meter) if runtime else None
        worker = make_worker(client, pools, gemini, repair, settings, me, metrics)
        async with watch.watching(), worker:
            log.info("worker_started", task_queue=settings.task_queue, model=settings.model)
            await stopped.wait()
            log.info("worker_stopping", grace_s=GRACE.total_seconds())
    await gemini.aclose()


def telemetry(address: str) -> TelemetryConfig:
    """Return how the worker serves its own metrics and those of Temporal's SDK."""
    page = PrometheusConfig(
        bind_address=address,
        # Without these, names have no units, and durations are in milliseconds.
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=BUCKETS,
    )
    return TelemetryConfig(metrics=page, attach_service_name=False)


def _runtime(settings: Settings) -> Runtime | None:
    if not settings.worker_metrics:
        return None
    return Runtime(telemetry=telemetry(settings.worker_metrics))


if __name__ == "__main__":
    asyncio.run(main())
