"""The scripted model and the server around it, without DSPy: what tests of the rest rely on."""
import concurrent.futures
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.insert(0, str(ROOT / "python"))
import environment  # noqa: E402
from fake_lm import FakeLm  # noqa: E402
from keelback.apps.scripted_lm import DELAY_MS_MAX, GARBAGE, RULES_MAX, Script, ScriptError  # noqa: E402

environment.settle()

SYSTEM = """Your input fields are:
1. `question` (str): 
Your output fields are:
1. `reasoning` (str): 
2. `answer` (str): 
3. `score` (float): 
All interactions will be structured in the following way"""


def ask(script, question, system=SYSTEM):
    return Script(script).answer([{"role": "system", "content": system},
                                  {"role": "user", "content": f"[[ ## question ## ]]\n{question}\n\nRespond with the rest"}])


class Scripts(unittest.TestCase):
    def test_every_output_field_gets_a_value_of_its_type_and_the_same_one_each_time(self):
        first = ask(None, "Why?")
        self.assertEqual("[[ ## reasoning ## ]]\nThe script has one answer to this.\n\n[[ ## answer ## ]]\nanswer to: Why?\n\n"
                         "[[ ## score ## ]]\n2.0\n\n[[ ## completed ## ]]", first.text)
        self.assertEqual(first.text, ask(None, "Why?").text)
        self.assertNotEqual(first.text, ask(None, "Who is it?").text)

    def test_the_first_rule_that_matches_decides(self):
        script = {"delay_ms": 10, "rules": [{"match": "France", "answer": "Paris"}, {"match": "Fr", "delay_ms": 30, "fail": "error"},
                                            {"match": "odd", "fail": "garbage"}, {"match": "both", "answer": {"score": 1, "none": 2}}]}
        self.assertIn("[[ ## answer ## ]]\nParis", ask(script, "France?").text)
        self.assertEqual((0.01, None), (ask(script, "France?").delay_s, ask(script, "France?").fail))
        self.assertEqual((0.03, "error"), (ask(script, "Fr").delay_s, ask(script, "Fr").fail))
        self.assertEqual((GARBAGE, None), (ask(script, "odd").text, ask(script, "odd").fail))
        self.assertIn("[[ ## score ## ]]\n1\n", ask(script, "both").text)

    def test_a_prompt_of_another_kind_gets_plain_text(self):
        self.assertEqual("scripted: hello", Script().answer([{"role": "user", "content": "hello"}]).text)
        self.assertEqual("scripted: ab", Script().answer(
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]).text)
        self.assertEqual({"answer": "x"}, json.loads(ask({"rules": [{"match": ".", "answer": "x"}]}, "?",
                         "Your output fields are:\n1. `answer` (str): \nOutputs will be a JSON object").text))

    def test_what_is_no_script_is_refused_and_named(self):
        for script, word in (([], "script"), ({"rulez": []}, "rulez"), ({"rules": {}}, "rules"), ({"rules": [7]}, r"rules\[0\]"),
                             ({"rules": [{"answer": "x"}]}, "match"), ({"rules": [{"match": "["}]}, "match"),
                             ({"rules": [{"match": "", "answer": 3}]}, "answer"), ({"rules": [{"match": "", "fail": "x"}]}, "fail"),
                             ({"delay_ms": -1}, "delay_ms"), ({"delay_ms": DELAY_MS_MAX + 1}, "delay_ms"), ({"delay_ms": True}, "delay_ms"),
                             ({"rules": [{"match": ""}] * (RULES_MAX + 1)}, "rules")):
            with self.subTest(script=str(script)[:50]), self.assertRaisesRegex(ScriptError, word):
                Script(script)
        Script({"delay_ms": DELAY_MS_MAX, "rules": [{"match": ""}] * RULES_MAX})


