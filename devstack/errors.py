"""What the development stack says when it cannot go on."""

# `make setup` alone believes that what it has installed is still there.
REINSTALL = "rm -rf .venv && make setup"


class StackError(Exception):
    """Cannot go on: `str()` says what is wrong, `cure` what to do about it."""

    def __init__(self, problem: str, cure: str = "", *, details: str = "") -> None:
        super().__init__(problem)
        self.cure = cure
        self.details = details
        if details:
            self.add_note(details)
