"""`python -m api.pseudonym TENANT USER_ID`: the name under which operators find a person's runs.

Temporal and Opik know people by their pseudonyms alone. It needs the installation's own
REIN_PSEUDONYM_KEY, and no database.
"""

import argparse
import sys
from urllib.parse import quote

from domain.runs import pseudonym
from settings import read_settings


def main() -> None:
    """Print the pseudonym, and the address of the person's runs in the Temporal UI."""
    parser = argparse.ArgumentParser(prog="python -m api.pseudonym", description=__doc__)
    parser.add_argument("tenant")
    parser.add_argument("user_id", help="the caller's id of the person")
    asked = parser.parse_args()
    settings = read_settings()
    key = settings.pseudonym_key.get_secret_value()
    user = pseudonym(f"{asked.tenant}/{asked.user_id}", key)
    runs = f"{settings.temporal_ui_url}/namespaces/{quote(settings.temporal_namespace)}/workflows"
    query = quote(f'ReinUser = "{user}"')
    sys.stdout.write(f"{user}\n{runs}?query={query}\n")


if __name__ == "__main__":
    main()
