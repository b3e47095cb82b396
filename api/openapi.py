"""`python -m api.openapi` writes openapi.json; with --check it says whether the file is current."""

import json
import sys
from pathlib import Path

from api.app import create_app
from settings import Settings

FILE = Path(__file__).parent.parent / "openapi.json"


def document() -> str:
    """The contract as it is committed: no environment and no `.env` changes it."""
    return json.dumps(create_app(Settings.model_construct()).openapi(), indent=1) + "\n"


def main(arguments: list[str]) -> str | None:
    """Returns what is wrong, or None."""
    if arguments == ["--check"]:
        current = FILE.exists() and FILE.read_text() == document()
        return None if current else "openapi.json is not current: run `python -m api.openapi`"
    if arguments:
        return f"expected no argument or --check, came {' '.join(arguments)!r}"
    FILE.write_text(document())
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
