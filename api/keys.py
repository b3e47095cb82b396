"""`python -m api.keys`: create, roll, revoke and list API keys, and set the limits of tenants.

A new key is shown only once: on standard output, or in a file that only its owner may read.
"""

import argparse
import asyncio
import secrets
import string
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from db import pool as database
from db.callers import (
    insert_api_key,
    insert_tenant,
    lock_tenant,
    revoke_api_key,
    roll_api_key,
    select_api_key,
    select_api_keys,
    update_limits,
)
from db.pool import NOT_SET_UP, Connection, acquire
from domain.callers import KEY_ID, SCOPES, TENANT_ID, ApiKey, Credential, Limits
from domain.errors import InvalidRequest, NotFound, ReinError
from settings import Settings, read_pepper, read_settings

LONGEST_DAYS, LONGEST_OVERLAP_HOURS, LARGEST_LIMIT = 3650, 8760, 1_000_000
# `create --reuse` keeps an existing key only if it stays valid for at least this long.
REUSED_FOR = timedelta(days=1)


def mint(environment: str) -> Credential:
    """Create a random API key: an id of 12 characters and a secret of 256 random bits."""

    def draw(letters: str, length: int) -> str:
        return "".join(secrets.choice(letters) for _ in range(length))

    key_id = draw(string.ascii_lowercase + string.digits, 12)
    return Credential(
        environment, key_id, SecretStr(draw(string.ascii_letters + string.digits, 43))
    )


def main(arguments: Sequence[str]) -> str | None:
    """Run the command. Return an error message, or None when the command succeeded."""
    asked = _parser().parse_args(arguments)
    settings = read_settings()
    try:
        asyncio.run(_serve(asked, settings))
    except ReinError as error:
        return "; ".join(filter(None, (error.detail, error.cure)))
    except NOT_SET_UP as error:
        return f"DATABASE_URL leads to no database of Rein: {error}; check it, and `make migrate`"
    return None


async def _serve(asked: argparse.Namespace, settings: Settings) -> None:
    async with (
        database.connect(
            settings.database_url, size=1, role="rein_operations", name="rein keys"
        ) as pool,
        acquire(pool) as conn,
        conn.transaction(),
    ):
        await asked.command(conn, asked, settings)


async def _create(conn: Connection, asked: argparse.Namespace, settings: Settings) -> None:
    pepper = read_pepper(settings)
    if asked.reuse and await _still_serves(conn, asked, settings):
        _tell(f"the key in {asked.out} is kept")
        return
    credential = mint(settings.environment)
    try:
        await insert_api_key(
            conn,
            key_id=credential.key_id,
            tenant=asked.tenant,
            name=asked.name,
            secret_mac=credential.mac(pepper),
            scopes=asked.scopes,
            lifetime=timedelta(days=asked.days),
        )
    except NotFound as error:
        cure = f"make it with `python -m api.keys tenant {asked.tenant}`"
        raise NotFound(error.detail, cure=cure) from error
    _hand_over(credential, asked.out)
    _tell(
        f"key {credential.key_id} of tenant {asked.tenant} is good for {asked.days} days and for "
        f"{', '.join(asked.scopes)}; it is not shown again"
    )


async def _still_serves(conn: Connection, asked: argparse.Namespace, settings: Settings) -> bool:
    """Return whether the file of --out holds a valid key of the tenant with the asked scopes.

    The key must stay valid for REUSED_FOR. Raises InvalidRequest when --out is missing.
    """
    if asked.out is None:
        raise InvalidRequest("--reuse looks at the file of --out", cure="give both")
    try:
        credential = Credential.parse(asked.out.read_text().strip())
    except (OSError, UnicodeDecodeError):
        # An unreadable file holds no usable key. If the file cannot be written either, the error is
        # raised when the new key is written.
        return False
    if credential is None or credential.environment != settings.environment:
        return False
    key = await select_api_key(conn, credential.key_id)
    return (
        key is not None
        and key.is_opened_by(credential, settings.key_pepper)
        and key.refusal(datetime.now(UTC) + REUSED_FOR) is None
        and key.tenant == asked.tenant
        and set(key.scopes) >= set(asked.scopes)
    )


async def _roll(conn: Connection, asked: argparse.Namespace, settings: Settings) -> None:
    credential = mint(settings.environment)
    rolled = await roll_api_key(
        conn,
        asked.key_id,
        new_key_id=credential.key_id,
        secret_mac=credential.mac(read_pepper(settings)),
        overlap=timedelta(hours=asked.overlap_hours),
    )
    if not rolled:
        raise await _cannot_be_rolled(conn, asked.key_id)
    _hand_over(credential, asked.out)
    _tell(
        f"key {credential.key_id} follows {asked.key_id}, which ends in {asked.overlap_hours} "
        "hours at the latest; it is not shown again"
    )


async def _cannot_be_rolled(conn: Connection, key_id: str) -> ReinError:
    key = await select_api_key(conn, key_id)
    if key is None:
        return _unknown(key_id)
    return InvalidRequest(
        f"key {key_id} cannot be rolled: it is {_state(key)}",
        cure="roll the last of its successors, or make a new key with `create`",
    )


async def _revoke(conn: Connection, asked: argparse.Namespace, _: Settings) -> None:
    if not await revoke_api_key(conn, asked.key_id):
        raise _unknown(asked.key_id)
    _tell(f"key {asked.key_id} is revoked: within 5 seconds no API process takes it")


