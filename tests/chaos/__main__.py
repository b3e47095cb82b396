"""`python -m tests.chaos [--seconds N] [--seed N]`: exit code 1 when an invariant is broken."""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import logs
from devstack.stack import Stack
from tests.chaos.play import play
from tests.chaos.report import announcement, report
from tests.chaos.story import Story


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    asked = parser.parse_args()
    story = Story(asked.seed, asked.seconds)
    sys.stdout.write(announcement(story) + "\n\n")
    sys.stdout.flush()
    state = Path(tempfile.mkdtemp(prefix="rein-chaos-"))
    async with Stack(state, latency="document") as stack:
        outcome = await play(stack, story)
    sys.stdout.write(report(outcome) + "\n")
    if outcome.held:
        shutil.rmtree(state)
        return 0
    sys.stdout.write(f"rows, traces and logs are kept in {state}\n")
    return 1


if __name__ == "__main__":
    logs.configure("text")
    code = asyncio.run(main())
    sys.stdout.flush()
    os._exit(code)  # a living temporalio client may abort a usual exit
