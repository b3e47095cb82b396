"""Prompt versions: their unchangeable texts, and the version of each stage that new runs use."""

from db.pool import Connection
from domain.runs import PromptRef


async def insert_prompt_version(
    conn: Connection, stage: str, version: int, sha256: str, body: str
) -> str:
    """Store a prompt version, and return the hash that is stored for this stage and version.

    A newly stored version is deployed at once. If the version exists already, nothing changes; when
    its text differs, the returned hash differs from `sha256`, and the caller must stop.
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
    """Return the text of exactly this prompt version and hash, or None when it is not stored."""
    body: str | None = await conn.fetchval(
        "SELECT body FROM prompt_versions WHERE stage = $1 AND version = $2 AND sha256 = $3",
        ref.stage,
        ref.version,
        ref.sha256,
    )
    return body


async def select_current_prompts(conn: Connection) -> dict[str, PromptRef]:
    """Return for each stage the prompt version that new runs use: the one deployed last."""
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
    """Return the reference to one prompt version, deployed or not; None when it is not stored."""
    row = await conn.fetchrow(
        "SELECT stage, version, sha256 FROM prompt_versions WHERE stage = $1 AND version = $2",
        stage,
        version,
    )
    return None if row is None else PromptRef(**row)
