"""`make run` from the outside: a goal, a second start, crashes, the end."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from devstack.ports import VARIABLES, Ports, is_free
from devstack.stack import ROOT

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def folder(state_folder: Path) -> Path:
    return state_folder / "run"


def environment(ports: Ports) -> dict[str, str]:
    chosen = {variable: str(getattr(ports, name)) for name, variable in VARIABLES.items()}
    steering = ("REIN_", "OPIK_", "TEMPORAL_", "GEMINI_", "GOOGLE_", "DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {**kept, **chosen, "COLUMNS": "80"}


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "devstack", "--state", str(folder), "run", *more]


def once(folder: Path, ports: Ports, goal: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, "--once", "--goal", goal),
        cwd=ROOT,
        env=environment(ports),
        capture_output=True,
        text=True,
    )


@contextmanager
def staying_up(folder: Path, ports: Ports) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(folder), cwd=ROOT, env=environment(ports), stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"never said {words!r}:\n{seen}")


def part(folder: Path, name: str) -> int:
    pid: int = json.loads((folder / "pids.json").read_text())[name]["pid"]
    return pid


def nothing_listens(ports: Ports) -> bool:
    return all(is_free(getattr(ports, name)) for name in VARIABLES)


def shape(text: str) -> list[str]:
    """The stages' lines without what the day and the clock change, in any order."""
    _, _, rest = text.partition("“I want to run a 5K by end of Q1”")
    lines = rest.partition("/10")[0].splitlines()[1:]
    return sorted(re.sub(r"[\d.]+ ?", "# ", line.strip()) for line in lines)


def test_one_goal_with_a_result_and_an_exit_code(folder: Path) -> None:
    ports = Ports.free()

    ended = once(folder, ports, "I want to run a 5K by end of Q1")

    assert shape(ended.stdout) == shape((ROOT / "README.md").read_text()), "README's output"

    assert ended.returncode == 0, ended.stdout + ended.stderr
    for words in ("Run a 5K", "overall", "Week 1", "Milestones", "tokens in", "success"):
        assert words in ended.stdout
    assert "http://" not in ended.stdout, "a link that leads nowhere when it is read"
    assert "Earlier goals" not in ended.stdout
    assert nothing_listens(ports)


def test_ctrl_c_before_anything_has_begun_is_no_traceback(tmp_path: Path) -> None:
    """Python takes a while to import what `make run` needs."""
    (tmp_path / "httpx.py").write_text("raise KeyboardInterrupt")
    ended = subprocess.run(
        command(tmp_path / "state"),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_refused_goal_is_answered_with_its_reason(folder: Path) -> None:
    ended = once(folder, Ports.free(), "?!?!")

    assert ended.returncode == 0
    assert "Earlier goals" in ended.stdout
    assert "No goal was recognised in this text" in ended.stdout


def test_a_taken_port_stops_the_start_before_anything_runs(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports.free()
        env = environment(ports) | {"REIN_OPIK_PORT": str(taken.getsockname()[1])}
        ended = subprocess.run(
            command(folder, "--once"), cwd=ROOT, env=env, capture_output=True, text=True
        )

    assert ended.returncode == 1
    assert "REIN_OPIK_PORT" in ended.stdout
    assert "is starting" not in ended.stdout
    assert nothing_listens(ports)


def another(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A `make run` beside the one that keeps the stack up, which knows none of its ports."""
    return subprocess.run(
        command(folder, *more),
        cwd=ROOT,
        env=environment(Ports.free()),
        capture_output=True,
        text=True,
    )


def copied(printed: str) -> subprocess.CompletedProcess[str]:
    """What a person does who copies the lines that are there to be copied."""
    lines = [line for line in printed.splitlines() if re.match("  (export|curl) ", line)]
    assert len(lines) == 2
    return subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True)


def test_it_stays_up_for_more_goals_through_a_crash_and_stops_at_ctrl_c(folder: Path) -> None:
    ports = Ports.free()
    with staying_up(folder, ports) as supervisor:
        printed = read_until(supervisor, "try it")
        for port in (ports.api, ports.temporal_ui, ports.opik, ports.gemini):
            assert f"http://127.0.0.1:{port}" in printed
        key = (folder / "key").read_text().strip()
        assert f"http://127.0.0.1:{ports.api}/docs#key={key}" in printed
        assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600

        assert json.loads(copied(printed).stdout)["status"] == "accepted"
        second = another(folder, "--goal", "Read 20 books this year")
        assert second.returncode == 0, second.stdout + second.stderr
        assert "Scores, of 10" in second.stdout
        assert f"http://127.0.0.1:{ports.temporal_ui}" in second.stdout
        nothing_asked = another(folder)
        assert nothing_asked.returncode == 1
        assert f"process {supervisor.pid}" in nothing_asked.stdout

        os.kill(part(folder, "worker"), signal.SIGKILL)
        read_until(supervisor, "worker is up again")

        supervisor.send_signal(signal.SIGINT)
        read_until(supervisor, "everything stopped")
        assert supervisor.wait() == 0
    assert nothing_listens(ports)


def test_a_part_that_cannot_be_replaced_ends_the_run(folder: Path) -> None:
    ports = Ports.free()
    with staying_up(folder, ports) as supervisor:
        read_until(supervisor, "It stays up")
        others = [psutil.Process(part(folder, name)) for name in ("worker", "api", "postgres")]

        os.kill(part(folder, "temporal"), signal.SIGKILL)

        read_until(supervisor, "temporal ended by itself (killed by SIGKILL)")
        assert supervisor.wait() == 1
    assert not any(process.is_running() for process in others)
    assert nothing_listens(ports)
