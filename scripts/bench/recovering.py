"""A worker that says on stderr when the recovery of its tables begins and ends, for `make bench` to read."""

import logging
import sys

from runtime.settings import Settings
from streams.worker import main as worker

if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(created)f %(message)s"))
    # On the logger itself: Faust puts handlers of its own in place of the root's.
    recovery = logging.getLogger("streams.worker.recovery")
    recovery.setLevel(logging.INFO)
    recovery.addHandler(handler)
    sys.exit(worker.main(Settings()))
