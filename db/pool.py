"""The way to PostgreSQL: pools with a jsonb codec, and connections held for their session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy
from pydantic_core import from_json, to_json

from domain.callers import TENANT_ID
from domain.errors import Unavailable

log = structlog.get_logger()

Connection = asyncpg.Connection | PoolConnectionProxy

# The role decides what the connections of a pool may see: the rows of one tenant at a time
# (application), or the rows of all tenants (operations).
Role = Literal["rein_application", "rein_operations"]

# Each process holds this many connections for what concerns all tenants: the ends of runs, the
# look-up of keys, metrics.
OPERATIONS_SIZE = 4
ACQUIRE_TIMEOUT_S = 2
# A borrower waits at most this long in a queue that moves.
LONGEST_TURN_S = 20
COMMAND_TIMEOUT_S = 10
# A connection that is held for its session is checked this often, because a dead one is silent.
CONNECTION_CHECK_S = 15
RECONNECT_S = 0.5

# After these errors the same transaction may succeed later: the connection was lost (SQLSTATE 08),
# the transaction was rolled back (40), resources ran out (53), an operator intervened (57P), or the
# server is a standby after a fail-over (25006). TimeoutError is the command timeout, or means that
# no connection was free.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    # A migration changed a table under a prepared statement; asyncpg prepares it anew next time.
    asyncpg.InvalidCachedStatementError,
    asyncpg.exceptions.OutdatedSchemaCacheError,
)
# What PostgreSQL says where there is no such database or login, or its migrations have not run.
NOT_SET_UP = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidParameterValueError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
)


def _said(error: asyncpg.PostgresError) -> str:
    """An error's message. PostgreSQL's DETAIL may hold a whole row, and so what people wrote.

    An error of data quotes the value already in its message, so that one tells only its type.
    """
    return type(error).__name__ if isinstance(error, asyncpg.DataError) else str(error.args[0])


# Wherever such an error goes (logs, Temporal's failures, chained exceptions), it is printed so.
asyncpg.PostgresError.__str__ = _said  # type: ignore[assignment, method-assign]


class Pool(asyncpg.Pool):
    """A pool that serves a crowd in turn, and gives up when it makes no progress.

    With a fixed timeout, 688 of 1,000 requests at once were refused although all of them could have
    been served within seconds. So a borrower waits as long as others ahead of it are served.
    """

    last_acquired_at = 0.0


def connect(url: str, *, size: int, role: Role, name: str = "rein") -> Pool:
    """A pool of at most `size` connections in one role, to be awaited or entered.

    It is empty at first, so that a process starts while PostgreSQL is away, and it heals by itself
    when PostgreSQL is back. In the role `rein_application` only `transaction` meets any rows of
    tenants; in `rein_operations` every statement meets everybody's.
    """
    return Pool(
        url,
        min_size=0,
        max_size=size,
        max_queries=50_000,
        setup=None,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        max_inactive_connection_lifetime=300,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=ACQUIRE_TIMEOUT_S,
        server_settings={"application_name": name, "role": role},
        init=_teach_jsonb,
        reset=_end_transaction,
    )


class Pools(NamedTuple):
    """A process's two ways to PostgreSQL."""

    application: Pool
    operations: Pool

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, *, size: int, name: str) -> AsyncIterator["Pools"]:
        """Both pools while the block lasts; the operations have few connections of their own."""
        async with (
            connect(url, size=size, role="rein_application", name=name) as application,
            connect(url, size=OPERATIONS_SIZE, role="rein_operations", name=name) as operations,
        ):
            yield cls(application, operations)


