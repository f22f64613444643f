"""`python -m taskqueue_api.access new --scopes read,submit`: makes a key, shows it once, and tells the file's line."""

import argparse
import sys
from collections.abc import Sequence

from taskqueue.requests import instant
from taskqueue_api.access.keys import new_key, parse_scopes
from taskqueue_api.access.scopes import Scope


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit codes: 0 made, 2 asked for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m taskqueue_api.access", description="Keys of the API.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    new = commands.add_parser("new", help="make a key")
    new.add_argument("--scopes", required=True, type=_scopes, help=f"some of {','.join(Scope)}")
    new.add_argument("--expires", type=_time, help="when it ends, such as 2027-01-31T00:00:00Z")
    asked = parser.parse_args(arguments)
    key, line = new_key(asked.scopes, asked.expires)
    sys.stdout.write(f"The key, which is shown this once:\n{key}\n\n")
    sys.stdout.write(f"Its line for the file that TASKQUEUE_API_KEYS_FILE names:\n{line}\n")


def _scopes(text: str) -> frozenset[Scope]:
    try:
        return parse_scopes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _time(text: str) -> str:
    try:
        instant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.replace(" ", "T")


if __name__ == "__main__":
    main()
