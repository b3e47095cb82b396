"""A live probe: does this Temporal server obey the flags that Rein's promises rest on?"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeTaskQueueRequest,
    PauseWorkflowExecutionRequest,
)
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from devstack.doctor.finding import Finding
from devstack.doctor.probe_runs import Ask, HeldWorkflow, HopsWorkflow, Order, QueueWorkflow
from devstack.temporal import SEARCH_ATTRIBUTES

HOPS, WARM_UP = 20, 3
# Untuned, a hop waits for one or two ticks of 50 ms; obeying, it takes 3 to 20 ms.
SLOW_HOP_S = 0.040
UPDATES = 12
# By default a namespace may ask for 10 lists and counts a second.
LISTS = 30
LIMIT = timedelta(seconds=60)
FLAGS = "start the server with the dynamic config of devstack/temporal.py"


async def probe(client: Client) -> list[Finding]:
    """About three seconds. Every check has a task queue of its own and leaves no open run."""
    checks: dict[str, Callable[[Client, str], Awaitable[Finding]]] = {
        "hand-offs": _hops,
        "priority": _priority,
        "fairness": _fairness,
        "updates": _updates,
        "pause": _pause,
        "lists": _lists,
        "search attributes": _search_attributes,
    }
    found = []
    for name, check in checks.items():
        queue = f"rein-doctor-{name}-{uuid4().hex[:8]}"
        try:
            async with asyncio.timeout(30):
                found.append(await check(client, queue))
        except (TimeoutError, RPCError) as error:
            text = f"the probe did not end: {error or 'no answer in 30 s'}"
            found.append(Finding("missing", f"Temporal {name}", text, FLAGS))
    return found


def _worker(client: Client, queue: str, order: Order | None, *, one: bool = False) -> Worker:
    """`one`: takes a single activity at a time, so that the server's order shows."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[HopsWorkflow, QueueWorkflow, HeldWorkflow] if not one else [],
        activities=[order.note] if order else [],
        workflow_runner=UnsandboxedWorkflowRunner(),
        # An eager activity skips the queue, which is what is measured here.
        disable_eager_activity_execution=True,
        max_concurrent_activities=1 if one else 10,
        max_concurrent_activity_task_polls=1 if one else 5,
    )


