"""The soak: open-loop load on a real daemon while workers are killed, stopped, held, recycled, reloaded and reconfigured, and clients vanish.

Every loss must be explained by a fault that touched its worker, every effect must agree with an append-only ledger, and in the end nothing may be
left: no process, no descriptor, no growing memory. Where the application has functions whose calls share workers, they are in the load: some of them
block the loop, never end, or die, and what the others hear of it must be true. KEELBACK_SOAK_SECONDS is the length (60; of the one with Python 300); the seed is printed, and KEELBACK_SOAK_SEED repeats it
(the same faults in the same order; the machine's own timing is not repeated).
"""
import bisect
import collections
import http.client
import json
import os
import queue
import random
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, STRETCH, KeelbackTest, alive, children_of, descendants, level, main, marked, proc_stat, wait_until  # noqa: E402

SEED = int(os.environ.get("KEELBACK_SOAK_SEED") or int.from_bytes(os.urandom(4), "little"))
RATE = level(100, 200, 400)  # calls a second
DEADLINE_MS = 5000  # of calls that should do well
IDLE_TTL = 4.0  # s: the short one of two that the soak switches between
CALM = {"pool.workers": 4, "workers.drain_timeout": "1s", "workers.max_calls": 0, "calls.grace": "1s", "sessions.idle_ttl": "30m"}
SETTINGS = {**CALM, "breaker.failures": 0, "quarantine.deaths": 0, "calls.idempotency_ttl": "3s", "calls.deadline": "5s", "log.level": "warn",
            "sessions.tombstone_ttl": "1m"}


def seconds(usual):
    return float(os.environ.get("KEELBACK_SOAK_SECONDS", usual))


class Session:
    """One id, one call at a time: what the next answer may be."""

    def __init__(self, id):
        self.id, self.home, self.birth, self.value, self.unsure, self.touched_at = id, None, None, 0, 0, time.monotonic()

    def check(self, reply):
        """An ok reply's count: one more than the last of the same birth, plus the calls whose effect nobody knows."""
        birth, value = reply.headers["Keelback-Birth"], reply.json
        low = 1 + (self.value if birth == self.birth else 0)
        wrong = not low <= value <= low + self.unsure
        said = f"session {self.id}: {value} after {self.value} (+{self.unsure}), birth {birth} after {self.birth}"
        self.birth, self.value, self.unsure, self.home = birth, value, 0, reply.headers["Keelback-Worker"]
        return said if wrong else None