async def _list(conn: Connection, asked: argparse.Namespace, _: Settings) -> None:
    rows = [("KEY ID", "TENANT", "STATE", "UNTIL", "SCOPES", "NAME")]
    for key in await select_api_keys(conn, asked.tenant):
        until = f"{key.expires_at:%Y-%m-%d %H:%M}Z"
        rows.append((key.key_id, key.tenant, _state(key), until, ",".join(key.scopes), key.name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


async def _tenant(conn: Connection, asked: argparse.Namespace, _: Settings) -> None:
    made = await insert_tenant(conn, asked.tenant)
    limits = await lock_tenant(conn, asked.tenant) or Limits()
    changes = {name: value for name, value in vars(asked).items() if name in Limits.model_fields}
    if changes:
        limits = limits.model_copy(update=changes)
        await update_limits(conn, asked.tenant, limits)
    _tell(f"tenant {asked.tenant}{' is made' if made else ''}: {_in_words(limits)}")


def _in_words(limits: Limits) -> str:
    models = limits.allowed_models
    return ", ".join(
        (
            f"runs a minute {limits.runs_per_minute or 'without a limit'}",
            f"runs in flight {limits.runs_in_flight or 'without a limit'}",
            f"models {' '.join(models) if models else 'all'}",
        )
    )


def _state(key: ApiKey) -> str:
    if refusal := key.refusal(datetime.now(UTC)):
        return refusal
    return f"rolled to {key.rolled_to}" if key.rolled_to else "good"


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id!r}", cure="`python -m api.keys list` shows them all")


def _hand_over(credential: Credential, out: Path | None) -> None:
    """Print the key, or write it to a file with mode 0600.

    The key is written to a temporary file that then replaces `out`, so `out` never holds half a
    key. Raises InvalidRequest when `out` cannot be written; the key is then not stored either.
    """
    if out is None:
        sys.stdout.write(credential.reveal() + "\n")
        sys.stdout.flush()
        return
    try:
        with tempfile.NamedTemporaryFile("w", dir=out.parent, delete=False) as file:
            file.write(credential.reveal() + "\n")
        Path(file.name).replace(out)
    except OSError as error:
        raise InvalidRequest(
            f"no key was made, because {out} cannot be written: {error.strerror}",
            cure="name a file in a folder that is yours",
        ) from error


def _tell(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api.keys", description=__doc__)
    commands = parser.add_subparsers(required=True)

    create = commands.add_parser("create", help="make a key of a tenant")
    create.set_defaults(command=_create)
    create.add_argument("--tenant", required=True, type=_tenant_id)
    create.add_argument("--name", required=True, type=_name, help="whose key it is, for `list`")
    create.add_argument("--scopes", required=True, type=_scopes, help="separated by commas, or all")
    create.add_argument("--days", type=_number(1, LONGEST_DAYS), default=365)
    create.add_argument("--reuse", action="store_true", help="keep the key in --out if it serves")

    roll = commands.add_parser("roll", help="make a successor, and end a key a little later")
    roll.set_defaults(command=_roll)
    roll.add_argument("key_id", type=_key_id)
    roll.add_argument("--overlap-hours", type=_number(0, LONGEST_OVERLAP_HOURS), default=24)

    for command in (create, roll):
        command.add_argument("--out", type=Path, help="write it to a file of mode 0600")

    revoke = commands.add_parser("revoke", help="end a key at once")
    revoke.set_defaults(command=_revoke)
    revoke.add_argument("key_id", type=_key_id)

    listing = commands.add_parser("list", help="show the keys, never their secrets")
    listing.set_defaults(command=_list)
    listing.add_argument("--tenant", type=_tenant_id)

    tenant = commands.add_parser(
        "tenant",
        help="make a tenant, or change its limits; `none` lifts one",
        # SUPPRESS leaves an option that is not given out of the namespace, so its limit is kept.
        argument_default=argparse.SUPPRESS,
    )
    tenant.set_defaults(command=_tenant)
    tenant.add_argument("tenant", type=_tenant_id)
    tenant.add_argument("--runs-per-minute", type=_or_none(_number(1, LARGEST_LIMIT)))
    tenant.add_argument("--runs-in-flight", type=_or_none(_number(1, LARGEST_LIMIT)))
    tenant.add_argument("--models", dest="allowed_models", type=_or_none(_names))
    return parser


def _or_none(kind: Callable[[str], object]) -> Callable[[str], object]:
    return lambda text: None if text == "none" else kind(text)


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise _unfit(f"a whole number from {least} to {most}", text)
        return int(text)

    return read


def _tenant_id(text: str) -> str:
    if not TENANT_ID.fullmatch(text):
        raise _unfit("a small letter, then up to 39 small letters, digits and hyphens", text)
    return text


def _key_id(text: str) -> str:
    if not KEY_ID.fullmatch(text):
        # The text may be a whole key with its secret, so the error message does not repeat it.
        raise _unfit(
            "the 12 characters between the last two underscores of a key", "something else"
        )
    return text


def _name(text: str) -> str:
    if not (1 <= len(text) <= 200 and text.isprintable()):
        raise _unfit("1 to 200 printable characters", text[:200])
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_name(name.strip()) for name in text.split(","))


def _scopes(text: str) -> tuple[str, ...]:
    named = SCOPES if text == "all" else dict.fromkeys(name.strip() for name in text.split(","))
    if not set(named) <= set(SCOPES):
        raise _unfit(f"some of {', '.join(SCOPES)}, or all", text)
    return tuple(named)


def _unfit(expected: str, came: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"expected {expected}; came {came!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
