"""Asks this container's own API whether it is ready: exit code 0 or 1. Standard library alone: it starts fast."""

import http.client
import os
import sys
from contextlib import closing

TIMEOUT_SECONDS = 3


def main() -> None:
    """For a container's HEALTHCHECK."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ.get("TASKQUEUE_PORT", "8080")), timeout=TIMEOUT_SECONDS
    )
    try:
        with closing(connection):
            connection.request("GET", "/readyz")
            sys.exit(0 if connection.getresponse().status == 200 else 1)  # noqa: PLR2004
    except (OSError, http.client.HTTPException):
        sys.exit(1)


if __name__ == "__main__":
    main()
