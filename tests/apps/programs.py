"""Functions that start programs, in everyday ways, and do not end them when they are stopped."""
import asyncio
import os
import subprocess
import time

import keelback

_helpers = []


def _announce(path, pid):
    with open(f"{path}~", "w") as file:
        file.write(str(pid))
    os.rename(f"{path}~", path)


@keelback.function(interruptible=True)
def helper():
    """Starts a program that later calls are to find, as a library does at its first use."""
    _helpers.append(subprocess.Popen(["sleep", "300"]))
    return _helpers[-1].pid


@keelback.function(interruptible=True)
def popen(path):
    child = subprocess.Popen(["sleep", "300"])
    _announce(path, child.pid)
    while child.poll() is None:
        time.sleep(0.01)


@keelback.function(interruptible=True)
def background(path):
    """The shell that starts it ends at once, so it is nobody's child any more."""
    os.system(f"setsid sleep 300 & echo $! > {path}~; mv {path}~ {path}")
    time.sleep(300)


@keelback.function(interruptible=True)
def run(path):
    subprocess.run(["sh", "-c", f"echo $$ > {path}~; mv {path}~ {path}; sleep 300; true"])


@keelback.function
def system(path):
    """Python does not hear the interrupt before the program ends: the worker is killed."""
    os.system(f"echo $$ > {path}~; mv {path}~ {path}; exec sleep 300")


@keelback.function
async def coroutine(path):
    child = await asyncio.create_subprocess_exec("sleep", "300")
    _announce(path, child.pid)
    await child.wait()
