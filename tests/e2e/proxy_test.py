"""Behind nginx, with the recipes of docs/behind-a-proxy.md as they stand there; and the settings that such a place needs."""
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, STRETCH, Client, KeelbackTest, main, wait_until  # noqa: E402

PAGE = ROOT / "docs" / "behind-a-proxy.md"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
CLIENT = "127.0.0.3"
SOCKET = "/run/keelback/http.sock"  # as the page has it
APP = """
import time, keelback

@keelback.function
def one():
    return 1

@keelback.function
def size(data):
    return len(data)

@keelback.function
def ticks(gate):
    import os
    yield "first"
    while not os.path.exists(gate):
        time.sleep(0.01)
    yield "second"
"""


def recipe(name):
    """The text of the recipe of that name, as it stands on the page."""
    found = re.search(rf"<!-- recipe: {name} -->\n```nginx\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    assert found, f"docs/behind-a-proxy.md has no recipe {name}"
    return found[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Nginx(KeelbackTest):
    def setUp(self):
        if NGINX is None:
            self.skipTest("nginx is not installed (apt-get install nginx-light)")
        super().setUp()

    def proxy(self, name, **replaced):
        """nginx with that recipe, in which only addresses are replaced; returns the port that it listens on."""
        port = free_port()
        text = recipe(name)
        for old, new in {"listen 80;": f"listen 127.0.0.1:{port};", **replaced}.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        home = self.tmp / "nginx"
        home.mkdir()
        temporary = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.getuid() == 0 else ""
        (home / "nginx.conf").write_text(f"{user}\npid {home}/pid;\ndaemon off;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n{text}}}\n")
        process = subprocess.Popen([NGINX, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")],
                                   env={**os.environ, "KEELBACK_TEST_ID": self.test_id}, stderr=subprocess.PIPE, text=True)

        def end():
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30 * STRETCH)

        self.addCleanup(end)

        def listens():
            if process.poll() is not None:
                self.fail(f"nginx ended: {process.stderr.read()}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, "nginx listens")
        return port

    def through(self, port):
        client = Client(f"127.0.0.1:{port}")
        # From an address of its own: 127.0.0.1 is the proxy's.
        client._connect = lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=client.timeout, source_address=(CLIENT, 0))
        host = {"Host": "api.example.com", "Content-Type": "application/json"}
        return lambda method, path, body=None, **headers: client.request(method, path, body=body, headers={**host, **{
            name.replace("_", "-"): value for name, value in headers.items()}})

    def works(self, daemon, port):
        ask = self.through(port)
        self.assertEqual(b"1", ask("POST", "/v1/call/one", "[]").body)

        # A foreign page is refused, ours is not.
        self.assertEqual(200, ask("POST", "/v1/call/one", "[]", Origin="http://api.example.com").status)
        # The client's name: what a client puts in front does not count, nor does the header that nginx does not write.
        invented = {"X_Forwarded_For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
        self.assertEqual(403, ask("POST", "/v1/call/one", "[]", Origin="http://evil.example", **invented).status)
        wait_until(lambda: f"POST /v1/call/one of {CLIENT} is refused with 403." in daemon.log_text(), lambda: f"the client is named: {daemon.log_text()}")
        # nginx lets this machine order things, and not this client.
        for method, path in (("POST", "/v1/reload"), ("GET", "/metrics"), ("GET", "/v1/pool")):
            self.assertEqual(403, ask(method, path, **invented).status)
        self.assertNotIn("6.6.6.6", daemon.log_text())

        # An upload that nginx by itself would refuse (1 MiB), and one that is compressed.
        text = "x" * (8 << 20)
        self.assertEqual(str(len(text)).encode(), ask("POST", "/v1/call/size", f'["{text}"]').body)
        self.assertEqual(415, ask("POST", "/v1/call/one", "[]", Content_Encoding="gzip").status)

        # The first item of a stream is here before the second one is made.
        gate = self.tmp / "gate"
        with socket.create_connection(("127.0.0.1", port), timeout=30 * STRETCH) as stream:
            body = f'["{gate}"]'
            stream.sendall(f"POST /v1/call/ticks HTTP/1.1\r\nHost: api.example.com\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
                           f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
            got = b""
            while b'"first"' not in got:
                piece = stream.recv(4096)
                self.assertTrue(piece, got)
                got += piece
            self.assertNotIn(b'"second"', got)
            gate.touch()
            while piece := stream.recv(4096):
                got += piece
            self.assertIn(b'"second"', got)
            self.assertIn(b"event: end", got)

    def test_the_recipe_for_a_unix_socket_works_as_it_is_written(self):
        path = self.tmp / "http.sock"
        daemon = self.serve(self.app(APP), workers=2, listen=f"unix:{path}", settings={"server.unix_mode": "0660", "server.trusted_proxies": "unix"})
        self.assertEqual(0o660, path.stat().st_mode & 0o7777)
        port = self.proxy("unix", **{SOCKET: str(path)})
        self.works(daemon, port)
        here = Client(f"127.0.0.1:{port}")
        headers = {"Host": "api.example.com", "Content-Type": "application/json", "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
        self.assertEqual(200, here.request("POST", "/v1/reload", headers=headers).status)
        wait_until(lambda: "POST /v1/reload of 127.0.0.1." in daemon.log_text(), lambda: f"the client is named: {daemon.log_text()}")

    def test_the_recipe_for_tcp_works_as_it_is_written(self):
        daemon = self.serve(self.app(APP), workers=2, settings={"server.allowed_hosts": "api.example.com", "server.trusted_proxies": "127.0.0.1"})
        port = self.proxy("tcp", **{"127.0.0.1:8080": daemon.address})
        self.works(daemon, port)
        refused = Client(f"127.0.0.1:{port}").request("POST", "/v1/call/one", body="[]", headers={"Host": "evil.example", "Content-Type": "application/json"})
        self.assertEqual((403, "urn:keelback:http:foreign_host"), (refused.status, refused.json["type"]), refused)
        wait_until(lambda: "POST /v1/call/one of 127.0.0.1 is refused with 403." in daemon.log_text(), lambda: f"the log says so: {daemon.log_text()}")


class Settings(KeelbackTest):
    def test_a_wrong_value_is_named(self):
        for key, value in (("server.trusted_proxies", "10.0.0.0/33"), ("server.trusted_proxies", "127.0.0.1,proxy.internal"), ("server.allowed_hosts", "*"),
                           ("server.allowed_hosts", "http://api.example.com"), ("server.unix_mode", "0999")):
            checked = self.run_cli("config", "check", "--set", f"{key}={value}")
            self.assertEqual(2, checked.returncode, checked)
            self.assertIn(key, checked.stderr)
            self.assertIn(value.rsplit(",", 1)[-1] if key != "server.unix_mode" else "octal", checked.stderr)

    def test_allowed_hosts_change_while_the_daemon_runs(self):
        daemon = self.serve("model", backend="sim")
        client = daemon.client()
        call = lambda: client.request("GET", "/v1/pool", headers={"Host": "api.example.com"}).status  # noqa: E731
        self.assertEqual(403, call())
        self.assertEqual(0, self.run_cli("config", "set", "server.allowed_hosts=api.example.com", "--url", daemon.address).returncode)
        self.assertEqual(200, call())


if __name__ == "__main__":
    main()
