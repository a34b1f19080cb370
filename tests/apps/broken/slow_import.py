"""An import that takes its time: BROKEN_IMPORT_S seconds."""

import os
import time

import keelback

time.sleep(float(os.environ.get("BROKEN_IMPORT_S", "30")))


@keelback.function(idempotent=True)
def hello():
    return "hello"
