"""What a machine happens to export changes no test: every test file, and so everything that it starts, has the environment that is made here.

`tests/support/environment.cpp` does the same for the GoogleTest programs.
"""
import os
import sys

# Other Pythons, other words in messages, settings of the user's own pool, a service manager that waits.
_DROPPED = ("PYTHON", "PYENV_", "VIRTUAL_ENV", "CONDA_", "LC_", "LANGUAGE", "NOTIFY_SOCKET", "LISTEN_", "KEELBACK_TOKEN", "KEELBACK_URL",
            "KEELBACK_PYTHON_DIR", "KEELBACK_WORKER", *(f"KEELBACK_{section}_" for section in (
                "ATTACHMENTS", "BREAKER", "CALLS", "LOG", "POOL", "QUARANTINE", "SERVER", "SESSIONS", "WORKERS")))


def settle():
    """Makes this process' environment that of a test. The interpreter that runs the test is the python3 of what it starts."""
    for name in list(os.environ):
        if name.startswith(_DROPPED):
            del os.environ[name]
    os.environ["LANG"] = "C.UTF-8"
    os.environ["KEELBACK_INSPECTABLE"] = "1"  # so that a test may look into a daemon of its own user
    os.environ["PATH"] = ":".join([os.path.dirname(sys.executable), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
