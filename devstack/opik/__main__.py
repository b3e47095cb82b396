"""`python -m devstack.opik --port N --store FILE [--host 127.0.0.1] [--id-window off|24h]`."""

from pathlib import Path

from devstack import standin
from devstack.opik.app import receiver
from devstack.opik.rules import Rules
from devstack.opik.store import Store


def main() -> None:
    """Serve until stopped."""
    parser = standin.arguments("python -m devstack.opik", __doc__)
    parser.add_argument("--store", type=Path, required=True, help="SQLite file, made if missing")
    parser.add_argument("--id-window", choices=["off", "24h"], default="off")
    asked = parser.parse_args()
    app = receiver(Store(asked.store), Rules(asked.id_window))
    standin.serve("opik", app, asked.host, asked.port)


if __name__ == "__main__":
    main()
