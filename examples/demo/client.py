"""What the demonstration needs of HTTP: a keep-alive connection to the daemon, and the daemon itself as a process."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import uuid


class Client:
    """One connection; not for several threads."""

    def __init__(self, address, timeout=60.0):
        self._address, self._timeout, self._connection = address, timeout, None

    def request(self, method, path, body=None, headers=None):
        """(status, headers, JSON). Raises OSError or http.client.HTTPException when the daemon does not answer."""
        if self._connection is None:
            host, _, port = self._address.rpartition(":")
            self._connection = http.client.HTTPConnection(host, int(port), timeout=self._timeout)
        try:
            self._connection.request(method, path, body=body, headers=headers or {})
            reply = self._connection.getresponse()
            data = reply.read()
        except BaseException:
            self.close()
            raise
        if reply.will_close:
            self.close()
        return reply.status, reply.headers, json.loads(data) if data else None

    def get(self, path):
        return self.request("GET", path)[2]

    def call(self, function, session=None, **arguments):
        """(outcome, result or problem, headers) of a call; the outcome is Keelback's word for it."""
        headers = {"Content-Type": "application/json"}
        if session is not None:
            headers["Keelback-Session"] = session
        status, headers, value = self.request("POST", f"/v1/call/{function}", json.dumps(arguments), headers)
        return ("ok" if status == 200 else value.get("outcome", f"http {status}")), value, headers

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Daemon:
    """`keelback serve`, stopped and checked for leftovers by the `with` statement."""

    def __init__(self, command, environment):
        self._mark = f"DEMO_OF_KEELBACK={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        self.lines, self.address = [], None
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        text=True, errors="replace", env={**os.environ, **environment, name: value})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            del self.lines[:-500]
            if self.address is None and "listening on " in line:
                self.address = line.split("listening on ", 1)[1].split()[0].replace("http://", "")

    def wait(self, condition, what, seconds):
        """Polls until condition() is truthy and returns its value. Raises RuntimeError with the daemon's last lines."""
        until = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                raise RuntimeError(f"keelback serve ended with status {self.process.returncode}:\n" + "\n".join(self.lines[-20:]))
            if time.monotonic() > until:
                raise RuntimeError(f"not within {seconds} s: {what}; the daemon said:\n" + "\n".join(self.lines[-20:]))
            time.sleep(0.001)

    def stop(self, seconds=15.0):
        """SIGTERM, then the exit status; None if it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        self._reader.join(2)
        return status

    def left_behind(self, seconds=1.0):
        """Pids of what the daemon started and still lives `seconds` after its end; found by a mark in the environment."""
        until = time.monotonic() + seconds
        while True:
            pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self._marked(pid)]
            if not pids or time.monotonic() > until:
                return pids
            time.sleep(0.005)

    def _marked(self, pid):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return self._mark.encode() in file.read().split(b"\0")
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
