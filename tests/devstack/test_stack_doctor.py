"""The doctor's probe tells a server with the stack's flags from one without, flag by flag."""

from pathlib import Path

import pytest
from temporalio.client import Client

from devstack.doctor import checks
from devstack.doctor.probe import probe
from devstack.stack import Stack
from devstack.temporal import SEARCH_ATTRIBUTES, TemporalOptions
from tests.conftest import TemporalServer
from workflows import options

pytestmark = pytest.mark.stack
CHECKS = ["hand-offs", "priority", "fairness", "updates", "pause", "lists", "search attributes"]


async def test_a_server_with_the_flags_obeys(temporal: TemporalServer) -> None:
    found = await probe(await Client.connect(temporal.address))

    # Hand-offs are a matter of time, so a busy machine may be slow: only their order is asserted.
    assert [each.name for each in found] == [f"Temporal {name}" for name in CHECKS]
    assert [each.level for each in found[1:]] == ["ok"] * 6


async def test_a_server_without_them_is_found_out_with_the_flag_to_set(state_folder: Path) -> None:
    # The development server allows 100 lists a second by itself; a production server does not.
    production = {"frontend.namespaceRPS.visibility": "10"}
    plain = TemporalOptions(tuned=False, file=False, ui=False, config=production)
    async with Stack(state_folder / "plain", services={"temporal"}, temporal=plain) as stack:
        found = await probe(await Client.connect(stack.urls["temporal"]))

    flags = {each.name.removeprefix("Temporal "): each.cure for each in found}
    assert [each.level for each in found] == ["missing"] * 7
    assert "transferProcessorMaxPollRPS" in flags["hand-offs"]
    assert "enableFairness" in flags["fairness"]
    assert "maxInFlightUpdates" in flags["updates"]
    assert "WorkflowPauseEnabled" in flags["pause"]
    assert "namespaceRPS.visibility" in flags["lists"]
    assert "--name ReinKind --type Keyword" in flags["search attributes"]


async def test_the_server_is_told_every_search_attribute_of_the_product() -> None:
    assert set(SEARCH_ATTRIBUTES) == {key.name for key in options.SEARCH_ATTRIBUTES}


def test_a_missing_program_comes_with_its_cure() -> None:
    found = checks.temporal_program({"TEMPORAL_CLI": "/nowhere/temporal"})

    assert found.level == "missing"
    assert found.cure
