"""A worker_setup that takes as long as SLOW_START_SETUP_S says, and an import that takes SLOW_START_IMPORT_S."""
import os
import time

import keelback

time.sleep(float(os.environ.get("SLOW_START_IMPORT_S", "0")))


@keelback.worker_setup
def prepare():
    time.sleep(float(os.environ.get("SLOW_START_SETUP_S", "0")))


@keelback.function
def pid():
    return os.getpid()
