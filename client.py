"""connect(): the one way to reach Temporal."""

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime

from settings import Settings
from tracing import TracingPlugin

# Metadata of traces that never holds a person's words, so it reaches Opik in every text mode.
PLAIN_METADATA = (
    "accepted_at",
    "locale",
    "manifest",
    "model_version",
    "notice",
    "prompt",
    "prompt_sha256",
    "quality_status",
    "rerun",
    "run_url",
    "user_id",
    "workflow_id",
    "workflow_url",
)


async def connect(
    settings: Settings, *, runtime: Runtime | None = None, lazy: bool = False
) -> Client:
    """A client with Rein's converter and tracing.

    TLS, API key and the like come from Temporal's own variables (TEMPORAL_TLS, TEMPORAL_API_KEY …).
    """
    config = ClientConfig.load_client_connect_config()
    config["target_host"] = settings.temporal_address
    config["namespace"] = settings.temporal_namespace
    return await Client.connect(
        **config,
        data_converter=pydantic_data_converter,
        plugins=[
            TracingPlugin(
                project=settings.opik_project,
                environment=settings.environment,
                untraced=("ReconcileWorkflow",),
                text=settings.trace_text,
                text_key=settings.pseudonym_key.get_secret_value(),
                plain_metadata=PLAIN_METADATA,
            )
        ],
        runtime=runtime,
        lazy=lazy,
    )
