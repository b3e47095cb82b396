"""What one check found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`cure` is the one command or step that mends it; only "missing" fails the doctor."""

    level: Literal["ok", "warn", "missing"]
    name: str
    what: str
    cure: str = ""
