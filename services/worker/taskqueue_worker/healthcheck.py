"""Asks whether this container's worker is well, by the file that it writes (TASKQUEUE_HEALTH_FILE).

`python -m taskqueue_worker.healthcheck live` answers by exit code whether its event loop turns, `ready` (what is asked
without an argument) whether it also consumes. Standard library alone, so that it starts fast.
"""

import json
import os
import sys
import time
from pathlib import Path

STALE_SECONDS = 15


def main() -> None:
    """For a container's HEALTHCHECK."""
    question = sys.argv[1] if len(sys.argv) > 1 else "ready"
    try:
        noted = json.loads(Path(os.environ["TASKQUEUE_HEALTH_FILE"]).read_text())
        fresh = time.monotonic() - noted["at"] < STALE_SECONDS
        sys.exit(0 if fresh and (question == "live" or noted["ready"]) else 1)
    except (OSError, ValueError, KeyError, TypeError):
        sys.exit(1)


if __name__ == "__main__":
    main()
