"""The settings of all processes, read from the environment.

No other module of the product reads the environment. Only modules that start a process call
`read_settings`; the others receive what they need as arguments.
"""

import ipaddress
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

# This key is public, so it must only protect data that stays on one machine.
PUBLIC_KEY = SecretStr("rein-local")


class Settings(BaseSettings):
    """Every setting with its environment variable and its default value.

    The file `.env.example` is generated from this class.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    database_url: str = Field(
        default="postgresql://rein@127.0.0.1:5433/rein",
        validation_alias="DATABASE_URL",
        description="PostgreSQL 15 or newer; no extension is needed",
    )
    database_pool: int = Field(
        default=10, ge=2, validation_alias="REIN_DATABASE_POOL", description="Connections a process"
    )

    # The Temporal SDK itself reads TLS and API keys from the usual TEMPORAL_* variables
    # (envconfig).
    temporal_address: str = Field(
        default="127.0.0.1:7233", validation_alias="TEMPORAL_ADDRESS", description="Frontend"
    )
    temporal_namespace: str = Field(
        default="default", validation_alias="TEMPORAL_NAMESPACE", description="Namespace"
    )
    temporal_ui_url: str = Field(
        default="http://127.0.0.1:8233",
        validation_alias="TEMPORAL_UI_URL",
        description="For links into the Temporal UI",
    )
    task_queue: str = Field(
        default="rein", validation_alias="REIN_TASK_QUEUE", description="Workflows and activities"
    )

    gemini_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        description="Without it, `make run` starts a local stand-in",
    )
    gemini_base_url: str | None = Field(
        default=None,
        validation_alias="GEMINI_BASE_URL",
        description="Another address than Google's; the stand-in sets it",
    )
    model: str = Field(
        default="gemini-3.5-flash-lite",
        validation_alias="REIN_MODEL",
        description="The model of new runs",
    )
    model_timeout_s: float = Field(
        default=60,
        gt=0,
        validation_alias="REIN_MODEL_TIMEOUT_S",
        description="The longest one model call may take",
    )
    quality_threshold: float = Field(
        default=6,
        ge=0,
        le=10,
        validation_alias="REIN_QUALITY_THRESHOLD",
        description="Below it a resolution is revised once",
    )

    # Opik's own client reads its address, API key, workspace and project from the same variables.
    opik_url: str = Field(
        default="http://127.0.0.1:5173/api",
        validation_alias="OPIK_URL_OVERRIDE",
        description="Opik's API",
    )
    opik_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="OPIK_API_KEY",
        description="For Comet's cloud; none for a local one",
    )
    opik_workspace: str = Field(
        default="default", validation_alias="OPIK_WORKSPACE", description="Workspace"
    )
    opik_project: str = Field(
        default="rein-ai-coaching",
        validation_alias="OPIK_PROJECT_NAME",
        description="Project of all traces",
    )
    opik_ui_url: str = Field(
        default="http://127.0.0.1:5173",
        validation_alias="OPIK_UI_URL",
        description="For links into Opik's pages",
    )
    trace_text: Literal["full", "redacted", "none"] = Field(
        default="full",
        validation_alias="REIN_TRACE_TEXT",
        description="How much personal text goes to Opik",
    )

    environment: str = Field(
        default="local",
        pattern=r"^[A-Za-z0-9._-]{1,40}$",
        validation_alias="REIN_ENVIRONMENT",
        description="Stands on every trace and in every API key",
    )
    public_url: str = Field(
        default="http://127.0.0.1:8000",
        pattern=r"^https?://[^/\s]+",
        validation_alias="REIN_PUBLIC_URL",
        description="The API as callers see it: for links, and the only host that is served",
    )
    api_host: str = Field(
        default="127.0.0.1",
        validation_alias="REIN_API_HOST",
        description="Where the API listens for callers",
    )
    api_port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        validation_alias="REIN_API_PORT",
        description="Its port for callers",
    )
    api_operations_host: str = Field(
        default="127.0.0.1",
        validation_alias="REIN_API_OPERATIONS_HOST",
        description="Where it serves /readyz and /metrics, which are not for callers",
    )
    api_operations_port: int = Field(
        default=8001,
        ge=0,
        le=65535,
        validation_alias="REIN_API_OPERATIONS_PORT",
        description="The port of /readyz and /metrics",
    )
    notice: str = Field(
        default="",
        validation_alias="REIN_NOTICE",
        description="A sentence shown on every page and trace, e.g. of a stand-in",
    )
    pseudonym_key: SecretStr = Field(
        default=PUBLIC_KEY,
        validation_alias="REIN_PSEUDONYM_KEY",
        description="Keys the pseudonyms of users in Temporal and Opik; set your own, keep it",
    )
    auth: Literal["keys", "off"] = Field(
        default="keys",
        validation_alias="REIN_AUTH",
        description="`off` lets everybody in: on this machine alone, in the environment `local`",
    )
    key_pepper: SecretStr = Field(
        default=PUBLIC_KEY,
        validation_alias="REIN_KEY_PEPPER",
        description="Keys what is stored of API keys; set your own, keep it: no key outlives it",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        validation_alias="REIN_LOG_FORMAT",
        description="Log lines for people or for machines",
    )
    max_cached_workflows: int = Field(
        default=1000,
        ge=0,
        validation_alias="REIN_MAX_CACHED_WORKFLOWS",
        description="0 replays every workflow task from its history: for tests",
    )
    worker_metrics: str = Field(
        default="",
        validation_alias="REIN_WORKER_METRICS",
        description="host:port for the worker's Prometheus page",
    )
    shipper_alive: str = Field(
        default="",
        validation_alias="REIN_SHIPPER_ALIVE",
        description="A file that the shipper touches while it works, for health checks",
    )


def read_settings() -> Settings:
    """Read the settings from the environment and from `.env`.

    A wrong variable ends the process with a message that names it (SystemExit), without a
    traceback.
    """
    try:
        return Settings()
    except ValidationError as error:
        # The message leaves the variable's value out, because it may be a secret.
        wrong = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SystemExit("settings: " + "; ".join(wrong)) from None


def read_pepper(settings: Settings) -> SecretStr:
    """Return the secret key (pepper) with which the secrets of API keys are hashed.

    The default value is public, so it ends every process outside of the environment `local`
    (SystemExit).
    """
    if settings.environment != "local" and settings.key_pepper == PUBLIC_KEY:
        raise SystemExit(
            "settings: REIN_KEY_PEPPER is not set, and its default is public: set a long random "
            f"text in the environment {settings.environment!r}, and keep it"
        )
    return settings.key_pepper


def auth_mode(settings: Settings, host: str) -> Literal["keys", "off"]:
    """Return whether the API that listens on `host` asks its callers for API keys.

    Risky settings end the process (SystemExit): `off` with another environment than `local` or with
    an address that other machines can reach, and `keys` with the public pepper.
    """
    if settings.auth == "keys":
        read_pepper(settings)
    elif settings.environment != "local":
        raise SystemExit(
            "settings: REIN_AUTH=off is obeyed in the environment 'local' alone, "
            f"and this is {settings.environment!r}: make API keys with `python -m api.keys`"
        )
    elif not _is_loopback(host):
        raise SystemExit(
            "settings: REIN_AUTH=off is obeyed on this machine's own addresses alone, "
            f"and the API is to listen on {host!r}: listen on 127.0.0.1, or use API keys"
        )
    return settings.auth


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
