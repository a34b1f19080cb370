"""Takes a lock around slow work and gives it back only when all goes well: an interrupt leaves it held."""

import threading
import time

import keelback

ledger_lock = threading.Lock()


@keelback.function
def book():
    ledger_lock.acquire()
    time.sleep(0.6)
    ledger_lock.release()
    return "booked"


@keelback.function
def tidy():
    with ledger_lock:
        time.sleep(0.6)
    return "tidied"
