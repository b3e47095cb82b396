"""`.env.example` is made from settings.py."""

from pathlib import Path

from pydantic import SecretStr

from settings import Settings

ROOT = Path(__file__).parents[2]


def env_example() -> str:
    """Every setting with what it means and its default."""
    lines = [
        "# Copy to .env and change what you need: everything works as it is, with local stand-ins.",
    ]
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        name = alias if isinstance(alias, str) else alias.choices[0]  # type: ignore[union-attr]
        default = field.default
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        lines += ["", f"# {field.description}", f"#{name}={'' if shown is None else shown}"]
    return "\n".join(lines) + "\n"


def test_the_example_tells_every_setting() -> None:
    assert (ROOT / ".env.example").read_text() == env_example()
