"""The append-only ledger: one JSON line for every call that was served, refused or abandoned."""

import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from devstack.gemini.protocol import Ask, Json, Usage


class Ledger:
    """Lines are written before the answer leaves: the file is what the provider would bill."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.recent: deque[Json] = deque(maxlen=40)
        self._last = max((line["n"] for line in self.lines()), default=0)
        self._file = path.open("a", encoding="utf-8")

    def next(self) -> int:
        """The number of a call that has just arrived; numbers go on across restarts."""
        self._last += 1
        return self._last

    def write(self, n: int, ask: Ask, usage: Usage | None, **more: object) -> None:
        """`usage` is None for a call without an answer; others are billed, arrived or not."""
        used = usage or Usage(0)
        line: Json = {
            "n": n,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "model": ask.model.name,
            "prompt_tokens": used.prompt,
            "candidates_tokens": used.candidates,
            "thoughts_tokens": used.thoughts,
            "served": usage is not None,
            "sha256": ask.sha256,
            **more,
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self.recent.append(line)

    def lines(self, since: int = 0) -> Iterator[Json]:
        """Every whole line with n > since. A last line torn by a kill is passed over."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for text in file:
                if text.endswith("\n"):
                    line: Json = json.loads(text)
                    if line["n"] > since:
                        yield line

    def close(self) -> None:
        self._file.close()
