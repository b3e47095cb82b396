"""The whole stack as one object: started in parallel, watched, stopped in order.

`make run`, the tests and the benchmarks use this one. The product meets it only as URLs in `env`.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import httpx

from devstack.keys import ensure_key
from devstack.migrations import ensure_migrated
from devstack.ports import Ports
from devstack.postgres import SUPERUSER, Postgres
from devstack.processes import Child, PidFile, Spec, ready
from devstack.temporal import Temporal, TemporalOptions, answers

ROOT = Path(__file__).parent.parent
Service = Literal["postgres", "temporal", "gemini", "opik", "worker", "shipper", "api"]
ALL: frozenset[Service] = frozenset(get_args(Service))
NEEDS: dict[Service, tuple[Service, ...]] = {
    "worker": ("postgres", "temporal"),
    "shipper": ("postgres",),
    "api": ("postgres", "temporal"),
}
# The API before the worker, what keeps state last.
STOP_ORDER: tuple[tuple[Service, ...], ...] = (
    ("api",),
    ("worker", "shipper"),
    ("gemini", "opik", "temporal"),
    ("postgres",),
)
STEERING = ("REIN_", "OPIK_", "TEMPORAL_", "GEMINI_", "GOOGLE_", "PG")
STAND_IN_NOTICE = (
    "Answers come from a local stand-in for Gemini, not from a language model; "
    "set GEMINI_API_KEY for real ones."
)
Report = Callable[[Service, str, float], None]


class Stack:
    """Started by `async with`, which also stops everything, whatever happened.

    `services` names what to start; the address of one that is left out comes from `env`, which also
    overrides everything that the product's processes are told. `latency` is the model stand-in's.
    """

    def __init__(
        self,
        state: Path,
        *,
        ports: Ports | None = None,
        services: Iterable[Service] = ALL,
        env: Mapping[str, str] | None = None,
        latency: Literal["none", "document"] = "none",
        temporal: TemporalOptions | None = None,
        durable: bool = True,
        report: Report | None = None,
    ) -> None:
        self.state = state.resolve()
        self.ports = ports or Ports.free()
        self.services = frozenset(services)
        self.latency = latency
        self.children: dict[Service, Child] = {}
        # An API key of the tenant `local` with every scope; "" while the API asks for none.
        self.key = ""
        self._watchers: list[asyncio.Task[None]] = []
        self._deaths: asyncio.Queue[Service] = asyncio.Queue()
        self._postgres = Postgres(self.state, self.ports.postgres, durable=durable)
        self.env = _inherited() | self._addresses() | dict(env or {})
        self._report = report or (lambda _service, _state, _seconds: None)
        self._pids = PidFile(self.state / "pids.json")
        self._temporal = Temporal(
            self.state,
            port=self.ports.temporal,
            ui_port=self.ports.temporal_ui,
            http_port=self.ports.temporal_http,
            options=temporal or TemporalOptions(),
        )

    def _addresses(self) -> dict[str, str]:
        ports = self.ports
        env = {
            "REIN_PUBLIC_URL": f"http://127.0.0.1:{ports.api}",
            "REIN_API_PORT": str(ports.api),
            "REIN_API_OPERATIONS_PORT": str(ports.api_operations),
        }
        if "postgres" in self.services:
            env["DATABASE_URL"] = self._postgres.url()
        if "temporal" in self.services:
            env["TEMPORAL_ADDRESS"] = f"127.0.0.1:{ports.temporal}"
            env["TEMPORAL_UI_URL"] = f"http://127.0.0.1:{ports.temporal_ui}"
        if "gemini" in self.services:
            env["GEMINI_BASE_URL"] = f"http://127.0.0.1:{ports.gemini}"
            env["GEMINI_API_KEY"] = "local-stand-in"
            env["REIN_NOTICE"] = STAND_IN_NOTICE
        if "opik" in self.services:
            env["OPIK_URL_OVERRIDE"] = f"http://127.0.0.1:{ports.opik}/api"
            env["OPIK_UI_URL"] = f"http://127.0.0.1:{ports.opik}"
        return env

    @property
    def urls(self) -> dict[str, str]:
        """Addresses by name: api, api_operations, temporal (and _ui, _http), postgres (_admin) …"""
        named = {
            "temporal": "TEMPORAL_ADDRESS",
            "temporal_ui": "TEMPORAL_UI_URL",
            "postgres": "DATABASE_URL",
            "gemini": "GEMINI_BASE_URL",
            "opik": "OPIK_UI_URL",
        }
        # What we start is where we started it, whatever the product is told to use instead.
        known = self.env | self._addresses()
        found = {name: known[variable] for name, variable in named.items() if variable in known}
        found["api"] = f"http://127.0.0.1:{self.ports.api}"
        found["api_operations"] = f"http://127.0.0.1:{self.ports.api_operations}"
        if "temporal" in self.services:
            found["temporal_http"] = self._temporal.http_url
        if "postgres" in self.services:
            found["postgres_admin"] = self._postgres.url(SUPERUSER, "postgres")
        return found

    def client(self, timeout_s: float, *, connections: int = 100) -> httpx.AsyncClient:
        """A caller of the API with the stack's own key."""
        return httpx.AsyncClient(
            base_url=self.urls["api"],
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            trust_env=False,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections),
        )

    @property
    def gemini_ledger(self) -> Path:
        """Every call that the model stand-in served, one JSON line each."""
        return self.state / "gemini.jsonl"

    async def __aenter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)  # passwords, keys and what people wrote are in it
        up = {service: asyncio.Event() for service in self.services}
        try:
            async with asyncio.TaskGroup() as group:
                for service in self.services:
                    group.create_task(self._start_in_turn(service, up))
        except BaseExceptionGroup as failed:
            await self.stop_all()
            raise failed.exceptions[0] from None
        except BaseException:
            await self.stop_all()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.stop_all()

    async def start(self, service: Service) -> None:
        """Starts one part and returns when it answers. Raises StackError."""
        started = time.monotonic()
        self._report(service, "starting", 0)
        try:
            await self._starters()[service]()
        except asyncio.CancelledError:  # Ctrl-C, or another part failed
            self._report(service, "stopped", time.monotonic() - started)
            raise
        except BaseException:
            self._report(service, "failed", time.monotonic() - started)
            raise
        self._report(service, "ready", time.monotonic() - started)

    async def _start_in_turn(self, service: Service, up: dict[Service, asyncio.Event]) -> None:
        for needed in NEEDS.get(service, ()):
            if needed in up:
                await up[needed].wait()
        await self.start(service)
        up[service].set()

    async def stop(self, service: Service) -> None:
        """Stops one part as an operator would; nothing happens when it does not run."""
        if child := self.children.get(service):
            await child.stop()
            self._forget(service)

    async def kill(self, service: Service) -> None:
        """kill -9."""
        await self.children[service].kill()
        self._forget(service)

    async def restart(self, service: Service) -> None:
        """Stop, then start."""
        await self.stop(service)
        await self.start(service)

    def pid(self, service: Service) -> int:
        """The process id. Raises KeyError when the part does not run."""
        return self.children[service].pid

    async def stop_all(self) -> None:
        """Stops everything in order; a part that does not stop is killed."""
        for layer in STOP_ORDER:
            await asyncio.gather(*(self.stop(service) for service in layer))
        await asyncio.gather(*self._watchers)
        self._watchers.clear()

    def kill_now(self) -> None:
        """kill -9 for everything, without waiting: whoever stops the stack sees it end."""
        for child in self.children.values():
            child.kill_now()

    def stop_leftovers(self) -> list[str]:
        """Ends what an earlier, killed supervisor of this state folder left; returns the names."""
        return self._pids.stop_leftovers()

    async def any_death(self) -> Service:
        """Waits until a part ends that nobody stopped; returns its name."""
        return await self._deaths.get()

    def _forget(self, service: Service) -> None:
        self.children.pop(service, None)
        self._pids.write(self._named())

    def _keep(self, service: Service, child: Child) -> None:
        self.children[service] = child
        self._watchers.append(asyncio.create_task(self._watch(service, child)))
        self._pids.write(self._named())

    async def _watch(self, service: Service, child: Child) -> None:
        await child.process.wait()
        if not child.stopping:
            self._deaths.put_nowait(service)

    def _named(self) -> dict[str, Child]:
        return {str(name): child for name, child in self.children.items()}

    def _starters(self) -> dict[Service, Callable[[], Awaitable[None]]]:
        return {
            "postgres": self._start_postgres,
            "temporal": self._start_temporal,
            "gemini": self._start_gemini,
            "opik": self._start_opik,
            "worker": self._start_worker,
            "shipper": self._start_shipper,
            "api": self._start_api,
        }

    async def _start_postgres(self) -> None:
        await self._postgres.start(lambda child: self._keep("postgres", child))
        log = self.state / "logs" / "migrations.log"
        await ensure_migrated(self.urls["postgres"], ROOT, log, self.env)

    async def _start_temporal(self) -> None:
        await self._temporal.start(self.env, lambda child: self._keep("temporal", child))

    async def _start_gemini(self) -> None:
        words = ["-m", "devstack.gemini", "--port", str(self.ports.gemini)]
        words += ["--ledger", str(self.gemini_ledger), "--latency", self.latency]
        child = await self._python("gemini", words)
        await ready(child, lambda: answers(f"{self.urls['gemini']}/healthz"), within=30)

    async def _start_opik(self) -> None:
        words = ["-m", "devstack.opik", "--port", str(self.ports.opik)]
        words += ["--store", str(self.state / "opik.db")]
        child = await self._python("opik", words)
        await ready(child, lambda: answers(self.urls["opik"]), within=30)

    async def _start_worker(self) -> None:
        child = await self._python("worker", [str(ROOT / "worker.py")])
        if "temporal" in self.services:
            queue = self.env.get("REIN_TASK_QUEUE", "rein")
            await ready(child, lambda: self._temporal.has_worker(child.pid, queue), within=60)

    async def _start_shipper(self) -> None:
        await self._python("shipper", ["-m", "tracing.ship"])

    async def _start_api(self) -> None:
        child = await self._python("api", ["-m", "api"])
        if not self.key and self.env.get("REIN_AUTH") != "off":
            self.key = await ensure_key(self.state, self.env)
        await ready(child, lambda: answers(f"{self.urls['api_operations']}/readyz"), within=60)

    async def _python(self, service: Service, words: list[str]) -> Child:
        spec = Spec(
            name=service,
            command=[sys.executable, *words],
            log=self.state / "logs" / f"{service}.log",
            # Not the project's folder: a developer's .env there must not steer a test.
            cwd=self.state,
            env=self.env,
        )
        child = await Child.spawn(spec)
        self._keep(service, child)
        return child


def _inherited() -> dict[str, str]:
    """The caller's environment without what steers the product: the stack alone does that."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(STEERING) and name != "DATABASE_URL"
    }
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    # A proxy for the outside world must not stand between the parts.
    local = ",".join(filter(None, [kept.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    return kept | own | {"NO_PROXY": local, "no_proxy": local}
