"""`make setup`. Standard library only: it runs before anything is installed."""

import sys

# In words that a Python 2 reads: the rest of the package is a SyntaxError to a Python before 3.8.
if sys.version_info < (3, 8):  # noqa: UP036
    sys.exit(
        "\nsetup: Rein needs Python 3.11, 3.12 or 3.13; this is %d.%d\n"  # noqa: UP031
        "  cure: install one and choose it: make setup PYTHON=python3.12" % sys.version_info[:2]
    )
