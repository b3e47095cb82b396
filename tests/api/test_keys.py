"""`python -m api.keys`: what it makes opens the door, and what it refuses is a sentence."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from api import keys
from api.callers import Authenticator
from db import pool as database
from db.callers import lock_tenant, select_api_key, select_api_keys
from db.pool import Pool, acquire
from domain.callers import SCOPES, ApiKey, Caller, Credential, Limits
from domain.errors import Unauthorized
from settings import PUBLIC_KEY

ROOT = Path(__file__).parents[2]

Command = Callable[..., Awaitable[str]]


@pytest.fixture(scope="module")
async def operations(module_postgres_url: str) -> AsyncIterator[Pool]:
    async with database.connect(module_postgres_url, size=2, role="rein_operations") as pool:
        yield pool


@pytest.fixture
def environment(
    module_postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    """What the command reads; not a developer's own .env."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", module_postgres_url)
    return monkeypatch


@pytest.fixture
def command(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command; returns what it printed on standard output."""

    async def run(*words: str) -> str:
        assert await asyncio.to_thread(keys.main, words) is None
        return capsys.readouterr().out

    return run


@pytest.fixture
def refusal(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command, which must print nothing; returns its complaint."""

    async def run(*words: str) -> str:
        complaint = await asyncio.to_thread(keys.main, words)
        assert complaint is not None
        assert capsys.readouterr() == ("", "")
        return complaint

    return run


def creating(**options: str) -> list[str]:
    given = {"tenant": "local", "name": "a test", "scopes": "all"} | options
    return ["create", *(word for name, value in given.items() for word in (f"--{name}", value))]


async def identify(pool: Pool, key: str) -> Caller:
    return await Authenticator(pool, pepper=PUBLIC_KEY, environment="local").identify(key)


async def stored(pool: Pool, key: str) -> ApiKey:
    credential = Credential.parse(key.strip())
    assert credential is not None
    async with acquire(pool) as conn:
        found = await select_api_key(conn, credential.key_id)
    assert found is not None
    return found


async def test_a_created_key_opens_the_door(operations: Pool, command: Command) -> None:
    printed = await command(*creating(scopes="goals:read, ops,ops", days="7"))

    assert printed.count("\n") == 1
    caller = await identify(operations, printed.strip())
    assert (caller.tenant, set(caller.scopes)) == ("local", {"goals:read", "ops"})
    key = await stored(operations, printed)
    assert (key.name, key.expires_at - key.created_at) == ("a test", timedelta(days=7))
    everything = await command(*creating())
    assert (await identify(operations, everything.strip())).scopes == set(SCOPES)


async def test_no_two_keys_are_alike() -> None:
    made = [keys.mint("local") for _ in range(100)]
    assert len({one.key_id for one in made}) == len({one.reveal() for one in made}) == 100
    assert all(Credential.parse(one.reveal()) == one for one in made)


async def test_a_key_in_a_file_is_its_owners_alone(
    operations: Pool, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("an older one")
    file.chmod(0o644)

    assert await command(*creating(out=str(file))) == ""

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (await identify(operations, file.read_text().strip())).tenant == "local"
    assert os.listdir(tmp_path) == ["key"]


async def test_no_key_is_stored_that_could_not_be_handed_over(
    operations: Pool, refusal: Command, tmp_path: Path
) -> None:
    complaint = await refusal(*creating(name="lost", out=str(tmp_path / "none" / "key")))
    assert "no key was made" in complaint
    async with acquire(operations) as conn:
        assert "lost" not in {key.name for key in await select_api_keys(conn, None)}


async def test_a_key_in_a_file_is_reused_while_it_serves(
    operations: Pool, command: Command, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"

    async def reuse(**options: str) -> str:
        await command(*creating(out=str(file), **options), "--reuse")
        return file.read_text()

    first = await reuse(scopes="ops", days="2")
    assert await reuse(scopes="ops") == first

    wider = await reuse(scopes="all", days="2")
    assert wider != first
    assert await reuse(scopes="ops") == wider

    async with acquire(operations) as conn:
        await conn.execute("UPDATE api_keys SET expires_at = now() + interval '23 hours'")
    longer = await reuse()
    assert longer != wider

    await command("revoke", (await stored(operations, longer)).key_id)
    anew = await reuse()
    assert anew != longer

    environment.setenv("REIN_KEY_PEPPER", "another one")
    repeppered = await reuse()
    assert repeppered != anew
    environment.setenv("REIN_ENVIRONMENT", "test")
    assert await reuse() != repeppered

    file.write_bytes(b"\xff no key")
    assert Credential.parse((await reuse()).strip())


async def test_rolling_gives_a_successor_and_an_end(operations: Pool, command: Command) -> None:
    old = (await command(*creating(scopes="ops"))).strip()
    new = (await command("roll", (await stored(operations, old)).key_id)).strip()

    assert (await identify(operations, old)).scopes == {"ops"}
    assert (await identify(operations, new)).scopes == {"ops"}
    old_key, new_key = await stored(operations, old), await stored(operations, new)
    assert old_key.rolled_to == new_key.key_id
    assert old_key.expires_at == new_key.created_at + timedelta(hours=24)

    last = (await command("roll", new_key.key_id, "--overlap-hours", "0")).strip()
    with pytest.raises(Unauthorized):
        await identify(operations, new)
    assert (await identify(operations, last)).scopes == {"ops"}


async def test_a_revoked_key_is_shut_out_and_has_no_successor(
    operations: Pool, command: Command, refusal: Command
) -> None:
    key = (await command(*creating())).strip()
    key_id = (await stored(operations, key)).key_id
    await command("revoke", key_id)
    with pytest.raises(Unauthorized):
        await identify(operations, key)
    assert f"key {key_id} cannot be rolled: it is revoked" in await refusal("roll", key_id)


async def test_the_list_shows_every_state_and_no_secret(operations: Pool, command: Command) -> None:
    await command("tenant", "listed")
    made = [(await command(*creating(tenant="listed", name=f"no. {n}"))).strip() for n in range(4)]
    good, old, revoked, expired = [(await stored(operations, key)).key_id for key in made]
    successor = (await stored(operations, await command("roll", old))).key_id
    await command("revoke", revoked)
    async with acquire(operations) as conn:
        await conn.execute(
            "UPDATE api_keys SET expires_at = '2026-01-02 03:04Z' WHERE key_id = $1", expired
        )

    printed = await command("list", "--tenant", "listed")

    head, *lines = printed.splitlines()
    assert head.split("  ")[0] == "KEY ID"
    states = {
        line.split()[0]: line[head.index("STATE") : head.index("UNTIL")].strip() for line in lines
    }
    assert states == {
        good: "good",
        old: f"rolled to {successor}",
        revoked: "revoked",
        expired: "expired",
        successor: "good",
    }
    assert "2026-01-02 03:04Z" in printed
    assert not any(key.rpartition("_")[2] in printed for key in made)
    assert len((await command("list", "--tenant", "nobody")).splitlines()) == 1
    assert good in await command("list")


async def test_a_tenants_limits_are_set_kept_and_lifted(operations: Pool, command: Command) -> None:
    async def limits() -> Limits | None:
        async with acquire(operations) as conn, conn.transaction():
            return await lock_tenant(conn, "changing")

    await command("tenant", "changing")
    assert await limits() == Limits()
    await command("tenant", "changing", "--runs-per-minute", "60", "--models", "one, two")
    assert await limits() == Limits(runs_per_minute=60, allowed_models=("one", "two"))
    await command("tenant", "changing", "--runs-in-flight", "5", "--models", "none")
    assert await limits() == Limits(runs_per_minute=60, runs_in_flight=5)


async def test_what_is_not_there_is_told_with_a_cure(refusal: Command) -> None:
    unknown = await refusal(*creating(tenant="nobody"))
    assert "there is no tenant 'nobody'" in unknown
    assert "api.keys tenant nobody" in unknown
    for words in (("roll", "a" * 12), ("revoke", "a" * 12)):
        assert "there is no key 'aaaaaaaaaaaa'" in await refusal(*words)
    assert "--reuse" in await refusal(*creating(), "--reuse")


@pytest.mark.parametrize(
    ("database_name", "words"),
    [("postgres", 'relation "api_keys" does not exist'), ("nowhere", 'database "nowhere"')],
)
async def test_a_database_that_is_not_reins_is_told(
    refusal: Command, environment: pytest.MonkeyPatch, database_name: str, words: str
) -> None:
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    environment.setenv("DATABASE_URL", f"{server}/{database_name}")
    complaint = await refusal(*creating())
    assert words in complaint
    assert "make migrate" in complaint


async def test_a_database_that_is_away_is_told(
    refusal: Command, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DATABASE_URL", "postgresql://rein@127.0.0.1:1/rein")
    assert "PostgreSQL did not answer" in await refusal("list")


async def test_no_key_is_made_with_the_pepper_that_everybody_knows(
    command: Command, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REIN_ENVIRONMENT", "production")
    with pytest.raises(SystemExit, match="REIN_KEY_PEPPER"):
        await command(*creating())
    environment.setenv("REIN_KEY_PEPPER", "long and random")
    assert (await command(*creating())).startswith("rk_production_")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (creating(scopes="goals:delete"), "expected some of goals:read, goals:write"),
        (creating(scopes=""), "expected some of goals:read"),
        (creating(days="0"), "expected a whole number from 1 to 3650; came '0'"),
        (creating(days="²"), "whole number"),
        (creating(tenant="Local"), "expected a small letter"),
        (creating(name="a\nb"), "printable"),
        (["roll", "rk_local_aaaaaaaaaaaa_" + "s" * 43], "expected the 12 characters"),
        (["tenant", "local", "--runs-per-minute", "0"], "whole number from 1"),
        (["tenant", "local", "--models", "a,,b"], "printable"),
        ([], "required"),
    ],
)
def test_a_misspelt_command_is_told_what_was_expected(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        keys.main(words)
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert complaint in said
    assert "s" * 43 not in said


def test_as_a_process_it_prints_the_key_alone_and_ends_with_a_code(
    environment: pytest.MonkeyPatch,
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "api.keys", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    made, refused = run(*creating()), run(*creating(tenant="nobody"))
    assert (made.returncode, refused.returncode) == (0, 1)
    assert Credential.parse(made.stdout.removesuffix("\n"))
    assert made.stderr.count("\n") == refused.stderr.count("\n") == 1
    assert "Traceback" not in refused.stderr
