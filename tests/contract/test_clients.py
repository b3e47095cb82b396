"""The two callers of examples/ against clients generated from openapi.json, on the running stack.

A typed client knows the API from the document alone: what the two disagree about fails here.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from devstack.controls import GeminiControl
from devstack.stack import ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

BIN = Path(sys.executable).parent
PYTHON, TYPESCRIPT = ROOT / "examples/python", ROOT / "examples/typescript"
NO_NODE = "node and npm are not installed: the TypeScript caller is not tried"

REFUSALS = [
    "refused   401 UNAUTHORIZED",
    "refused   404 NOT_FOUND",
    "refused   409 ALREADY_FINISHED",
    "refused   422 INVALID_REQUEST",
]


async def run(*command: object, cwd: Path, stack: Stack) -> str:
    """What a program prints; fails with all that it said when it does not end well."""
    env = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "REIN_URL": stack.urls["api"],
        "REIN_KEY": stack.key,
    }
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


def check(said: str) -> None:
    """That a caller met all that it can meet: the order of its lines is the program's."""
    told = said.splitlines()
    assert told[0].startswith("event     1 accepted")
    assert any(line.startswith("event     ") and " finished: Done" in line for line in told)
    assert any(line.startswith("done      success ") for line in told)
    for line in ("again     200 replayed=true", "listed    true", "rated     4.5"):
        assert line in said.lower(), said
    assert "cancelled true" in said.lower()
    assert [line for line in told if line.startswith("refused")] == REFUSALS


@pytest.fixture
async def callers_stack(stack: Stack, stack_gemini: GeminiControl) -> Stack:
    """The stack, where the first goal of a caller is answered; the one it cancels is held."""
    await stack_gemini.close_gate("preprocess", let_through=1)
    return stack


async def test_python(callers_stack: Stack, tmp_path: Path) -> None:
    program = shutil.copy(PYTHON / "caller.py", tmp_path)
    await run(
        *("openapi-python-client", "generate", "--path", ROOT / "openapi.json"),
        *("--meta", "none", "--output-path", "rein_client", "--fail-on-warning"),
        cwd=tmp_path,
        stack=callers_stack,
    )
    # Silent about the generated code itself, whose annotations are not strict everywhere.
    mypy = (sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent")
    await run(*mypy, program, cwd=tmp_path, stack=callers_stack)
    check(await run(sys.executable, program, cwd=tmp_path, stack=callers_stack))


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason=NO_NODE)
async def test_typescript(callers_stack: Stack, tmp_path: Path) -> None:
    shutil.copytree(TYPESCRIPT, tmp_path, dirs_exist_ok=True, ignore=_generated)
    shutil.copy(ROOT / "openapi.json", tmp_path)
    await run("npm", "ci", "--no-audit", "--no-fund", cwd=tmp_path, stack=callers_stack)
    await run(
        "npx",
        "openapi-typescript",
        "openapi.json",
        "-o",
        "rein.d.ts",
        cwd=tmp_path,
        stack=callers_stack,
    )
    await run("npm", "run", "build", cwd=tmp_path, stack=callers_stack)
    check(await run("node", "caller.js", cwd=tmp_path, stack=callers_stack))


def _generated(folder: str, names: list[str]) -> set[str]:
    return {"node_modules", "rein.d.ts", "caller.js"} & set(names)


def test_no_registry_stands_in_the_lock_file() -> None:
    """It names what is installed by hash; from where is the machine's own matter."""
    assert '"resolved"' not in (TYPESCRIPT / "package-lock.json").read_text()