class Books:
    """What was asked and what came of it. Any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.vanished = 0  # calls whose client did not wait
        self.waits, self.refused = [], []  # (when, seconds in the queue); (when, what the refusal said)
        self.tokens = {}  # of the ledger: token -> (least, most) effects
        self.touched = {}  # "slot.generation" -> what was done to it
        self.suspects = []  # (worker, what is said) of calls that died beside others
        self.roles = collections.Counter()  # of calls that died beside others
        self.nested = collections.Counter()  # how calls of calls failed
        self.callers = 0  # calls that make one each, whose outcome only they hear
        self.held_up = set()  # workers that ran a call which blocks the loop, or does not end by itself
        self.short_drain_until = float("inf")  # drains end calls that take 200 ms, as a busy machine's may
        self.drained = []  # (worker, what is said) of calls that a drain did not wait for, though they were not late
        self.lost_homes = []
        self.ended = set()  # sessions that somebody was told to end
        self.wrong = []
        self.latencies = []

    def note(self, message):
        with self.lock:
            self.wrong.append(message)

    def outcome(self, reply):
        with self.lock:
            self.counts[reply.outcome] += 1

    def expect(self, token, least, most):
        with self.lock:
            self.tokens[token] = (least, most)

    def touch(self, worker, fault):
        with self.lock:
            self.touched.setdefault(worker, []).append(fault)

    def faults_of(self, worker):
        with self.lock:
            return list(self.touched.get(worker, ()))


class Load:
    """Calls at planned times, whatever became of the earlier ones; each kind knows how it may end."""

    # kind: how often, and the functions that it needs
    KINDS = {"append": (30, "append"), "echo": (25, "echo"), "count": (25, "count"), "keyed": (5, "append"), "stream": (3, "items"),
             "vanish": (6, "sleep"), "spin": (1.5, "spin"), "hold": (0.7, "hold"),
             "together": (25, "together"), "threads": (6, "threads"), "shared_stream": (3, "together_stream"), "brief_block": (1, "together_block"),
             "nested": (4, "relay"), "nested_together": (4, "relay_together"),
             "cancelled": (0.5, "together"), "interrupted": (0.1, "threads"), "stuck": (0.1, "together_stuck"), "block": (0.1, "together_block"),
             "die": (0.1, "together_die"), "crash": (0.1, "together_crash")}

    def __init__(self, daemon, books, ledger, seed, seconds, saved=False, threads=96):
        self.daemon, self.books, self.ledger, self.seconds = daemon, books, str(ledger), seconds
        self.saved = saved  # sessions outlive their worker
        self.rng = random.Random(seed)
        self.functions = {function["name"] for function in daemon.client().get("/v1/functions").json["functions"]}
        self.kinds = {kind: weight for kind, (weight, function) in self.KINDS.items() if function in self.functions}
        self.jobs = queue.Queue()
        self.sessions = collections.deque(Session(f"s{i}") for i in range(40))
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def run(self):
        for thread in self.threads:
            thread.start()
        begin, at, number = time.monotonic(), 0.0, 0
        kinds, weights = list(self.kinds), list(self.kinds.values())
        while at < self.seconds:
            at += self.rng.expovariate(RATE)
            number += 1
            time.sleep(max(0.0, begin + at - time.monotonic()))
            self.jobs.put((begin + at, number, self.rng.choices(kinds, weights)[0], self.rng.random()))
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join(120 * STRETCH)
            if thread.is_alive():
                self.books.note("a client never heard of its call")
        return number

    def _work(self):
        client = self.daemon.client(60)
        while (job := self.jobs.get()) is not None:
            planned, number, kind, chance = job
            try:
                getattr(self, "_" + kind)(client, number, chance)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.books.note(f"call {number} ({kind}): no answer: {error!r}")
                client = self.daemon.client(60)
            with self.books.lock:
                self.books.latencies.append((kind, time.monotonic() - planned))

    # ---- kinds

    def _append(self, client, number, chance):
        token = f"a{number}"
        reply = client.call("append", [self.ledger, token], deadline_ms=DEADLINE_MS)
        self._settle(reply, number, token)

    def _echo(self, client, number, chance):
        reply = client.call("echo", [number], deadline_ms=DEADLINE_MS)
        self._settle(reply, number)
        if reply.outcome == "ok" and reply.json != number:
            self.books.note(f"call {number} got the answer of another: {reply!r}")

    def _keyed(self, client, number, chance):
        """The same key twice: one effect at most, and one answer."""
        token = f"k{number}"
        replies = [client.call("append", [self.ledger, token], deadline_ms=DEADLINE_MS, Idempotency_Key=token) for _ in range(2)]
        for reply in replies:
            self._settle(reply, number)
        first, second = replies
        self.books.expect(token, int("ok" in (first.outcome, second.outcome)), 1)
        if first.outcome == "ok" and second.outcome != "ok":
            self.books.note(f"call {number}: its key answered ok, then {second!r}")

    def _count(self, client, number, chance):
        with self.books.lock:
            session = self.sessions.popleft() if self.sessions else None
        if session is None:
            return self._echo(client, number, chance)
        try:
            reply = client.call("count", [], session=session.id, deadline_ms=DEADLINE_MS)
            self._settle(reply, number, session=session)
            if reply.outcome == "ok":
                wrong = session.check(reply)
                if wrong:
                    self.books.note(wrong)
            elif reply.json["effect"] != "none":
                session.unsure += 1
            session.touched_at = time.monotonic()
        finally:
            with self.books.lock:
                self.sessions.append(session)

    def _stream(self, client, number, chance):
        self._read_stream(client, number, "items", [60])

    def _shared_stream(self, client, number, chance):
        self._read_stream(client, number, "together_stream", [60, 1])

    def _read_stream(self, client, number, function, arguments):
        """Items in order without a gap; the last event says how it ended."""
        connection = client._connect()
        connection.request("POST", f"/v1/call/{function}", body=json.dumps(arguments),
                           headers={"Content-Type": "application/json", "Accept": "text/event-stream", "Keelback-Deadline-Ms": str(DEADLINE_MS)})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != 200:  # it ended before it began
            problem = json.loads(text)
            with self.books.lock:
                self.books.counts[problem["outcome"]] += 1
            return self._explain(problem, number)
        events = [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":")) for block in text.split("\n\n")]
        events = [event for event in events if event]
        items = [json.loads(event["data"]) for event in events if event.get("event") == "item"]
        if items != list(range(len(items))):
            self.books.note(f"stream {number}: items {items}")
        last = events[-1] if events else {}
        with self.books.lock:
            self.books.counts["ok" if last.get("event") == "end" else json.loads(last.get("data", "{}")).get("outcome", "none")] += 1
        if last.get("event") == "end":
            if len(items) != 60:
                self.books.note(f"stream {number} ended with {len(items)} items")
        elif last.get("event") == "error":
            self._explain(json.loads(last["data"]), number)
        else:
            self.books.note(f"stream {number} has no last event: {text[-200:]!r}")

    def _vanish(self, client, number, chance):
        """A client that leaves: before it has asked, while its call waits or runs, or with the answer unread."""
        token = f"v{number}"
        function, arguments = ("append", [self.ledger, token]) if chance < 0.5 and "append" in self.functions else ("sleep", [300])
        self.books.expect(token, 0, 1)
        connection = client._connect()
        with self.books.lock:
            self.books.vanished += 1
        body = json.dumps(arguments)
        connection.putrequest("POST", f"/v1/call/{function}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if chance % 0.1 < 0.09:  # else: in the middle of its request
            connection.send(body.encode())
        time.sleep(chance % 0.01 * 10)
        if chance % 0.2 < 0.1:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
        connection.close()

    def _spin(self, client, number, chance):
        self._settle(client.call("spin", [3000], deadline_ms=200), number, late=True)

    def _hold(self, client, number, chance):
        self._settle(client.call("hold", [20000], deadline_ms=200), number, late=True)

    # ---- kinds whose calls share workers

    def _together(self, client, number, chance, function="together"):
        """Half of them may run twice, so no death of a neighbour may be theirs."""
        ms = 1 + int(chance * 60)
        again = chance % 0.02 < 0.01
        reply = client.call(function, [ms], deadline_ms=DEADLINE_MS, **({"Keelback_Idempotent": "true"} if again else {}))
        self._settle(reply, number)
        if reply.outcome == "ok" and reply.json != ms:
            self.books.note(f"call {number} got the answer of another: {reply!r}")
        role = (reply.json.get("death") or {}).get("role") if reply.outcome == "worker_died" else None
        if again and role in ("bystander", "suspect"):
            self.books.note(f"call {number} may run twice, was only a {role}, and did not run again: {reply!r}")

    def _threads(self, client, number, chance):
        self._together(client, number, chance, "threads")

    def _nested(self, client, number, chance, function="relay"):
        """A call that makes a call: it ends as that one does, and has no effect twice."""
        token = f"n{number}"
        arguments = ["append", [self.ledger, token]] if "append" in self.functions else ["echo", [number]]
        with self.books.lock:
            self.books.callers += 1
        reply = client.call(function, arguments, deadline_ms=DEADLINE_MS)
        self.books.expect(token, int(reply.outcome == "ok"), 1)
        failed = reply.json["python"] if reply.outcome == "error" else {}
        # The nested call's worker may have died, or all workers may have been held by calls that wait.
        if failed.get("type") == "keelback.CallFailed" and failed["message"].startswith(("worker_died", "overloaded (would_deadlock)")):
            self.books.outcome(reply)
            with self.books.lock:
                self.books.nested[re.match(r"\w+", failed["message"])[0]] += 1
            return
        self._settle(reply, number)

    def _nested_together(self, client, number, chance):
        self._nested(client, number, chance, "relay_together")

    def _brief_block(self, client, number, chance):
        reply = client.call("together_block", [20 + int(chance * 80)], deadline_ms=DEADLINE_MS)
        self._settle(reply, number)
        with self.books.lock:  # two of them take as long as the short drain
            self.books.held_up.add(reply.headers.get("Keelback-Worker") or reply.json.get("worker"))

    def _cancelled(self, client, number, chance):
        self._settle(client.call("together", [20000], deadline_ms=200), number, late=True)

    def _interrupted(self, client, number, chance):
        self._settle(client.call("threads", [20000], deadline_ms=200), number, late=True)

    def _stuck(self, client, number, chance):
        self._settle(client.call("together_stuck", [20000], deadline_ms=200), number, late=True)

    def _block(self, client, number, chance):
        self._settle(client.call("together_block", [20000], deadline_ms=200), number, late=True)

    def _end_worker(self, client, number, chance, function):
        reply = client.call(function, [10 + int(chance * 90)], deadline_ms=DEADLINE_MS)
        if reply.outcome == "worker_died":
            self.books.touch(reply.json["worker"], function)
        self._settle(reply, number)
        if reply.outcome == "ok":
            self.books.note(f"call {number} outlived its death: {reply!r}")
        return reply

    def _die(self, client, number, chance):
        """Nobody can know that it was this call."""
        self._end_worker(client, number, chance, "together_die")

    def _crash(self, client, number, chance):
        """The dying thread leads to this call."""
        reply = self._end_worker(client, number, chance, "together_crash")
        death = (reply.json.get("death") or {}) if reply.outcome == "worker_died" else {}
        alone_to_blame = self.books.faults_of(reply.json["worker"]) == ["together_crash"] if death else False
        if alone_to_blame and death.get("signal") == signal.SIGSEGV and death.get("role") in ("suspect", "bystander"):
            self.books.note(f"call {number} ended its worker and is only a {death['role']}: {reply!r}")

    # ---- how they may end

    def _settle(self, reply, number, token=None, session=None, late=False):
        self.books.outcome(reply)
        if queued := re.search(r"queue;dur=([\d.]+)", reply.headers.get("Server-Timing") or ""):
            with self.books.lock:
                self.books.waits.append((time.monotonic(), float(queued[1]) / 1e3))
        problem = {"outcome": "ok", "effect": "done"} if reply.status == 200 else reply.json
        if token:
            self.books.expect(token, int(problem["effect"] == "done"), int(problem["effect"] != "none"))
        if problem["outcome"] != "ok":
            self._explain(problem, number, session, late)
        elif late:
            self.books.note(f"call {number} outlived its deadline: {reply!r}")

    def _explain(self, problem, number, session=None, late=False):
        outcome, worker, death = problem["outcome"], problem.get("worker"), problem.get("death") or {}
        faults = self.books.faults_of(worker) + self.books.faults_of(session.home if session else None)
        explained = False
        if late and worker:
            with self.books.lock:
                self.books.held_up.add(worker)
        if outcome == "worker_died":
            explained = bool(faults) or (late and death.get("cause") == "killed")  # a drain does not wait for those
            if death.get("role"):
                with self.books.lock:
                    self.books.roles[death["role"]] += 1
            if death.get("role") == "bystander":
                culprit = re.search(r'call \d+ of function "(\w+)" (did not end|blocked the event loop|ended the worker)', death["detail"])
                if culprit and culprit[2] == "ended the worker":  # a signal from outside meets whose step runs just then
                    explained = culprit[1] == "together_crash" or signal.SIGSEGV in faults
                else:
                    late_ones = ("together_stuck", "together_block", "together", "threads")
                    explained = bool(culprit) and (culprit[1] in late_ones or signal.SIGSTOP in faults)
            elif death.get("role") == "suspect":
                with self.books.lock:  # whose fault it was, another caller may still have to hear
                    self.books.suspects.append((worker, f"call {number}: {json.dumps(problem)[:600]}"))
                explained = True
            elif death.get("cause") == "killed" and not explained and time.monotonic() < self.books.short_drain_until:
                explained = "together" in self.functions
            elif death.get("cause") == "killed" and not explained:
                with self.books.lock:  # in a worker that a neighbour held up; that one's caller may still have to hear
                    self.books.drained.append((worker, f"call {number}: {json.dumps(problem)[:600]}"))
                explained = True
            elif "together_die" in faults or "together_crash" in faults:
                explained = True
            elif death.get("cause") == "signal":
                # With the guard a worker's group loses its last parent: the kernel hangs up on one that is stopped.
                hung_up = death["signal"] == signal.SIGHUP and signal.SIGSTOP in faults and "guard" in faults
                explained = death["signal"] in faults or hung_up
        elif outcome == "timeout":
            explained = late or signal.SIGSTOP in faults
        elif outcome == "overloaded":
            explained = problem["effect"] == "none" and problem.get("retry_after_ms", 0) > 0
            if explained and not late:  # 200 ms in all, when waiting alone would take most of them
                with self.books.lock:  # its reason must be true: see check_refusals()
                    self.books.refused.append((time.monotonic(), f"call {number}: {json.dumps(problem)[:600]}"))
        elif outcome == "session_lost":
            with self.books.lock:
                self.books.lost_homes.append((session.id, session.home))
            # Saved after each answer: only a session that died in a call may never have had one.
            explained = session.unsure > 0 if self.saved else session.home is not None
        elif outcome == "session_expired":
            explained = time.monotonic() - session.touched_at > IDLE_TTL * 0.9
            if "ended by request" in problem["detail"]:
                with self.books.lock:
                    explained = session.id in self.books.ended
        if not explained:
            self.books.note(f"call {number} is lost without a reason (faults of its worker: {faults}): {json.dumps(problem)[:600]}")


class Faults:
    """One fault after another, drawn from the seed."""

    KINDS = {"kill": 30, "segv": 5, "pause": 20, "stop": 4, "recycle": 12, "resize": 8, "reload": 3, "configure": 14, "zygote": 3, "guard": 1.5, "end": 5}

    def __init__(self, daemon, books, seed):
        self.daemon, self.books, self.rng = daemon, books, random.Random(seed)
        self.done = collections.Counter()
        self.stopped = []  # pidfds
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        kinds, weights = list(self.KINDS), list(self.KINDS.values())
        deck = self.rng.sample(kinds, len(kinds))  # each kind once, then as chance has it: a short run meets many
        try:
            while not self.over.wait(self.rng.uniform(0.05, 0.5)):
                kind = deck.pop() if deck else self.rng.choices(kinds, weights)[0]
                if getattr(self, "_" + kind)() is not False:
                    self.done[kind] += 1
        except BaseException as error:
            self.books.note(f"the faults ended: {error!r}")
            raise

    def stop(self):
        self.over.set()
        self.thread.join()
        for pidfd in self.stopped:
            self._send(pidfd, signal.SIGCONT)
            os.close(pidfd)

    @staticmethod
    def _send(pidfd, signum):
        try:
            signal.pidfd_send_signal(pidfd, signum)
            return True
        except ProcessLookupError:
            return False

    def _handle(self, pid):
        """A pidfd, or None if the process is gone or was never ours."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        if pid in marked(self.daemon.test_id):
            return pidfd
        os.close(pidfd)
        return None

    def _victim(self):
        up = [w for w in self.daemon.workers() if w["pid"] and w["state"] in ("ready", "busy")]
        worker = self.rng.choice(up) if up else None
        pidfd = self._handle(worker["pid"]) if worker else None
        return (f"{worker['slot']}.{worker['generation']}", pidfd) if pidfd is not None else (None, None)

    def _signal(self, signum, wait=None):
        name, pidfd = self._victim()
        if pidfd is None:
            return False
        self.books.touch(name, signum)  # before it bites
        self._send(pidfd, signum)
        if wait is None:
            os.close(pidfd)
        elif wait < 0:
            self.stopped.append(pidfd)
        else:
            self.over.wait(wait)
            self._send(pidfd, signal.SIGCONT)
            os.close(pidfd)
        return True

    def _kill(self):
        return self._signal(signal.SIGKILL)

    def _segv(self):
        return self._signal(signal.SIGSEGV)

    def _pause(self):
        return self._signal(signal.SIGSTOP, self.rng.uniform(0.02, 0.8))

    def _stop(self):
        return self._signal(signal.SIGSTOP, -1)

    def _process(self, pid):
        pidfd = self._handle(pid) if pid else None
        if pidfd is None:
            return False
        self._send(pidfd, signal.SIGKILL)
        os.close(pidfd)
        return True

    def _zygote(self):
        return self._process(self.daemon.pool()["start"].get("zygote_pid"))

    def _guard(self):
        children = children_of(self.daemon.pid)
        if len(children) != 1:
            return False
        for worker in self.daemon.workers():  # their statuses may be lost with it
            self.books.touch(f"{worker['slot']}.{worker['generation']}", "guard")
        return self._process(children[0])

    def _patch(self, **changes):
        reply = self.daemon.client().request("PATCH", "/v1/config", json.dumps({k.replace("__", "."): v for k, v in changes.items()}),
                                             {"Content-Type": "application/json"})
        if reply.status != 200:
            self.books.note(f"configuration refused: {reply!r}")

    def _recycle(self):
        return self.daemon.client().request("POST", f"/v1/workers/{self.rng.randint(1, 5)}/recycle").status == 202

    def _resize(self):
        self._patch(pool__workers=self.rng.randint(3, 5))

    def _reload(self):
        reply = self.daemon.client().request("POST", "/v1/reload")  # one that a killed zygote or guard spoils may fail, and says so
        return reply.status == 200

    def _configure(self):
        drain = self.rng.choice(["200ms", "2s"])
        if drain == "200ms":
            self.books.short_drain_until = float("inf")
        elif self.books.short_drain_until == float("inf"):
            self.books.short_drain_until = time.monotonic() + DEADLINE_MS / 1000 + 1  # for drains that have begun
        self._patch(sessions__idle_ttl=self.rng.choice([f"{IDLE_TTL}s", "30m"]), calls__grace=self.rng.choice(["300ms", "1s"]),
                    workers__drain_timeout=drain, workers__max_calls=self.rng.choice([0, 100]),
                    server__cancel_on_disconnect=self.rng.choice(["stateless", "always", "never"]))

    def _end(self):
        session = f"s{self.rng.randint(0, 39)}"
        with self.books.lock:
            self.books.ended.add(session)
        return self.daemon.client().request("DELETE", f"/v1/sessions/{session}").status == 204


