"""`python -m devstack.gemini --port N --ledger FILE.jsonl`."""

from pathlib import Path

from devstack.gemini.app import stand_in
from devstack.gemini.state import LATENCIES, State
from devstack.standin import arguments, serve


def main() -> None:
    parser = arguments("python -m devstack.gemini", __doc__)
    parser.add_argument("--ledger", type=Path, required=True, help="gets a JSON line for a call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", choices=sorted(LATENCIES), default="none")
    args = parser.parse_args()
    state = State(args.ledger, seed=args.seed, latency=args.latency)
    serve("gemini", stand_in(state), args.host, args.port)


if __name__ == "__main__":
    main()
