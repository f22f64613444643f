"""Asks an API for an audit, and tells what it found: exit code 0 where all balances, 1 where not, 2 for no answer.

`python -m taskqueue_api.audit_check URL [--integrity]`; a key is taken from `TASKQUEUE_API_KEY`, if the API wants one.
"""

import argparse
import json
import os
import sys
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

TIMEOUT_SECONDS: Final = 600
NO_ANSWER: Final = 2
_NAMED: Final = 100


def main() -> None:
    """Prints the audit, and exits."""
    parser = argparse.ArgumentParser(prog="audit", description="Does every accepted task stand where it must?")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="where the API listens")
    parser.add_argument("--integrity", action="store_true", help="have SQLite check the whole file, too")
    arguments = parser.parse_args()
    try:
        report = _ask(arguments.url, integrity=arguments.integrity)
    except (OSError, URLError, ValueError) as error:
        sys.stderr.write(f"no audit: {error}\n")
        sys.exit(NO_ANSWER)
    sys.stdout.write("\n".join(_lines(report)) + "\n")
    sys.exit(0 if report["balanced"] else 1)


def _ask(url: str, *, integrity: bool) -> Any:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"not the URL of an API: {url}")
    key = os.environ.get("TASKQUEUE_API_KEY")
    request = Request(f"{url.rstrip('/')}/audit?integrity={int(integrity)}")  # noqa: S310 - checked
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")  # wherever else it is sent on to
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - checked
            return json.load(response)
    except HTTPError as error:
        with error:
            raise OSError(f"{error.code} {error.read(1000).decode(errors='replace')}") from error


def _lines(report: Any) -> list[str]:
    tasks = dict(report["tasks"])
    accepted = tasks.pop("accepted")
    broker = report["broker"]
    lines = [
        f"{accepted} accepted = " + " + ".join(f"{number} {name}" for name, number in tasks.items()),
        "broker: " + ("does not tell" if broker is None else ", ".join(f"{n} {name}" for name, n in broker.items())),
        "claims: " + ", ".join(f"{number} {name}" for name, number in report["claims"].items()),
    ]
    for check in report["checks"]:
        lines.append(f"{check['invariant']}  {check['verdict']:7}  {check['name']:24}  {check['finding']}")
        lines.extend(f"             {task_id}" for task_id in check["ids"][:_NAMED])
    lines.append("balanced" if report["balanced"] else "DOES NOT BALANCE")
    return lines


if __name__ == "__main__":
    main()
