"""Workers that leave other processes behind, in every way a process can try to get away."""
import ctypes
import os
import subprocess
import time

import keelback


@keelback.function
def child():
    """A child in the worker's own group."""
    return subprocess.Popen(["sleep", "1000"]).pid


@keelback.function
def own_session():
    """A child that called setsid."""
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid


@keelback.function
def daemon():
    """A grandchild whose parent exited after setsid: the classic daemon."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(write_end, str(pid).encode())
            os._exit(0)
        os.close(read_end)
        os.close(write_end)
        time.sleep(1000)
        os._exit(0)
    os.close(write_end)
    text = b""
    while chunk := os.read(read_end, 64):
        text += chunk
    os.close(read_end)
    os.wait()
    return int(text)


@keelback.function
def hold_gil(seconds):
    """A C call that keeps the GIL."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@keelback.function
def work(seconds, began=None):
    """Makes the file `began`, if there is to be one, so that a test can see that the function runs."""
    if began:
        open(began, "w").close()
    time.sleep(seconds)
    return os.getpid()