class Server(unittest.TestCase):
    def post(self, lm, text="hello", timeout=10.0, key="k"):
        host, port = lm.url.split("/")[2].split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": [{"role": "user", "content": text}]}),
                           {"Authorization": f"Bearer {key}"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())

    def test_it_answers_and_each_fault_bites_as_often_as_it_was_told(self):
        with FakeLm() as lm:
            self.assertEqual("scripted: hello", self.post(lm)[1]["choices"][0]["message"]["content"])
            for fault, status in (("429", 429), ("500", 500)):
                lm.fault(fault, count=1, match="bite")
                self.assertEqual(200, self.post(lm)[0])
                self.assertEqual((status, 200), (self.post(lm, "bite")[0], self.post(lm, "bite")[0]))
                self.assertEqual(1, lm.report()["bitten"])
            lm.fault("garbage")
            self.assertEqual(GARBAGE, self.post(lm)[1]["choices"][0]["message"]["content"])
            lm.fault("reset")
            with self.assertRaises(ConnectionResetError):
                self.post(lm)
            lm.fault("slow", delay_ms=80)
            begin = time.monotonic()
            self.assertEqual(200, self.post(lm)[0])
            self.assertGreaterEqual(time.monotonic() - begin, 0.08)
            self.assertEqual(10, lm.report()["requests"])
            with self.assertRaises(ValueError):
                lm.fault("flood")

    def wait(self, condition):
        until = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.005)

    def test_a_hang_ends_when_the_client_leaves_and_when_the_fault_is_lifted(self):
        with FakeLm() as lm:
            lm.fault("hang")
            with self.assertRaises(socket.timeout):
                self.post(lm, timeout=0.1)
            self.assertEqual(1, lm.report()["bitten"])
            failures = []

            def hang():
                try:
                    self.post(lm)
                except http.client.HTTPException as error:
                    failures.append(error)

            thread = threading.Thread(target=hang)
            thread.start()
            self.wait(lambda: lm.report()["bitten"] == 2)
            lm.fault("none")
            thread.join(10)
            self.assertEqual(1, len(failures), "a hanging request is never answered")
            self.wait(lambda: lm.report()["hanging"] == 0)

    def test_held_requests_are_counted_while_they_are_open_and_answered_when_the_fault_is_lifted(self):
        with FakeLm() as lm:
            lm.fault("hold")
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                replies = [pool.submit(self.post, lm, text) for text in ("a", "b", "c")]
                self.wait(lambda: lm.report()["hanging"] == 3)
                self.assertEqual((3, 3), (lm.report()["open"], lm.report()["connections"]))
                lm.fault("none")
                said = [reply.result()[1]["choices"][0]["message"]["content"] for reply in replies]
            self.assertEqual(["scripted: a", "scripted: b", "scripted: c"], said)
            self.wait(lambda: lm.report()["open"] == 0)
            self.assertEqual(3, lm.report()["open_max"])

    def test_another_key_is_refused(self):
        with FakeLm(api_key="right") as lm:
            self.assertEqual((200, 401), (self.post(lm, key="right")[0], self.post(lm, key="wrong")[0]))

    def test_as_a_program_it_takes_orders_over_http_and_ends_at_sigterm(self):
        process = subprocess.Popen([sys.executable, str(ROOT / "tests/support/fake_lm.py")], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        try:
            address = process.stdout.readline().split("//")[1].split("/")[0]
            connection = http.client.HTTPConnection(address, timeout=10)
            for order, status in (({"fault": "500", "count": 1}, 200), ({"fault": "flood"}, 400), ({"default": 1}, 400)):
                connection.request("PUT", "/control", json.dumps(order))
                reply = connection.getresponse()
                reply.read()
                self.assertEqual(status, reply.status)
            connection.request("GET", "/control")
            self.assertEqual({"fault": "500", "requests": 0, "bitten": 0, "hanging": 0, "open": 0, "open_max": 0, "connections": 1},
                             json.loads(connection.getresponse().read()))
            connection.close()
        finally:
            process.send_signal(signal.SIGTERM)
            self.assertEqual(0, process.wait(10))


if __name__ == "__main__":
    unittest.main(verbosity=2)
