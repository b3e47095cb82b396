"""Ports, configuration and settings: wrong ones are named, with the way out."""

import os
import re
import socket
from pathlib import Path

import pytest

from devstack import migrations
from devstack.configuration import configure, read_environment
from devstack.doctor import checks
from devstack.errors import StackError
from devstack.ports import Ports, check
from devstack.run import only_one

ROOT = Path(__file__).parents[2]


def test_a_taken_port_is_named_with_its_holder_and_its_variable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError) as raised:
            check(Ports(gemini=port), ["gemini"])

    assert f"port {port}" in str(raised.value)
    assert f"pid {os.getpid()}" in str(raised.value)
    assert "REIN_GEMINI_PORT=" in raised.value.cure


def test_several_taken_ports_are_cured_by_one_command() -> None:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
            each.listen()
        ports = Ports(api=one.getsockname()[1], api_operations=other.getsockname()[1])
        with pytest.raises(StackError) as raised:
            check(ports, ["api", "api_operations"])

    cure = r"REIN_API_PORT=\d+ REIN_API_OPERATIONS_PORT=\d+ make run"
    assert re.search(cure, raised.value.cure)


def test_one_port_for_two_parts_is_refused_before_anything_starts() -> None:
    with pytest.raises(StackError, match=r"REIN_API_PORT and REIN_OPIK_PORT are both 5173"):
        check(Ports(api=5173), ["api", "gemini", "opik"])


async def test_a_database_of_ones_own_that_is_away_is_told_before_anything_starts() -> None:
    url = f"postgresql://rein@127.0.0.1:{Ports.free().postgres}/rein"

    with pytest.raises(StackError, match="DATABASE_URL does not answer") as raised:
        await migrations.check(url, ROOT)
    assert "DATABASE_URL" in raised.value.cure


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / ".rein").write_text("a file in its place")

    with pytest.raises(StackError, match="cannot be written"), only_one(tmp_path / ".rein"):
        raise AssertionError("started")


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(StackError, match=f"REIN_API_PORT={text}"):
        Ports.from_environment({"REIN_API_PORT": text})


def test_what_the_person_has_is_not_started() -> None:
    everything = configure({})
    assert "gemini" in everything.services

    own = configure(
        {"GEMINI_API_KEY": "k", "DATABASE_URL": "postgresql://db/rein", "OPIK_API_KEY": "o"}
    )
    assert own.services == {"temporal", "worker", "shipper", "api"}
    assert own.env["OPIK_URL_OVERRIDE"] == "https://www.comet.com/opik/api"
    assert own.env["OPIK_UI_URL"] == "https://www.comet.com/opik"
    assert own.ports_needed == ["api", "api_operations", "temporal", "temporal_ui"]


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("REIN_MODEL=from-file\nREIN_API_PORT=18001\n")
    monkeypatch.setenv("REIN_MODEL", "from-environment")
    monkeypatch.delenv("REIN_API_PORT", raising=False)

    read = read_environment(tmp_path)

    assert read["REIN_MODEL"] == "from-environment"
    assert read["REIN_API_PORT"] == "18001"


def test_an_unknown_setting_is_told_with_its_nearest_name() -> None:
    found = checks.settings({"REIN_QUALITY_TRESHOLD": "7", "REIN_API_PORT": "1"}, ROOT)

    assert [(each.level, each.name) for each in found] == [("warn", "REIN_QUALITY_TRESHOLD")]
    assert "REIN_QUALITY_THRESHOLD" in found[0].cure
