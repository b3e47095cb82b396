"""`python -m devstack run|doctor`: what stands behind `make run` and `make doctor`."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".rein"), help="the state folder")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start everything and run a goal")
    run.add_argument("--goal", default="", help="sent to the stack that runs already, if any")
    run.add_argument("--once", action="store_true", help="stop after the result")
    doctor = commands.add_parser("doctor", help="what is there, what is missing, how to get it")
    doctor.add_argument("--quick", action="store_true", help="without probing a Temporal server")
    asked = parser.parse_args(arguments)
    if asked.command == "run":
        from devstack.run import run as start  # noqa: PLC0415  (doctor must work when this fails)

        return start(asked.goal, once=asked.once, state=asked.state)
    from devstack.doctor import examine  # noqa: PLC0415

    return examine(asked.state, quick=asked.quick)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # while it is still importing
        sys.exit(130)
