"""A worker process of the local runner: Beam's own, whose log goes to the command and not to the terminal as well."""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

LEVEL = "REELMILL_LOG"


def main(argv: Sequence[str]) -> None:
    """Serves the runner that started this process until it is done."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.getLogger().addHandler(logging.NullHandler())  # else the first warning writes all to the terminal
    options = json.loads(os.environ.get("PIPELINE_OPTIONS") or "{}")
    options.setdefault("default_sdk_harness_log_level", os.environ.get(LEVEL, "WARNING").upper())
    os.environ["PIPELINE_OPTIONS"] = json.dumps(options)
    from apache_beam.runners.worker import sdk_worker_main

    logging.getLogger(sdk_worker_main.__name__).setLevel(logging.ERROR)  # it misses a session file, which none needs
    sdk_worker_main.main(argv)


def _end_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, however that came to die."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv)
