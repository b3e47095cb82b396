"""`python -m api.openapi` writes openapi.json.

With --check the command fails if the file is not current.
"""

import json
import sys
from pathlib import Path

from api.app import create_app
from settings import Settings

FILE = Path(__file__).parent.parent / "openapi.json"


def document() -> str:
    """Return the OpenAPI document as JSON.

    The document is made with the default settings, so that environment variables and `.env` do not
    change it.
    """
    return json.dumps(create_app(Settings.model_construct()).openapi(), indent=1) + "\n"


def main(arguments: list[str]) -> str | None:
    """Write or check openapi.json. Return an error message, or None on success."""
    if arguments == ["--check"]:
        current = FILE.exists() and FILE.read_text() == document()
        return None if current else "openapi.json is not current: run `python -m api.openapi`"
    if arguments:
        return f"expected no argument or --check, came {' '.join(arguments)!r}"
    FILE.write_text(document())
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
