"""What docs/operate.md and packaging/ give to other programs is read by these programs: promtool and systemd-analyze.

    operations_test.py

A program that is not on this machine skips its tests; exit status 77 if it is neither.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

MACHINE = os.environ.get("PATH", "")  # before the tests' own

from pages import ROOT, STRETCH, blocks  # noqa: E402

PAGE = ROOT / "docs" / "operate.md"
MONITORING = ROOT / "packaging" / "monitoring"
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=MACHINE)
ANALYZE = shutil.which("systemd-analyze")
UNITS = ROOT / "packaging" / "debian"


def block(language, name):
    return next(text for _, text in blocks(PAGE, language) if text.startswith(f"# {name}\n"))


class ToolTest(unittest.TestCase):
    def setUp(self):
        self.here = Path(tempfile.mkdtemp(prefix="keelback-operations-"))
        self.addCleanup(shutil.rmtree, self.here, ignore_errors=True)

    def says(self, *command):
        done = subprocess.run(command, cwd=self.here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * STRETCH)
        self.assertEqual(0, done.returncode, f"{command}\n{done.stdout}")
        return done.stdout


@unittest.skipUnless(PROMTOOL, "promtool is not on this machine (Debian: prometheus)")
class Promtool(ToolTest):
    def setUp(self):
        super().setUp()
        for file in MONITORING.glob("*.yml"):
            shutil.copy(file, self.here)

    def test_the_alerts_are_rules_and_come_when_they_should(self):
        self.says(PROMTOOL, "check", "rules", "prometheus-rules.yml")
        self.says(PROMTOOL, "test", "rules", "prometheus-rules-test.yml")

    def test_an_alert_that_comes_too_late_is_noticed(self):
        rules = self.here / "prometheus-rules.yml"
        rules.write_text(rules.read_text().replace("for: 1m", "for: 1h"))
        done = subprocess.run([PROMTOOL, "test", "rules", "prometheus-rules-test.yml"], cwd=self.here, capture_output=True, text=True, timeout=60 * STRETCH)
        self.assertNotEqual(0, done.returncode)

    def test_the_page_s_configuration_is_one(self):
        (self.here / "prometheus.yml").write_text(block("yaml", "prometheus.yml"))
        self.says(PROMTOOL, "check", "config", "prometheus.yml")

    def test_the_dashboard_s_expressions_are_expressions(self):
        panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
        found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
        self.assertGreater(len(found), 20)
        rules = []
        for number, expression in enumerate(found):
            for variable, value in (("$__rate_interval", "5m"), ("$__range", "1h"), ("$instance", ".*")):
                expression = expression.replace(variable, value)
            rules.append({"record": f"panel:{number}", "expr": expression})
        # JSON is YAML.
        (self.here / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
        self.assertIn(f"{len(found)} rules found", self.says(PROMTOOL, "check", "rules", "panels.yml"))


@unittest.skipUnless(ANALYZE, "systemd-analyze is not on this machine")
class Systemd(ToolTest):
    # Goal: systemd finds nothing wrong with the package's units, and what the service may do is little. The program is not on every machine.
    def test_the_units_of_the_package_are_sound_and_the_service_is_closed(self):
        for name in ("keelback.service", "keelback.socket"):
            (self.here / name).write_text((UNITS / name).read_text().replace("/usr/bin/keelback", "/bin/true"))
            self.assertEqual("", self.says(ANALYZE, "verify", "--man=no", str(self.here / name)))
        self.says(ANALYZE, "security", "--offline=true", "--no-pager", "--threshold=40", str(self.here / "keelback.service"))


if __name__ == "__main__":
    if not PROMTOOL and not ANALYZE:
        print("skipped: neither promtool nor systemd-analyze is on this machine")
        sys.exit(77)
    unittest.main(verbosity=2)
