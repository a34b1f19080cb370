"""Attachments and streams over HTTP and the command, on fake workers and on Python."""

import array
import http.client
import json
import os
import re
import socket
import sys
import tempfile
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from keelback_testing import ROOT, KeelbackTest, main, wait_until  # noqa: E402

CONFORMANCE = ROOT / "tests" / "apps" / "conformance.py"
MIB = 1 << 20


def pattern(size, seed=1):
    block = bytes((seed * 31 + i * i) & 0xFF for i in range(4099))
    return (block * (size // len(block) + 1))[:size]


def form(parts):
    """parts: (name, headers, data). The Content-Type and the body."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, headers, data in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n".encode()
        body += "".join(f"{key}: {value}\r\n" for key, value in headers.items()).encode() + b"\r\n" + data + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def parts_of(reply):
    """A reply's parts as {name: (headers, data)}, by an independent reader: this one knows the boundary only."""
    boundary = b"--" + re.search("boundary=(.+)$", reply.headers["Content-Type"]).group(1).encode()
    found = {}
    for piece in reply.body.split(b"\r\n" + boundary):
        piece = piece.removeprefix(boundary)
        if piece.startswith(b"--"):
            break
        head, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        found[re.search('name="([^"]*)"', headers["Content-Disposition"]).group(1)] = headers, data
    return found


class Attached(KeelbackTest):
    BACKEND = "python"

    def serve_conformance(self, **options):
        return self.serve(CONFORMANCE if self.BACKEND == "python" else "standard", backend=self.BACKEND, **options)

    def post(self, client, function, parts, **headers):
        kind, body = form(parts)
        return client.request("POST", f"/v1/call/{function}", body=body,
                              headers={"Content-Type": kind, "Keelback-Attachment": "form", **headers})

    def test_a_form_goes_in_and_a_form_comes_out(self):
        client = self.serve_conformance().client()
        large, small = pattern(MIB), pattern(1000, 2)
        reply = self.post(client, "attach_echo", [
            ("arguments", {"Content-Type": "application/json"}, b"{}"), ("large", {}, large),
            ("array", {"Keelback-Dtype": "int16", "Keelback-Shape": "5,100"}, small)])
        self.assertEqual("ok", reply.outcome, reply)
        parts = parts_of(reply)
        self.assertEqual(["result", "large", "array"], list(parts))
        self.assertEqual([{"$attachment": "large"}, {"$attachment": "array"}], json.loads(parts["result"][1]))
        self.assertTrue(large == parts["large"][1] and small == parts["array"][1])
        self.assertEqual(("int16", "5,100"), (parts["array"][0]["Keelback-Dtype"], parts["array"][0]["Keelback-Shape"]))
        self.assertEqual("1", reply.headers["Keelback-Attempts"])

    def test_octets_go_in_and_come_out(self):
        client = self.serve_conformance().client()
        data = pattern(200_000)
        reply = client.request("POST", "/v1/call/attach_echo", body=data, headers={
            "Content-Type": "application/octet-stream", "Accept": "application/octet-stream", "Keelback-Attachment": "it"})
        self.assertEqual((200, "application/octet-stream", "it"),
                         (reply.status, reply.headers["Content-Type"], reply.headers["Keelback-Attachment"]))
        self.assertTrue(data == reply.body)
        reply = client.request("POST", "/v1/call/attach_make", body=b"x", headers={
            "Content-Type": "application/octet-stream", "Keelback-Attachment": "it", "Keelback-Arguments": "[2, 70000]"})
        self.assertEqual([70000, 70000], [len(parts_of(reply)[name][1]) for name in "01"])

    def test_what_is_said_of_a_file_comes_back(self):
        client = self.serve_conformance().client()
        boundary, name = "b0undary", "na%22ïve\\\\.png"
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
                f"Content-Type: image/png\r\n\r\nPNG\r\n--{boundary}--\r\n").encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Keelback-Attachment": "form"}
        reply = client.request("POST", "/v1/call/attach_echo", body=body, headers=headers)
        said, data = parts_of(reply)["image"]
        self.assertEqual((b"PNG", "image/png"), (data, said["Content-Type"]), reply)
        self.assertIn(f'filename="{name}"', said["Content-Disposition"])
        for accept in ("image/png", "image/*;q=0.5, application/json"):
            reply = client.request("POST", "/v1/call/attach_echo", body=body, headers={**headers, "Accept": accept})
            self.assertEqual((b"PNG", "image/png", "image"),
                             (reply.body, reply.headers["Content-Type"], reply.headers["Keelback-Attachment"]))
            self.assertIn("filename*=UTF-8''na%22%C3%AFve", reply.headers["Content-Disposition"])
        reply = client.request("POST", "/v1/call/attach_echo", body=body, headers={**headers, "Accept": "*/*"})
        self.assertIn("multipart/form-data", reply.headers["Content-Type"], "the result is a list: more than its attachment")

    def test_what_is_refused_says_why(self):
        daemon = self.serve_conformance(settings={"attachments.max": "1KiB"})
        client = daemon.client()
        octets = {"Content-Type": "application/octet-stream"}
        reply = client.request("POST", "/v1/call/attach_sum", body=b"x", headers=octets)
        self.assertEqual((415, True), (reply.status, "no_keelback_header" in reply.json["type"]), reply)
        octets["Keelback-Attachment"] = "it"
        self.assertEqual("too_large", client.request("POST", "/v1/call/attach_sum", body=b"x" * 1025, headers=octets).outcome)
        self.assertEqual("ok", client.request("POST", "/v1/call/attach_sum", body=b"x" * 1024, headers=octets).outcome)
        unknown = self.post(client, "attach_sum", [("x", {"Keelback-Dtype": "float99"}, b"1234")])
        self.assertEqual(("bad_request", 'attachment "x" has the dtype "float99", which attachments do not carry'),
                         (unknown.outcome, unknown.json["detail"]))
        array = self.post(client, "attach_sum", [("x", {"Keelback-Dtype": "float32", "Keelback-Shape": "3"}, b"1234")])
        self.assertEqual('attachment "x" of 4 bytes is no float32 array of shape [3]', array.json["detail"])
        broken = client.request("POST", "/v1/call/attach_sum", body=b"--b\r\n", headers={
            "Content-Type": "multipart/form-data; boundary=b", "Keelback-Attachment": "form"})
        self.assertEqual("bad_request", broken.outcome, broken)
        many = self.post(client, "attach_sum", [(f"n{number}", {}, b"1") for number in range(65)])
        self.assertEqual(("bad_request", "none"), (many.outcome, many.json["effect"]))
        several = self.post(client, "attach_sum", [("1", {}, b"1"), ("", {}, b"2"), ("1", {}, b"3")])
        self.assertEqual([[1, 49], [1, 50], [1, 51]], several.json, "none hides another")
        stray = client.call("echo", [1], Keelback_Dtype="int8")
        self.assertEqual("bad_request", stray.outcome)
        self.assertEqual("error", client.call("attach_make", [1, 2000]).outcome)

    def test_a_client_that_leaves_amid_its_upload_costs_nothing(self):
        daemon = self.serve_conformance(workers=1)
        client = daemon.client()
        self.assertEqual("ok", client.call("echo", [1]).outcome)
        before = daemon.pool()["calls"]["accepted"]
        for _ in range(3):
            with socket.create_connection(daemon.address.rsplit(":", 1)) as leaver:
                leaver.sendall(b"POST /v1/call/attach_sum HTTP/1.1\r\nHost: localhost\r\nKeelback-Attachment: x\r\n"
                               b"Content-Type: application/octet-stream\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 99_999)
        self.assertEqual("ok", client.call("echo", [1]).outcome)
        pool = daemon.pool()
        self.assertEqual((before + 1, {"carried_bytes": 0, "slab_bytes": 0}), (pool["calls"]["accepted"], pool["attachments"]))

    def test_memory_shows_and_goes(self):
        daemon = self.serve_conformance(workers=1, settings={"attachments.keep": "1h"})
        client = daemon.client()
        self.post(client, "attach_sum", [("large", {}, pattern(MIB))])
        self.assertEqual({"carried_bytes": 0, "slab_bytes": MIB}, daemon.pool()["attachments"])
        self.assertIn(f"keelback_attachment_slab_bytes {MIB}", client.get("/metrics").body.decode())
        client.request("PATCH", "/v1/config", body=json.dumps({"attachments.keep": "0s"}),
                       headers={"Content-Type": "application/json"})
        wait_until(lambda: daemon.pool()["attachments"]["slab_bytes"] == 0, "the slab has been given back")
        worker = daemon.workers()[0]["pid"]
        self.assertEqual("ok", client.call("pid").outcome)
        self.assertNotIn("keelback-slab", Path(f"/proc/{worker}/maps").read_text())
        self.assertNotIn("keelback-slab", Path(f"/proc/{daemon.pid}/maps").read_text())

    def test_the_command_takes_files_and_writes_files(self):
        daemon = self.serve_conformance()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "in.bin"
            path.write_bytes(pattern(100_000))
            out = Path(folder) / "out"
            url = ("--url", daemon.address)
            done = self.run_cli("call", "attach_echo", "--attach", f"a=@{path}", "--attach", f"b/../c=@{path}",
                                "--out", str(out), "--json", *url)
            document = json.loads(done.stdout)
            self.assertEqual([{"$attachment": "a"}, {"$attachment": "b/../c"}], document["result"])
            self.assertEqual(["in-2.bin", "in.bin"], sorted(os.listdir(out)), "named as the files were, and none overwrites another")
            self.assertEqual(["in.bin"] * 2, [entry["filename"] for entry in document["attachments"]])
            self.assertTrue(all((out / name).read_bytes() == path.read_bytes() for name in os.listdir(out)))
            self.assertEqual([100_000] * 2, [entry["bytes"] for entry in document["attachments"]])
            done = self.run_cli("call", "attach_echo", "--attach", f"a=@{path}", *url)
            self.assertEqual('[{"$attachment":"a"}]\n', done.stdout)
            self.assertIn("--out DIR", done.stderr)
            self.assertEqual(2, self.run_cli("call", "attach_echo", "--attach", "a=nothing", *url).returncode)
            self.assertEqual(2, self.run_cli("call", "attach_echo", "--attach", "a=@/no/such/file", *url).returncode)

    def test_run_takes_files_and_writes_files(self):
        samples, out = self.tmp / "sound.f32", self.tmp / "out"
        samples.write_bytes(array.array("f", [0.5, -1.0, 2.0] * 30_000).tobytes())
        if self.BACKEND == "python":
            done = self.run_cli("run", "examples/attachments.py", "scale", '{"factor": 2}', "--attach",
                                f"samples=@{samples}", "--out", str(out))
            expected = array.array("f", [1.0, -2.0, 4.0] * 30_000).tobytes()
        else:
            done = self.run_cli("run", "standard", "attach_echo", "--attach", f"0=@{samples}", "--out", str(out),
                                "--backend", "fake")
            expected = samples.read_bytes()
        self.assertEqual(0, done.returncode, done)
        self.assertTrue((out / ("0" if self.BACKEND == "python" else "sound.f32")).read_bytes() == expected)
        unwritable = self.run_cli("run", "standard", "attach_echo", "--attach", f"a=@{samples}", "--out", str(samples),
                                  "--backend", "fake")
        self.assertEqual((2, True), (unwritable.returncode, "sound.f32" in unwritable.stderr), unwritable)

    # ---- streams

    def events(self, daemon, function, arguments, **headers):
        """Yields (event, data) as they come."""
        host, port = daemon.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self.addCleanup(connection.close)
        connection.request("POST", f"/v1/call/{function}", body=json.dumps(arguments), headers={
            "Content-Type": "application/json", "Accept": "text/event-stream", **headers})
        response = connection.getresponse()
        name = data = None
        for line in response:
            line = line.decode().rstrip("\r\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
            elif not line and name:
                yield name, data
                name = data = None

    def test_a_stream_s_call_may_bring_attachments(self):
        client = self.serve_conformance(workers=1).client()
        reply = self.post(client, "items", [("arguments", {}, b"[40]"), ("large", {}, pattern(MIB))],
                          Accept="text/event-stream")
        self.assertEqual("text/event-stream", reply.headers["Content-Type"].split(";")[0], reply)
        text = reply.body.decode()
        self.assertEqual(40, text.count("event: item\n"))
        self.assertEqual(1, text.count("event: end\n"))
        self.assertEqual("ok", client.call("echo", [1]).outcome)

    def test_a_death_in_mid_stream_is_a_typed_last_event(self):
        daemon = self.serve_conformance(workers=1)
        events = self.events(daemon, "items", [100_000_000])
        self.assertEqual(("item", 0), next(events))
        daemon.kill_worker()
        rest = list(events)
        self.assertEqual("error", rest[-1][0])
        self.assertEqual(("worker_died", "maybe", 9),
                         (rest[-1][1]["outcome"], rest[-1][1]["effect"], rest[-1][1]["death"]["signal"]))
        self.assertEqual(list(range(1, len(rest))), [data for name, data in rest[:-1]], "no item is lost or comes twice")
        self.assertEqual("ok", daemon.client().call("echo", [1]).outcome)

    def test_a_deadline_in_mid_stream_is_a_typed_last_event(self):
        daemon = self.serve_conformance(workers=1)
        got = list(self.events(daemon, "items", [100_000_000], **{"Keelback-Deadline-Ms": "300"}))
        self.assertEqual(("error", "timeout", "maybe"), (got[-1][0], got[-1][1]["outcome"], got[-1][1]["effect"]))
        self.assertEqual(list(range(len(got) - 1)), [data for _, data in got[:-1]])
        self.assertEqual("ok", daemon.client().call("echo", [1]).outcome)

    def test_a_cancelled_stream_ends_with_a_typed_last_event(self):
        daemon = self.serve_conformance(workers=1)
        events = self.events(daemon, "items", [100_000_000], **{"Keelback-Call": "long"})
        self.assertEqual(("item", 0), next(events))
        self.assertEqual(202, daemon.client().request("DELETE", "/v1/calls/long").status)
        rest = list(events)
        self.assertEqual(("error", "cancelled", "maybe"), (rest[-1][0], rest[-1][1]["outcome"], rest[-1][1]["effect"]))
        self.assertEqual(list(range(1, len(rest))), [data for _, data in rest[:-1]])
        self.assertEqual("ok", daemon.client().call("echo", [1]).outcome)
        self.assertEqual(0, daemon.pool()["restarts"])

    def test_a_client_that_leaves_in_mid_stream_costs_no_worker(self):
        daemon = self.serve_conformance(workers=1)
        worker = daemon.workers()[0]["pid"]
        with socket.create_connection(daemon.address.rsplit(":", 1)) as client:
            client.sendall(b"POST /v1/call/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Accept: text/event-stream\r\nContent-Length: 11\r\n\r\n[100000000]")
            self.assertIn(b"200 OK", client.recv(4096))
        self.assertEqual("ok", daemon.client().call("echo", [1], deadline_ms=20_000).outcome)
        self.assertEqual(worker, daemon.workers()[0]["pid"])
        self.assertEqual(1, daemon.pool()["calls"]["cancelled"])

    def test_a_reader_that_stops_holds_the_generator_back(self):
        daemon = self.serve_conformance(workers=1)
        with socket.create_connection(daemon.address.rsplit(":", 1)) as client:
            client.sendall(b"POST /v1/call/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Accept: text/event-stream\r\nContent-Length: 11\r\n\r\n[100000000]")
            self.assertIn(b"200 OK", client.recv(4096))
            worker = daemon.workers()[0]["pid"]

            def cpu():
                fields = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
                return int(fields[11]) + int(fields[12]), fields[0]

            # Once every buffer on the way is full the generator waits: its worker sleeps and uses no time.
            seen = [cpu()]

            def rests():
                seen.append(cpu())
                return len(seen) > 20 and len(set(seen[-20:])) == 1 and seen[-1][1] == "S"

            wait_until(rests, "the worker rests", timeout=30)
            self.assertEqual(1, daemon.pool()["workers"]["busy"])


class AttachedFake(Attached):
    BACKEND = "fake"


class Forms(KeelbackTest):
    """What an HTML form or curl -F sends, as a Python function sees it."""

    APP = """
from __future__ import annotations

import datetime
from typing import Optional

import keelback


@keelback.function
def shown(title, count: int, ratio: float = 1.0, urgent: bool = False, raw: bytes = b"", limit: Optional[int] = 5, tags: list[str] = ()):
    return [title, count, ratio, urgent, raw.hex(), limit, list(tags)]


@keelback.function
def upload(document: keelback.Attachment, pages, extra=None):
    all = pages if isinstance(pages, list) else [pages]
    return {"name": document.filename, "type": document.content_type, "bytes": len(document), "pages": [type(each).__name__ for each in all]}


@keelback.function
def picture(kind: str = "image/png"):
    return keelback.Attachment(b"\\x89PNG", content_type=kind, filename="naïve.png")


@keelback.function
def described():
    return {"picture": keelback.Attachment(b"\\x89PNG", content_type="image/png"), "at": datetime.date(2026, 1, 2), 7: "seven"}
"""

    def setUp(self):
        super().setUp()
        self.daemon = self.serve(self.app(self.APP))
        self.client = self.daemon.client()

    def post(self, function, *parts):
        """parts: (disposition after form-data, Content-Type or None, data)."""
        body = b""
        for disposition, kind, data in parts:
            body += f"--b\r\nContent-Disposition: form-data; {disposition}\r\n".encode()
            body += (f"Content-Type: {kind}\r\n" if kind else "").encode() + b"\r\n" + data + b"\r\n"
        return self.client.request("POST", f"/v1/call/{function}", body=body + b"--b--\r\n", headers={
            "Content-Type": "multipart/form-data; boundary=b", "Keelback-Attachment": "form"})

    def test_fields_are_text_or_what_the_annotation_says(self):
        def field(name, data):
            return f'name="{name}"', None, data.encode()

        reply = self.post("shown", field("title", "Ünï"), field("count", "3"), field("ratio", "0.5"), field("urgent", "on"),
                          field("raw", "é"), field("limit", ""), field("tags", "a"), field("tags", "b"))
        self.assertEqual(["Ünï", 3, 0.5, True, "c3a9", None, ["a", "b"]], reply.json, reply)
        reply = self.post("shown", ('name="arguments"', "application/json", b'{"count":4,"urgent":true}'), field("title", "7"),
                          field("tags", "one"))
        self.assertEqual(["7", 4, 1.0, True, "", 5, ["one"]], reply.json, "beside the JSON")
        for wrong, words in ((field("count", "three"), "argument \"count\": 'three' is no int"), (field("ratio", "nan"), "'nan' is no float"),
                             (field("urgent", "perhaps"), "'perhaps' is no bool"), (field("limit", "x"), "'x' is no int"),
                             (('name="title"', None, b"\xff"), "not utf-8"),
                             (('name="count"; filename="c.txt"', "text/plain", b"3"), "it is a file and no int")):
            parts = {part[0].partition('"')[2].partition('"')[0]: part for part in (field("title", "t"), field("count", "1"), wrong)}
            reply = self.post("shown", *parts.values())
            annotated = words != "not utf-8"  # title is not
            status = 422 if annotated else 400
            self.assertEqual((status, "bad_request", "none"), (reply.status, reply.outcome, reply.json["effect"]), reply)
            self.assertIn(words, reply.json["detail"])
            self.assertEqual(annotated, any(each["msg"] in reply.json["detail"] for each in reply.json.get("errors", ())))

    def test_uploads_say_what_they_are_and_several_are_a_list(self):
        document = ('name="document"; filename="a b.pdf"', "application/pdf", b"%PDF")
        page = ('name="pages"; filename="1.png"', "image/png", b"\x89PNG")
        reply = self.post("upload", document, page, page)
        self.assertEqual({"name": "a b.pdf", "type": "application/pdf", "bytes": 4, "pages": ["bytes", "bytes"]}, reply.json, reply)
        self.assertEqual(["bytes"], self.post("upload", document, page).json["pages"])
        twice = self.post("upload", document, document, page)
        self.assertIn('argument "document": it is there 2 times, and the parameter takes one', twice.json["detail"])

    def test_a_result_with_a_content_type_is_sent_with_it(self):
        for accept in ({}, {"Accept": "*/*"}, {"Accept": "image/png"}, {"Accept": "text/html, image/*;q=0.8"}):
            reply = self.client.request("POST", "/v1/call/picture", body=b"[]", headers={"Content-Type": "application/json", **accept})
            self.assertEqual((200, b"\x89PNG", "image/png", "ok"),
                             (reply.status, reply.body, reply.headers["Content-Type"], reply.outcome), accept)
            self.assertIn("filename*=UTF-8''na%C3%AFve.png", reply.headers["Content-Disposition"])
        reply = self.client.request("POST", "/v1/call/picture", body=b"[]", headers={
            "Content-Type": "application/json", "Accept": "application/octet-stream"})
        self.assertEqual((b"\x89PNG", "application/octet-stream"), (reply.body, reply.headers["Content-Type"]))
        self.assertEqual("error", self.client.call("picture", ["png"]).outcome, "no content type")
        reply = self.client.call("described")
        parts = parts_of(reply)
        self.assertEqual({"picture": {"$attachment": "0"}, "at": "2026-01-02", "7": "seven"}, json.loads(parts["result"][1]))
        self.assertEqual(("image/png", b"\x89PNG"), (parts["0"][0]["Content-Type"], parts["0"][1]))

    def test_the_command_has_file_names_and_content_types(self):
        picture, out = self.tmp / "cat.bin", self.tmp / "out"
        picture.write_bytes(b"cat")
        done = self.run_cli("call", "upload", "--attach", f"document=@{picture}", "--attach", f"pages=@{picture}", "--url",
                            self.daemon.address)
        self.assertEqual({"name": "cat.bin", "type": "application/octet-stream", "bytes": 3, "pages": ["bytes"]}, json.loads(done.stdout))
        for run in (("call", "picture", "--url", self.daemon.address), ("run", str(self.tmp / "app.py"), "picture")):
            document = json.loads(self.run_cli(*run, "--out", str(out), "--json").stdout)
            self.assertEqual(({"$attachment": "0"}, "image/png", "naïve.png"), (
                document["result"], document["attachments"][0]["content_type"], document["attachments"][0]["filename"]))
            self.assertEqual(b"\x89PNG", (out / "naïve.png").read_bytes())
            (out / "naïve.png").unlink()


if __name__ == "__main__":
    main()
