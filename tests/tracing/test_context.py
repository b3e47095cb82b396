"""The context: one header, and the same derivation everywhere without one."""

from datetime import UTC, datetime
from uuid import UUID

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadConverter

from tracing import TraceContext, attach
from tracing.context import HEADER, Root, attached, derived, from_headers, to_headers
from tracing.ids import timestamp_of

TRACE = UUID("01a20bbf-bab5-70ee-ab6b-e1850a3be56f")
AT = datetime(2026, 11, 24, tzinfo=UTC)


def _derived(workflow_id: str, first_run_id: str, at: datetime = AT) -> TraceContext:
    root = Root(name="W", workflow_id=workflow_id, run_id="r", started_at=at)
    return derived(
        root, namespace="default", first_run_id=first_run_id, project="p", environment=None
    )


def test_the_header_brings_back_what_went_in_and_keeps_others() -> None:
    context = TraceContext(trace_id=TRACE, project="p", thread_id="t", owner="w")
    headers = to_headers(context, {"other": Payload(data=b"1")})
    assert from_headers(headers) == context
    assert headers["other"].data == b"1"


def test_a_later_version_may_add_fields() -> None:
    carried = {"v": 2, "trace_id": str(TRACE), "project": "p", "new": 1}
    headers = {HEADER: PayloadConverter.default.to_payload(carried)}
    context = from_headers(headers)
    assert context is not None
    assert context.trace_id == TRACE


def test_no_header_no_context() -> None:
    assert from_headers({}) is None


def test_a_workflow_id_that_ends_in_a_trace_id_names_it() -> None:
    assert _derived(f"goal_generation-{TRACE}", "run").trace_id == TRACE


def test_other_workflow_ids_get_an_id_of_their_first_run() -> None:
    one = _derived("nightly", "run-1")
    assert one.trace_id == _derived("nightly", "run-1").trace_id
    assert one.trace_id != _derived("nightly", "run-2").trace_id
    assert timestamp_of(one.trace_id) == AT


def test_a_retried_run_keeps_the_trace_of_the_first_one() -> None:
    later = datetime(2026, 11, 25, tzinfo=UTC)
    first = "01a20bbf-ba94-70ec-8d85-92370564e19b"
    assert _derived("n", first).trace_id == _derived("n", first, later).trace_id


def test_attach_ends_with_its_block() -> None:
    with attach(TraceContext(trace_id=TRACE, project="p")):
        assert attached() is not None
    assert attached() is None
