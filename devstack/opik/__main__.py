"""`python -m devstack.opik --port N --store FILE [--host 127.0.0.1] [--id-window off|24h]`."""

import argparse
from pathlib import Path

import uvicorn

from devstack.opik.app import Receiver
from devstack.opik.rules import Rules
from devstack.opik.serving import config, listen
from devstack.opik.store import Store


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m devstack.opik", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--store", type=Path, required=True, help="SQLite file, made if missing")
    parser.add_argument("--id-window", choices=["off", "24h"], default="off")
    asked = parser.parse_args()
    listener = listen(asked.host, asked.port)
    receiver = Receiver(Store(asked.store), Rules(asked.id_window))
    print(f"opik receiver: http://{asked.host}:{listener.getsockname()[1]}/api", flush=True)
    uvicorn.Server(config(receiver)).run(sockets=[listener])


if __name__ == "__main__":
    main()
