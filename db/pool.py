"""Connections to PostgreSQL: pools, transactions of one tenant, and long-lived connections."""

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

# The PostgreSQL role of a pool's connections. It decides whether they see the rows of one tenant at
# a time (application) or the rows of all tenants (operations).
Role = Literal["rein_application", "rein_operations"]

# Maximum number of connections per process for work that concerns all tenants: ends of runs,
# look-ups of API keys, metrics.
OPERATIONS_SIZE = 4
ACQUIRE_TIMEOUT_S = 2
# Seconds after which a caller stops waiting for a connection, even if other callers still get
# theirs.
LONGEST_TURN_S = 20
COMMAND_TIMEOUT_S = 10
# Seconds between two checks of a long-lived connection, because a broken one may give no sign.
CONNECTION_CHECK_S = 15
RECONNECT_S = 0.5

# After one of these errors the same transaction may succeed later: the connection was lost
# (SQLSTATE class 08), the transaction was rolled back (40), resources ran out (53), an operator
# intervened (57P), or the server is a standby after a fail-over (25006). TimeoutError means that a
# command took too long or that no connection became free.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    # A migration changed a table that a prepared statement uses. asyncpg prepares the statement
    # again next time.
    asyncpg.InvalidCachedStatementError,
    asyncpg.exceptions.OutdatedSchemaCacheError,
)
# PostgreSQL raises one of these errors when the database or login does not exist, or when the
# migrations have not been applied.
NOT_SET_UP = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidParameterValueError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
)


def _said(error: asyncpg.PostgresError) -> str:
    """Return the message of a PostgreSQL error without what people wrote.

    The error's DETAIL may contain a whole row, so it is left out. The message of a DataError quotes
    the wrong value itself, so only its type is returned.
    """
    return type(error).__name__ if isinstance(error, asyncpg.DataError) else str(error.args[0])


# Logs, Temporal's failures and chained exceptions all print errors with `str`, so this assignment
# keeps people's texts out of them.
asyncpg.PostgresError.__str__ = _said  # type: ignore[assignment, method-assign]


class Pool(asyncpg.Pool):
    """A pool whose callers wait for a connection as long as connections are still being handed out.

    With a fixed timeout, 688 of 1,000 simultaneous requests failed, although all could have been
    served within seconds.
    """

    last_acquired_at = 0.0


def connect(url: str, *, size: int, role: Role, name: str = "rein") -> Pool:
    """Return a pool of at most `size` connections in one role. Await it or enter it to open it.

    The pool opens connections only when they are needed, so a process can start while PostgreSQL is
    unavailable. In the role `rein_application`, only `transaction` makes rows of tenants visible;
    in `rein_operations` every statement sees the rows of all tenants.
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
    """The two connection pools of a process: one for single tenants, one for all tenants."""

    application: Pool
    operations: Pool

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, *, size: int, name: str) -> AsyncIterator["Pools"]:
        """Open both pools inside the block.

        `size` limits the application pool; the operations pool has OPERATIONS_SIZE connections.
        """
        async with (
            connect(url, size=size, role="rein_application", name=name) as application,
            connect(url, size=OPERATIONS_SIZE, role="rein_operations", name=name) as operations,
        ):
            yield cls(application, operations)


@asynccontextmanager
async def acquire(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection for the block. The block should only talk to PostgreSQL.

    Raises Unavailable when PostgreSQL is unavailable, also for a statement inside the block.
    """
    conn: PoolConnectionProxy | None = None
    try:
        conn = await _borrow(pool)
        yield conn
    except _AWAY as error:
        raise _away(error) from error
    except asyncpg.InternalClientError as error:
        # When the statement was sent, the server had already announced that it would close this
        # connection, so the connection is discarded.
        if conn is not None:
            conn.terminate()
        raise _away(error) from error
    except asyncpg.InterfaceError as error:
        # asyncpg raises InterfaceError while the pool is closing, and for a ROLLBACK on a lost
        # connection. Any other InterfaceError is a bug in the caller.
        if conn is None or _is_lost(conn):
            raise _away(error) from error
        raise
    finally:
        if conn is not None:
            # release() waits until a timed-out statement is cancelled. If that fails, asyncpg has
            # already closed the connection, and the result of the block stays valid.
            with suppress(*_AWAY):
                await pool.release(conn, timeout=ACQUIRE_TIMEOUT_S)


@asynccontextmanager
async def transaction(pool: Pool, tenant: str) -> AsyncIterator[Connection]:
    """Borrow a connection for one transaction that sees only the rows of `tenant`.

    PostgreSQL's setting `rein.tenant` lasts until the transaction ends, so the connection's next
    borrower does not inherit it. It is sent together with BEGIN, so it costs no extra round trip.
    Raises ValueError when `tenant` is not a valid tenant id, and what `acquire` raises.
    """
    if not TENANT_ID.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is no tenant's id")
    async with acquire(pool) as conn:
        await conn.execute(f"BEGIN; SET LOCAL rein.tenant = '{tenant}'")
        try:
            yield conn
        except BaseException:
            # If the connection was lost, PostgreSQL has already rolled the transaction back.
            with suppress(*_AWAY, asyncpg.InterfaceError):
                await conn.execute("ROLLBACK")
            raise
        await conn.execute("COMMIT")


async def _borrow(pool: Pool) -> PoolConnectionProxy:
    """Wait in the pool's queue and return a connection.

    Raises TimeoutError when no caller got a connection for ACQUIRE_TIMEOUT_S seconds, and in any
    case after LONGEST_TURN_S seconds.
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
    """Listen to a PostgreSQL channel until cancelled, and reconnect when the connection is lost.

    `on_connected(True)` is called whenever listening begins again. The caller should then read the
    rows, because notifications in between were lost. `on_connected(False)` tells of a lost
    connection.
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
    """Hold one connection until cancelled, and open a new one when it is lost.

    `prepare` is awaited on each new connection; then `on_connected(True)` is called.
    `on_connected(False)` is called when the connection is lost and after each failed try to open
    one.
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
    """Open a connection of its own, outside of any pool.

    The event that comes with it is set when the connection is lost.
    """
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
    """Roll back the transaction that a borrower left open because it was cancelled.

    Borrowers never change the settings of a session, so there is nothing else to reset, and usually
    no round trip is needed.
    """
    if conn.is_in_transaction():
        await conn.execute("ROLLBACK")


async def _teach_jsonb(conn: Connection) -> None:
    """Let the connection store as jsonb what pydantic can serialise, such as models and dates."""

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
    except asyncpg.InterfaceError:  # The pool has taken a lost connection back already.
        return True


def _away(error: BaseException) -> Unavailable:
    return Unavailable(
        f"PostgreSQL did not answer in time or refused ({type(error).__name__})",
        cure="send the same request again in a moment, with the same Idempotency-Key if it had one",
        retry_after=1,
    )