class Residue:
    """What a daemon at rest holds: compared before and after."""

    def __init__(self, daemon):
        self.descriptors = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in (daemon.pid, *children_of(daemon.pid))}
        self.processes = len(descendants(daemon.pid))
        links = [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon.pid}/fd")
                 if os.path.islink(f"/proc/{daemon.pid}/fd/{fd}")]
        self.memfds = sum("/memfd:" in link for link in links)
        self.strangers = sorted(set(marked(daemon.test_id)) - set(descendants(daemon.pid)) - {daemon.pid})

    def figures(self):
        return {"daemon and guard fds": sorted(self.descriptors.values()), "processes": self.processes, "memfds": self.memfds,
                "strangers": self.strangers}


def rss(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak(KeelbackTest):
    SECONDS = seconds(60)
    SAVED = False  # each session is written down after each of its calls
    FAULTS_LEAST = 5  # kinds of them

    def soak(self, app, backend):
        print(f"\n{backend}: seed {SEED}, {self.SECONDS:.0f} s at {RATE} calls a second; KEELBACK_SOAK_SEED={SEED} repeats it", file=sys.stderr, flush=True)
        store = {"sessions.snapshot": "each_call", "sessions.store": f"sqlite:{self.tmp / 'sessions.db'}"} if self.SAVED else {}
        daemon = self.serve(app, workers=4, backend=backend, settings={**SETTINGS, **store}).prewarm(4)
        for number in range(200):
            daemon.client().call("count", session=f"warm{number % 40}")
        before = self.at_rest(daemon)
        books, ledger = Books(), self.tmp / "ledger"
        load, faults = Load(daemon, books, ledger, SEED, self.SECONDS, self.SAVED), Faults(daemon, books, SEED + 1)
        memory, over = [], threading.Event()

        def watch():
            while not over.wait(self.SECONDS / 60):
                memory.append(rss(daemon.pid))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        faults.thread.start()
        asked = load.run()
        faults.stop()
        over.set()
        watcher.join()
        self.assertIsNone(daemon.process.poll(), daemon.log_text())
        faults._patch(**{key.replace(".", "__"): value for key, value in CALM.items()})
        pool = wait_until(lambda: (p := daemon.pool()) and p["calls"]["in_flight"] == 0 and p, "every call has its outcome", 30)
        after = self.at_rest(daemon, before)
        for number in range(100):
            reply = daemon.client().call("echo", [number])
            self.assertEqual(("ok", number), (reply.outcome, reply.json), "after the faults all is well")
        slow = sorted(seconds for kind, seconds in books.latencies if kind in ("append", "echo"))
        print(f"{backend}: {asked} calls {dict(books.counts)}, {books.vanished} clients left; faults {dict(faults.done)}; roles {dict(books.roles)}; nested {dict(books.nested)}; "
              f"p50 {slow[len(slow) // 2] * 1e3:.1f} ms, p99 {slow[len(slow) * 99 // 100] * 1e3:.0f} ms; "
              f"daemon {memory[len(memory) // 3] >> 10} -> {memory[-1] >> 10} KiB; {after}", file=sys.stderr, flush=True)
        print("\n".join(books.wrong[10:60]), file=sys.stderr, flush=True)  # the first ones are shown below
        self.assertEqual([], books.wrong[:10], f"{len(books.wrong)} things went wrong; seed {SEED}")
        self.check_effects(books, ledger, load)
        self.check_refusals(books)
        self.check_numbers(books, pool)
        self.assertEqual([], [said for worker, said in books.suspects if not books.faults_of(worker)][:10], "suspects of a death without a cause")
        self.assertEqual([], [said for worker, said in books.drained if worker not in books.held_up][:10], "killed in a drain, and nothing held the worker up")
        if self.SAVED:
            self.assertGreater(pool["sessions"]["restored"], 5, "sessions that went on elsewhere")
        live = {f"{w['slot']}.{w['generation']}" for w in daemon.workers()}
        self.assertEqual([], [lost for lost in books.lost_homes if lost[1] in live], "sessions lost while their worker lives")
        third = memory[len(memory) // 3:]
        self.assertLess(third[-1] - third[0], 16 << 20, f"resident bytes, second by second: {memory}")
        self.assertEqual(before, after, "what the daemon holds at rest")
        self.assertGreater(len(faults.done), self.FAULTS_LEAST, faults.done)
        self.assertGreater(books.counts["ok"], asked * 0.7, "the faults did not take the service away")

    def at_rest(self, daemon, expected=None):
        """The residue once every worker is idle and the connections of earlier clients are closed."""
        def calm():
            workers = daemon.pool()["workers"]
            return workers["ready"] == 4 and sum(workers.values()) == 4 and daemon.pool()["start"]["state"] == "up"

        wait_until(calm, "four workers at rest", 30)
        found = [None]

        def same():
            last, found[0] = found[0], Residue(daemon).figures()
            return found[0] == expected if expected else found[0] == last

        try:
            wait_until(same, "the residue settles", 10)
        except AssertionError:
            if not expected:
                raise
        return found[0]

    def check_effects(self, books, ledger, load):
        if "append" not in load.functions:
            return  # the simulator leaves no effects
        done = collections.Counter(ledger.read_text().split())
        self.assertEqual([], [token for token in done if token not in books.tokens], "effects of calls that nobody made")
        wrong = [(token, bounds, done[token]) for token, bounds in books.tokens.items() if not bounds[0] <= done[token] <= bounds[1]]
        self.assertEqual([], wrong[:10], f"(token, least and most effects, effects in the ledger): {len(wrong)} are wrong; seed {SEED}")
        self.assertGreater(len(done), 50)

    def check_refusals(self, books):
        """A load that the machine does not carry is refused, not delayed. What a refusal says of the queue must be so: at that time
        a call came out of the queue that had waited as long, or nearly."""
        waits, wrong = sorted(books.waits), []
        for at, said in books.refused:
            claim = re.search(r"Calls wait ([\d.]+)(ms|s) at the moment", said)
            if not claim:
                wrong.append(said)
                continue
            wait = float(claim[1]) / (1000 if claim[2] == "ms" else 1)
            near = waits[bisect.bisect_left(waits, (at - 1,)):bisect.bisect_right(waits, (at + wait + 1,))]
            if not any(waited > wait * 0.5 for _, waited in near):
                wrong.append(f"{said}: the longest wait of those {len(near)} calls: {max((waited for _, waited in near), default=0):.3f} s")
        self.assertEqual([], wrong[:10], f"{len(wrong)} of {len(books.refused)} refusals have no true reason; seed {SEED}")

    def check_numbers(self, books, pool):
        calls = dict(pool["calls"])
        accepted = calls.pop("accepted") - 200  # the warm-up's
        calls["ok"] -= 200
        calls.pop("late")  # counted by their outcome already
        self.assertEqual(accepted, calls.pop("in_flight") + sum(calls.values()))
        for outcome, number in calls.items():
            seen = books.counts[outcome]
            self.assertLessEqual(seen, number, f"{outcome}: seen more often than counted")
            self.assertLessEqual(number, seen + books.vanished + books.callers, f"{outcome}: counted more often than seen")


class Python(Soak):
    SECONDS = seconds(300)

    def test_soak(self):
        self.soak(ROOT / "tests" / "apps" / "conformance.py", "python")


class Fake(Soak):
    def test_soak(self):
        self.soak("standard", "fake")


class Sim(Soak):
    """On model workers: no process to kill, so what kills them are calls."""
    FAULTS_LEAST = 3

    def test_soak(self):
        self.soak("standard", "sim")


class Saved(Soak):
    """The same with snapshots in SQLite: then no death costs a session that has had an answer."""
    SAVED = True

    def test_soak(self):
        self.soak("standard", "fake")


class Short(Soak):
    """The same for a few seconds, so that the slow tier keeps it honest."""
    SECONDS = 6.0

    def test_soak(self):
        self.soak(ROOT / "tests" / "apps" / "conformance.py", "python")


class TwoSupervisors(KeelbackTest):
    """Two daemons on one machine; one is SIGKILLed and restarted again and again."""
    ROUNDS = 50

    def test_one_is_killed_and_restarted_and_the_other_never_notices(self):
        rng = random.Random(SEED)
        print(f"\nseed {SEED}, {self.ROUNDS} rounds", file=sys.stderr, flush=True)
        app = ROOT / "tests" / "apps" / "offspring.py"
        steady_tmp, killed_tmp = self.private / "steady", self.private / "killed"
        steady_tmp.mkdir()
        killed_tmp.mkdir()
        steady = self.serve(ROOT / "tests" / "apps" / "conformance.py", workers=2, tmp=steady_tmp).prewarm(2)
        wrong, counted, over = [], [0], threading.Event()
        homes = {steady.client().call("count", session="steady").headers["Keelback-Worker"]}

        def watch():
            client = steady.client()
            while not over.is_set():
                reply = client.call("count", session="steady")
                counted[0] += 1
                if reply.outcome != "ok" or reply.json != counted[0] + 1:
                    wrong.append(repr(reply))
                homes.add(reply.headers.get("Keelback-Worker"))
                time.sleep(0.005)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        before = Residue(steady).figures()
        slowest = 0.0
        for turn in range(self.ROUNDS):
            daemon = self.serve(app, workers=2, tmp=killed_tmp, wait=rng.choice(["listening", "ready", "ready"]), test_id=f"{self.test_id}-{turn}")
            if rng.random() < 0.8:
                daemon.prewarm(2)
                for function in rng.sample(["child", "own_session", "daemon"], 2):
                    self.assertEqual("ok", daemon.client().call(function).outcome)
                holder = daemon.client()
                threading.Thread(target=lambda h=holder: self._swallow(h), daemon=True).start()
                if rng.random() < 0.7:
                    wait_until(lambda d=daemon: any(w["state"] == "busy" for w in d.workers()), "a worker holds the GIL")
            everybody = {pid: proc_stat(pid)[19] for pid in marked(daemon.test_id) if proc_stat(pid)}
            daemon.kill()
            began = time.monotonic()
            wait_until(lambda e=everybody: not any(alive(pid, start) for pid, start in e.items()), f"round {turn}: every process is gone", 5)
            slowest = max(slowest, time.monotonic() - began)
            self.assertEqual([], marked(daemon.test_id), f"round {turn}")
            daemon.process.stderr.close()
            self.daemons.remove(daemon)
        over.set()
        watcher.join()
        print(f"{self.ROUNDS} rounds; the slowest end took {slowest * 1e3:.0f} ms; the other served {counted[0]} calls on {homes}", file=sys.stderr)
        self.assertEqual([], wrong[:5])
        self.assertEqual(1, len(homes), "its worker was never replaced")
        self.assertEqual(0, steady.pool()["restarts"])
        self.assertEqual(before["strangers"], Residue(steady).figures()["strangers"])
        self.assertEqual(0, steady.stop())
        for directory in (steady_tmp, killed_tmp):
            self.assertEqual([], list(directory.iterdir()), "files left behind")
            directory.rmdir()

    @staticmethod
    def _swallow(client):
        try:
            client.call("hold_gil", [20])
        except (OSError, http.client.HTTPException):
            pass


class TwoSupervisorsShort(TwoSupervisors):
    ROUNDS = 5


if __name__ == "__main__":
    main()