async def _hops(client: Client, queue: str) -> Finding:
    order = Order()
    async with _worker(client, queue, order):
        for _ in range(WARM_UP + 1):  # the first runs are fast by burst
            hops = await client.execute_workflow(
                HopsWorkflow.run, HOPS, id=queue + uuid4().hex[:4], task_queue=queue,
                execution_timeout=LIMIT,
            )  # fmt: skip
    median = statistics.median(hops[HOPS // 2 :])
    text = f"{median * 1000:.0f} ms an activity, without a tick to wait for"
    if median < SLOW_HOP_S:
        return Finding("ok", "Temporal hand-offs", text)
    text = f"{median * 1000:.0f} ms an activity: it waits for ticks of 50 ms"
    cure = "history.transferProcessorMaxPollRPS=2000 (on a busy machine, try again first)"
    return Finding("missing", "Temporal hand-offs", text, cure)


async def _queued(client: Client, queue: str, asks: list[Ask]) -> list[str]:
    """The order in which the server hands out activities that wait all together."""
    order = Order()
    async with _worker(client, queue, None):
        run = await client.start_workflow(
            QueueWorkflow.run, asks, id=queue, task_queue=queue, execution_timeout=LIMIT
        )
        await _backlog(client, queue, len(asks))
        async with _worker(client, queue, order, one=True):
            await run.result()
    return order.names


async def _backlog(client: Client, queue: str, size: int) -> None:
    """Waits until that many activities stand in the queue."""
    # The server keeps its first answer for five seconds, so it is asked when it should be right.
    await asyncio.sleep(0.5)
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_stats=True,
    )
    while True:
        answer = await client.workflow_service.describe_task_queue(request)
        if answer.stats.approximate_backlog_count >= size:
            return
        await asyncio.sleep(0.5)  # the server has no call that waits for this


async def _priority(client: Client, queue: str) -> Finding:
    asks = [Ask(str(n * 7 % 5 + 1), priority=n * 7 % 5 + 1) for n in range(20)]
    names = await _queued(client, queue, asks)
    if names == sorted(names):
        return Finding("ok", "Temporal priority", f"{len(names)} tasks came in exact order")
    cure = "matching.numTaskqueue(Read|Write)Partitions=1 and matching.enableFairness=true"
    return Finding("missing", "Temporal priority", f"out of order: {' '.join(names)}", cure)


async def _fairness(client: Client, queue: str) -> Finding:
    asks = [Ask("a", fairness_key="a") for _ in range(12)]
    asks += [Ask("b", fairness_key="b") for _ in range(4)]
    names = await _queued(client, queue, asks)
    turns = "".join(names)
    # One of each in every round; who comes first within a round is chance.
    if all(set(turns[n : n + 2]) == {"a", "b"} for n in (0, 2, 4, 6)):
        return Finding("ok", "Temporal fairness", f"two tenants took turns: {turns}")
    cure = "matching.enableFairness=true"
    return Finding("missing", "Temporal fairness", f"the second tenant waited: {turns}", cure)


async def _updates(client: Client, queue: str) -> Finding:
    async with _worker(client, queue, None):
        run = await _held(client, queue)
        accepted = 0
        try:
            async with asyncio.timeout(5):
                for _ in range(UPDATES):
                    await run.start_update(
                        HeldWorkflow.hold, wait_for_stage=WorkflowUpdateStage.ACCEPTED
                    )
                    accepted += 1
        except (TimeoutError, RPCError, WorkflowUpdateRPCTimeoutOrCancelledError):
            cure = "history.maxInFlightUpdates=100"
            text = f"refused after {accepted} in flight"
            return Finding("missing", "Temporal updates", text, cure)
        finally:
            await run.signal(HeldWorkflow.finish)
        await run.result()
    return Finding("ok", "Temporal updates", f"{accepted} in flight at once were accepted")


async def _pause(client: Client, queue: str) -> Finding:
    run = await _held(client, queue)
    try:
        await client.workflow_service.pause_workflow_execution(
            PauseWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_id=run.id,
                identity="rein doctor",
                reason="probe",
                request_id=uuid4().hex,
            )
        )
    except RPCError as error:
        cure = "frontend.WorkflowPauseEnabled=true"
        return Finding("missing", "Temporal pause", f"refused: {error.message}", cure)
    finally:
        await run.terminate("end of the probe")
    return Finding("ok", "Temporal pause", "a run can be paused and resumed")


async def _lists(client: Client, queue: str) -> Finding:
    request = CountWorkflowExecutionsRequest(
        namespace=client.namespace, query=f"TaskQueue = '{queue}'"
    )
    counts = await asyncio.gather(
        *(client.workflow_service.count_workflow_executions(request) for _ in range(LISTS)),
        return_exceptions=True,
    )
    refused = sum(isinstance(each, RPCError) for each in counts)
    if not refused:
        return Finding("ok", "Temporal lists", f"{LISTS} at once were answered")
    cure = "frontend.namespaceRPS.visibility=50"
    text = f"{refused} of {LISTS} lists or counts at once were refused"
    return Finding("missing", "Temporal lists", text, cure)


async def _search_attributes(client: Client, queue: str) -> Finding:
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    if not missing:
        return Finding(
            "ok", "Temporal search attributes", f"all {len(SEARCH_ATTRIBUTES)} are there"
        )
    words = " ".join(f"--name {name} --type {SEARCH_ATTRIBUTES[name]}" for name in missing)
    text = f"without {', '.join(missing)} it refuses to start runs"
    cure = f"start a worker, which adds them, or: temporal operator search-attribute create {words}"
    return Finding("missing", "Temporal search attributes", text, cure)


async def _held(client: Client, queue: str) -> WorkflowHandle[HeldWorkflow, None]:
    return await client.start_workflow(
        HeldWorkflow.run, id=queue, task_queue=queue, execution_timeout=LIMIT
    )
