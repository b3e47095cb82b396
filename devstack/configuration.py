"""What the person has configured, in the environment or in .env, and so what is to be started."""

import os
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from devstack.ports import Ports
from devstack.stack import ALL, STEERING, Service

COMET_API = "https://www.comet.com/opik/api"


@dataclass(frozen=True)
class Configuration:
    """`services` is what the stack starts, `env` what the product is told beyond its addresses."""

    services: frozenset[Service]
    env: dict[str, str]
    ports: Ports

    @property
    def ports_needed(self) -> list[str]:
        """The names of the ports that are listened on."""
        several = {
            "api": ["api", "api_operations"],
            "temporal": ["temporal", "temporal_ui"],
            **{name: [name] for name in ("postgres", "gemini", "opik")},
        }
        return [port for name, ports in several.items() if name in self.services for port in ports]


def read_environment(root: Path) -> dict[str, str]:
    """The environment over .env, as the product reads them; empty variables do not count."""
    file = {name: value or "" for name, value in dotenv_values(root / ".env").items()}
    return {name: value for name, value in {**file, **os.environ}.items() if value}


def configure(environment: dict[str, str]) -> Configuration:
    """Leaves out of the stack what the person has already. Raises StackError for a bad port."""
    env = {
        name: value
        for name, value in environment.items()
        if name.startswith(STEERING) or name in ("DATABASE_URL", "TEMPORAL_CLI")
    }
    given: dict[Service, tuple[str, ...]] = {
        "postgres": ("DATABASE_URL",),
        "temporal": ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE"),
        "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GEMINI_BASE_URL"),
        "opik": ("OPIK_URL_OVERRIDE", "OPIK_API_KEY"),
    }
    services = {name for name in ALL if not any(v in env for v in given.get(name, ()))}
    if "opik" not in services:
        env.setdefault("OPIK_URL_OVERRIDE", COMET_API)
        env.setdefault("OPIK_UI_URL", env["OPIK_URL_OVERRIDE"].rstrip("/").removesuffix("/api"))
    return Configuration(frozenset(services), env, Ports.from_environment(environment))
