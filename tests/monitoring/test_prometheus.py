"""A real Prometheus takes the alert rules, evaluates each of them, and answers every panel."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway import telemetry
from tests.worlds.monitoring import ALERTS, DASHBOARD, both_roles, expressions
from tests.worlds.ports import free_port

pytestmark = pytest.mark.prometheus
WAIT_S = 60.0
READY = "Server is ready to receive web requests"
CONFIG = """
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [{rules}]
scrape_configs:
  - job_name: kaskad
    static_configs: [{{ targets: ["127.0.0.1:{port}"], labels: {{ env: test }} }}]
"""


class Target:
    """What a worker and a dispatcher show, for Prometheus to scrape."""

    def __init__(self) -> None:
        ingress, dispatch = both_roles()
        others = [telemetry.snapshot(dispatch, "dispatch-h-2")]
        text = telemetry.render(others, ingress, "ingress-h-1", "1-h")
        self._scraped = threading.Semaphore(0)
        scraped = self._scraped

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", telemetry.CONTENT_TYPE)
                self.end_headers()
                self.wfile.write(text)
                scraped.release()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]

    def wait_for_scrape(self) -> None:
        assert self._scraped.acquire(timeout=WAIT_S)


class Prometheus:
    def __init__(self, url: str, target: Target) -> None:
        self.url = url
        self.target = target

    def ask(self, path: str) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{path}", timeout=WAIT_S, trust_env=False)
        return answer.raise_for_status().json()["data"]

    def query(self, expression: str) -> Any:
        made = promtool("query", "instant", "-o", "json", self.url, expression)
        assert made.returncode == 0, (expression, made.stderr)
        return json.loads(made.stdout)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    target, port = Target(), free_port()
    thread = threading.Thread(target=target.server.serve_forever)
    thread.start()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=ALERTS, port=target.port))
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            log = list(iter_until(READY, process.stderr))
            assert READY in log[-1], "".join(log)
            # Nobody reads on in this thread, and its pipe must not fill.
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            for _ in range(2):
                target.wait_for_scrape()
            yield Prometheus(f"http://127.0.0.1:{port}", target)
            process.terminate()
            drain.join()
        finally:
            process.kill()
            target.server.shutdown()
            thread.join()
            target.server.server_close()


def iter_until(word: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if word in line:
            return


def test_promtool_passes_the_rules_and_their_scenarios() -> None:
    scenarios = Path(__file__).with_name("alerts_test.yml")
    for what, file in (("check", ALERTS), ("test", scenarios)):
        made = promtool(what, "rules", file)
        assert made.returncode == 0, made.stdout + made.stderr


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        prometheus.target.wait_for_scrape()
        rules = prometheus.ask("rules")["groups"][0]["rules"]
        if all(rule["health"] != "unknown" for rule in rules) or time.monotonic() > until:
            break
    assert {rule["health"] for rule in rules} == {"ok"}


def test_every_panel_gets_an_answer(prometheus: Prometheus) -> None:
    variables = {"$__rate_interval": "1m", "$job": ".*", "$env": ".*"}
    for expression in expressions():
        for variable, value in variables.items():
            expression = expression.replace(variable, value)
        prometheus.query(expression)


def test_the_dashboards_variables_choose_among_what_is_scraped(prometheus: Prometheus) -> None:
    listed = json.loads(DASHBOARD.read_text())["templating"]["list"]
    names = {each["name"]: each["query"] for each in listed}
    assert names.keys() == {"datasource", "job", "env"}
    (series,) = prometheus.query('kaskad_redis_connected{job=~"kaskad", env=~"test"}')
    assert names["job"]["query"] == "label_values(kaskad_redis_connected, job)"
    assert {"job", "env"} <= series["metric"].keys()
    assert prometheus.query('kaskad_redis_connected{env=~"production"}') == []
