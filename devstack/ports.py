"""The ports of the stack: which variable sets each, whether it is free, who holds it."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import combinations

import psutil

from devstack.errors import StackError

VARIABLES = {
    "api": "REIN_API_PORT",
    "api_operations": "REIN_API_OPERATIONS_PORT",
    "temporal": "REIN_TEMPORAL_PORT",
    "temporal_ui": "REIN_TEMPORAL_UI_PORT",
    "postgres": "REIN_POSTGRES_PORT",
    "gemini": "REIN_GEMINI_PORT",
    "opik": "REIN_OPIK_PORT",
}


@dataclass(frozen=True)
class Ports:
    """One port for each part. `temporal_http` is only asked whether the server is ready."""

    api: int = 8000
    api_operations: int = 8001
    temporal: int = 7233
    temporal_ui: int = 8233
    postgres: int = 5433
    gemini: int = 8090
    opik: int = 5173
    temporal_http: int = 0

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody uses now."""
        names = [field.name for field in fields(cls)]
        return cls(**dict(zip(names, _free(len(names)), strict=True)))

    @classmethod
    def from_environment(cls, environment: dict[str, str]) -> "Ports":
        """The defaults, changed by REIN_…_PORT. Raises StackError for what is no port."""
        chosen = {"temporal_http": _free(1)[0]}
        for name, variable in VARIABLES.items():
            text = environment.get(variable, "").strip()
            if not text:
                continue
            if not text.isdecimal() or not 0 < int(text) < 65536:
                raise StackError(f"{variable}={text} is not a port", f"{variable}=18000, say")
            chosen[name] = int(text)
        return cls(**chosen)


def _free(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_free(port: int) -> bool:
    """Whether a server could listen on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens on the port, e.g. "postgres (pid 412)"; "" when that cannot be known."""
    try:
        for row in psutil.net_connections("tcp"):
            if (
                row.status == psutil.CONN_LISTEN
                and row.laddr
                and row.laddr.port == port
                and row.pid
            ):
                return f"{psutil.Process(row.pid).name()} (pid {row.pid})"
    except psutil.Error:
        return ""  # other people's processes are not ours to see
    return ""


def check(ports: Ports, parts: list[str]) -> None:
    """Raises StackError that names every taken port, who has it, and the variable to change."""
    _check_different(ports, parts)
    taken = [(name, getattr(ports, name)) for name in parts if not is_free(getattr(ports, name))]
    if not taken:
        return
    lines = [_describe(name, port) for name, port in taken]
    others = (f"{VARIABLES[name]}={_other(port)}" for name, port in taken)
    cure = f"stop what uses them, or choose others: {' '.join(others)} make run"
    raise StackError("; ".join(lines), cure)


def _other(port: int) -> int:
    return port + 10_000 if port < 55_000 else port - 10_000


def _check_different(ports: Ports, parts: list[str]) -> None:
    for one, other in combinations(parts, 2):
        if (port := getattr(ports, one)) == getattr(ports, other):
            said = f"{VARIABLES[one]} and {VARIABLES[other]} are both {port}"
            raise StackError(said, "give each a port of its own")


def _describe(name: str, port: int) -> str:
    who = holder(port)
    return f"port {port} ({name.replace('_', ' ')}, {VARIABLES[name]}) is taken" + (
        f" by {who}" if who else ""
    )