@asynccontextmanager
async def acquire(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection. Inside, do nothing but talk to PostgreSQL.

    Raises Unavailable when PostgreSQL is away, also for a statement in the middle of the block.
    """
    conn: PoolConnectionProxy | None = None
    try:
        conn = await _borrow(pool)
        yield conn
    except _AWAY as error:
        raise _away(error) from error
    except asyncpg.InternalClientError as error:
        # The server had announced the end of this connection when the statement was sent; drop it.
        if conn is not None:
            conn.terminate()
        raise _away(error) from error
    except asyncpg.InterfaceError as error:
        # asyncpg raises this while the pool is closing, and for a ROLLBACK on a lost connection.
        if conn is None or _is_lost(conn):
            raise _away(error) from error
        raise
    finally:
        if conn is not None:
            # release() waits until a timed-out statement is cancelled. If that fails, asyncpg has
            # closed the connection already, and the result of the block stands.
            with suppress(*_AWAY):
                await pool.release(conn, timeout=ACQUIRE_TIMEOUT_S)


@asynccontextmanager
async def transaction(pool: Pool, tenant: str) -> AsyncIterator[Connection]:
    """Borrow a connection for one transaction that meets only the rows of `tenant`.

    The tenant is a setting of the transaction, never of the session, so the next borrower of the
    connection does not inherit it; it travels with BEGIN, so it costs no round trip of its own.
    Raises ValueError when `tenant` is no tenant's id, and what `acquire` raises.
    """
    if not TENANT_ID.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is no tenant's id")
    async with acquire(pool) as conn:
        await conn.execute(f"BEGIN; SET LOCAL rein.tenant = '{tenant}'")
        try:
            yield conn
        except BaseException:
            # A lost connection has no transaction left to roll back.
            with suppress(*_AWAY, asyncpg.InterfaceError):
                await conn.execute("ROLLBACK")
            raise
        await conn.execute("COMMIT")


async def _borrow(pool: Pool) -> PoolConnectionProxy:
    """A connection, in turn.

    Raises TimeoutError when nobody was served for ACQUIRE_TIMEOUT_S, or after LONGEST_TURN_S.
    """
    loop = asyncio.get_running_loop()
    watch: asyncio.TimerHandle

    def check_progress() -> None:
        nonlocal watch
        patience = pool.last_acquired_at + ACQUIRE_TIMEOUT_S
        if loop.time() < patience:
            watch = loop.call_at(patience, check_progress)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(LONGEST_TURN_S) as limit:
        watch = loop.call_later(ACQUIRE_TIMEOUT_S, check_progress)
        try:
            conn = await pool.acquire()
        finally:
            watch.cancel()
    pool.last_acquired_at = loop.time()
    return conn


async def listen(
    url: str, channel: str, on_notify: Callable[[str], None], on_connected: Callable[[bool], None]
) -> None:
    """Listen to a channel until cancelled, over one connection that is made again when it is lost.

    `on_connected(True)` is called each time that it listens again, so that what it missed
    can be read from the rows; `on_connected(False)` when the connection is lost.
    """

    async def subscribe(conn: asyncpg.Connection) -> None:
        await conn.add_listener(channel, lambda *said: on_notify(str(said[-1])))

    await keep_connected(url, subscribe, on_connected, name=f"rein listening to {channel}")


async def keep_connected(
    url: str,
    prepare: Callable[[asyncpg.Connection], Awaitable[None]],
    on_connected: Callable[[bool], None],
    *,
    name: str,
    role: Role | None = None,
) -> None:
    """Hold one connection until cancelled; a lost one is made again at once.

    `prepare` is awaited with each new connection, then `on_connected(True)` is called; and
    `on_connected(False)` when it is lost.
    """
    settings = {"application_name": name} | ({"role": role} if role else {})
    while True:
        connected = False
        try:
            async with _session(url, settings) as (conn, lost):
                await prepare(conn)
                connected = True
                on_connected(True)
                await _until_lost(conn, lost)
        except (*_AWAY, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            log.warning("connection_lost", connection=name, error=type(error).__name__)
        on_connected(False)
        if not connected:
            await asyncio.sleep(RECONNECT_S)


@asynccontextmanager
async def _session(
    url: str, settings: dict[str, str]
) -> AsyncIterator[tuple[asyncpg.Connection, asyncio.Event]]:
    """A connection of its own, and the event of its loss."""
    conn = await asyncpg.connect(
        url,
        timeout=ACQUIRE_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=settings,
    )
    lost = asyncio.Event()
    conn.add_termination_listener(lambda _: lost.set())
    try:
        yield conn, lost
    finally:
        conn.terminate()


async def _until_lost(conn: asyncpg.Connection, lost: asyncio.Event) -> None:
    while not lost.is_set():
        try:
            await asyncio.wait_for(lost.wait(), CONNECTION_CHECK_S)
        except TimeoutError:
            await conn.execute("SELECT 1")


async def _end_transaction(conn: Connection) -> None:
    """Undo what a borrower left open when it was cancelled at the end of its transaction.

    Nothing here changes a session, so there is nothing else to undo, and mostly no round trip.
    """
    if conn.is_in_transaction():
        await conn.execute("ROLLBACK")


async def _teach_jsonb(conn: Connection) -> None:
    """Write jsonb from all that pydantic can serialise (models, UUID, Decimal, dates)."""

    def encode(value: Any) -> bytes:
        return b"\x01" + to_json(value)

    def decode(data: bytes) -> Any:
        return from_json(data[1:])

    await conn.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=encode, decoder=decode, format="binary"
    )


def _is_lost(conn: PoolConnectionProxy) -> bool:
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:  # the pool took the connection back because it was lost
        return True


def _away(error: BaseException) -> Unavailable:
    return Unavailable(
        f"PostgreSQL did not answer in time or refused ({type(error).__name__})",
        cure="send the same request again in a moment, with the same Idempotency-Key if it had one",
        retry_after=1,
    )
