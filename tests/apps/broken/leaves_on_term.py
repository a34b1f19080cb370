"""A worker that takes a signal for its own: SIGTERM is the supervisor's to obey, and may reach a worker by accident."""

import os
import signal

import keelback


@keelback.worker_setup
def leave_when_told():
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(0))


@keelback.function(idempotent=True)
def hello():
    return "hello"
