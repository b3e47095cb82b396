"""Prompt versions: immutable bodies, and the one of each stage that new runs use."""

from db.pool import Connection
from domain.runs import PromptRef


async def insert_prompt_version(
    conn: Connection, stage: str, version: int, sha256: str, body: str
) -> str:
    """Register a version that a person wrote; return the hash stored under its number.

    A new version is deployed when it is registered. A changed body under an old number changes
    nothing: the hash that comes back differs, and the caller refuses to go on.
    """
    stored: str = await conn.fetchval(
        """
        WITH new AS (
            INSERT INTO prompt_versions (stage, version, sha256, body, deployed_at)
            VALUES ($1, $2, $3, $4, clock_timestamp())
            ON CONFLICT (stage, version) DO NOTHING
            RETURNING sha256
        )
        SELECT sha256 FROM new
        UNION ALL
        SELECT sha256 FROM prompt_versions WHERE stage = $1 AND version = $2
        LIMIT 1
        """,
        stage,
        version,
        sha256,
        body,
    )
    return stored


async def select_prompt_body(conn: Connection, ref: PromptRef) -> str | None:
    """The exact words that a reference names; None when they are not registered."""
    body: str | None = await conn.fetchval(
        "SELECT body FROM prompt_versions WHERE stage = $1 AND version = $2 AND sha256 = $3",
        ref.stage,
        ref.version,
        ref.sha256,
    )
    return body


async def select_current_prompts(conn: Connection) -> dict[str, PromptRef]:
    """The version of each stage that new runs use: the one deployed last."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (stage) stage, version, sha256
          FROM prompt_versions
         WHERE deployed_at IS NOT NULL
         ORDER BY stage, deployed_at DESC, version DESC
        """
    )
    return {row["stage"]: PromptRef(**row) for row in rows}


async def select_prompt(conn: Connection, stage: str, version: int) -> PromptRef | None:
    """A reference to one version, deployed or not."""
    row = await conn.fetchrow(
        "SELECT stage, version, sha256 FROM prompt_versions WHERE stage = $1 AND version = $2",
        stage,
        version,
    )
    return None if row is None else PromptRef(**row)
