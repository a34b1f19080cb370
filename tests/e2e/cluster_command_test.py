"""What people and programs see of a cluster: keelback cluster, /v1/cluster, /readyz, /metrics."""
import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, STRETCH, KeelbackTest, main, wait_until  # noqa: E402
from postgres_server import Missing, PostgresServer, free_port  # noqa: E402

APP = ROOT / "examples" / "counter.py"
KEEPALIVES = "?keepalives_idle=30&keepalives_interval=10&keepalives_count=3"  # as in docs/cluster.md
OK, OUTCOME, CONFIGURATION = 0, 1, 2


class Faces(KeelbackTest):
    def setUp(self):
        super().setUp()
        try:
            self.database = PostgresServer({"synchronous_commit": "off"}, pooled=False)
        except Missing as missing:
            raise unittest.SkipTest(str(missing)) from None
        self.addCleanup(self.database.close)

    def start(self, name):
        port = free_port()
        return self.serve(APP, workers=1, backend="python", listen=f"127.0.0.1:{port}",
                          settings={"cluster.store": self.database.url() + KEEPALIVES, "cluster.node": name, "cluster.advertise": f"http://127.0.0.1:{port}",
                                    "cluster.token": "token-of-tests", "cluster.lease": f"{int(1000 * STRETCH)}ms",
                                    "sessions.snapshot": "each_call"})

    def cluster(self, code, command, daemon, *args):
        done = self.run_cli("cluster", command, "--url", daemon.address, *args)
        self.assertEqual(code, done.returncode, f"{done.stdout}\n{done.stderr}")
        return done

    def status(self, daemon):
        return json.loads(self.cluster(OK, "status", daemon, "--json").stdout)

    def test_the_nodes_and_what_the_database_may_lose_are_shown(self):
        a, b = self.start("a"), self.start("b")
        both = wait_until(lambda: len((s := self.status(a))["nodes"]) == 2 and s["serves_sessions"] and s, "a sees b")
        self.assertEqual(("a", "member", True), (both["node"], both["phase"], both["database"]["up"]))
        self.assertEqual([("a", True), ("b", False)], [(node["name"], node["self"]) for node in both["nodes"]])
        self.assertEqual([f"http://{a.address}", f"http://{b.address}"], [node["url"] for node in both["nodes"]])
        self.assertEqual(both, {**a.client().get("/v1/cluster").json, "counters": both["counters"]})
        self.assertIn("synchronous_commit is off", str(both["database"]["weaknesses"]))  # and fsync, which the tests' server has off
        self.assertIn("synchronous_commit is off", str(a.client().get("/readyz").json["degraded"]))
        text = self.cluster(OK, "status", a).stdout
        self.assertRegex(text, r"(?m)^node +a \(member\)$")
        self.assertRegex(text, r"(?m)^a \(this\) +serving +http://")
        self.assertRegex(text, r"(?m)^b +serving +http://")
        self.assertIn("it may lose what it acknowledged: fsync is off", text)
        self.assertIn("synchronous_commit is off", text)

    def test_a_database_that_is_away_is_degraded_and_its_return_is_seen(self):
        node = self.start("a")
        wait_until(lambda: self.status(node)["serves_sessions"], "it is a member")
        self.database.stop()
        reply = wait_until(lambda: (r := node.client().get("/readyz")) and "does not answer" in str(r.json.get("degraded")) and r, "it is degraded")
        self.assertEqual(200, reply.status)
        self.assertIn("does not answer", str(node.client().get("/v1/pool").json["degraded"]))
        self.assertIn("keelback_cluster_database_up 0\n", node.client().get("/metrics").body.decode())
        self.assertRegex(self.cluster(OK, "status", node).stdout, r"(?m)^database +does not answer$")
        self.assertIn("degraded: the database of the cluster does not answer", self.run_cli("status", "--url", node.address).stdout)
        self.database.start()
        wait_until(lambda: self.status(node)["database"]["up"], "the database answers again")
        wait_until(lambda: "keelback_cluster_database_up 1\n" in node.client().get("/metrics").body.decode(), "the metric says so")

    def test_a_drain_moves_the_sessions_and_the_node_leaves(self):
        a, b = self.start("a"), self.start("b")
        self.assertEqual(1, wait_until(lambda: (r := a.client().call("count", session="ann")).status == 200 and r, "a serves").json)
        told = json.loads(self.cluster(OK, "drain", a, "--json").stdout)
        self.assertEqual({"draining": True, "node": "a", "sessions": 1}, told)
        self.assertEqual(0, a.process.wait(60 * STRETCH))
        reply = wait_until(lambda: (r := b.client().call("count", session="ann")).status == 200 and r, "b has the session")
        self.assertEqual(2, reply.json)
        wait_until(lambda: [node["name"] for node in self.status(b)["nodes"]] == ["b"], "a has left")


    def test_a_node_loads_the_client_library_of_postgresql(self):
        node = self.start("a")
        wait_until(lambda: self.status(node)["serves_sessions"], "it is a member")
        self.assertTrue(maps_libpq(node.pid))


def maps_libpq(pid):
    return any("/libpq." in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


class Alone(KeelbackTest):
    def test_a_daemon_that_is_no_node_loads_no_client_library_of_postgresql(self):
        """No function of a library that is not there can be called. Faces shows that a node has it."""
        daemon = self.serve(APP, workers=1, backend="python", wait="ready", settings={"sessions.snapshot": "each_call"})
        client = daemon.client()
        self.assertEqual([1, 2], [client.call("count", session="ann").json for _ in range(2)])
        self.assertEqual("hello", client.call("hello").json)
        self.assertEqual(404, client.get("/v1/cluster").status)
        self.assertIn("/keelback", Path(f"/proc/{daemon.pid}/maps").read_text())
        self.assertFalse(maps_libpq(daemon.pid))

    def test_a_node_with_a_store_of_its_own_is_refused(self):
        settings = {"cluster.store": "postgres://127.0.0.1:1/none", "cluster.advertise": "http://127.0.0.1:1", "cluster.token": "t",
                    "sessions.store": "sqlite:sessions.db"}
        file = self.tmp / "keelback.toml"
        file.write_text("".join(f'{key} = "{value}"\n' for key, value in settings.items()))
        for command in (["config", "check", "--config", str(file)],
                        ["serve", str(APP), "--listen", "127.0.0.1:0", "--config", str(file)]):
            done = self.run_cli(*command)
            self.assertEqual(CONFIGURATION, done.returncode, done.stderr)
            self.assertIn("cluster.store is set, so the states of sessions are kept there", done.stdout + done.stderr)
        self.assertFalse((self.tmp / "sessions.db").exists())

    def test_a_daemon_that_is_no_node_is_neither_shown_nor_drained(self):
        daemon = self.serve(APP, workers=1, backend="sim")
        for command in ("status", "drain"):
            done = self.run_cli("cluster", command, "--url", daemon.address)
            self.assertEqual(OUTCOME, done.returncode)
            self.assertIn("cluster.store is not set", done.stderr)
        self.assertFalse(daemon.client().get("/v1/pool").json["draining"])


if __name__ == "__main__":
    main()
