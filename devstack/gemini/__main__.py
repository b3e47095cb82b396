"""`python -m devstack.gemini --port N --ledger FILE.jsonl`."""

import argparse
from pathlib import Path

from devstack.gemini.app import StandIn
from devstack.gemini.server import make_server
from devstack.gemini.watch import LATENCIES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devstack.gemini", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--ledger", type=Path, required=True, help="append-only, one JSON line a call"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", choices=sorted(LATENCIES), default="none")
    args = parser.parse_args()
    app = StandIn(args.ledger, seed=args.seed, latency=args.latency)
    make_server(app, host=args.host, port=args.port).run()


if __name__ == "__main__":
    main()
