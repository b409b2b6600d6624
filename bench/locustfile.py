"""The load test with a web page: HTTP clients of several kinds, and arrivals that do not wait.

    locust -f bench/locustfile.py --host http://127.0.0.1:8080 --app-key KEY             web page
    locust -f bench/locustfile.py --headless --pattern burst --rate 200 --seconds 120 \\
        --host http://127.0.0.1:8080 --app-key KEY SinglePoster Otp                       headless

Knobs: --rate (messages and reads a second), --pattern (steady; burst: five times the rate for 5 of
30 seconds; ramp: one rate more every 10 s until p95 passes --saturated-ms, then it says so and
ends; noisy: in the middle third NoisyApp, with --noisy-key, sends nine times the rate on top),
--seconds (or 5s, 2m, 1h), --lines (of one stream), --first-person; the web page has them all. The
kinds of user named at the end take part, by default all; `share` is how the rate is divided.

How to read it: it is an open model. Arrivals come at their time whether or not earlier ones were
answered, and a response time counts from when the request was due, so a server that falls behind
shows growing times, not fewer requests. What is due while OPEN_MAX are unanswered is counted as a
failure, "not posted". "OTP accepted to sent" is taken from the message itself. One process of
this generator makes some thousand requests a second, and there is only one: --processes is
refused. For the limits of a machine use lifecycle.py.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import sys
import time
from collections import deque
from typing import Any

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, LoadTestShape, events, task
from locust.runners import LocalRunner

from bench.load_patterns import PATTERNS, Duration, noisy_rate
from bench.load_spec import TEXT

OPEN_MAX = 2_000  # unanswered requests of one kind of user
IDLE_S = 0.1
OTP_LOOK_S = 1.0  # how long after acceptance an OTP's way is looked at
REMEMBERED_MAX = 10_000
PERSONS = 1_000_000_000
ONE_PROCESS = (
    "This generator is one process: leave out --processes, --master and --worker. For more load "
    "start it several times, each with its --rate and --first-person."
)

_recent: deque[str] = deque(maxlen=REMEMBERED_MAX)
_persons = itertools.count()


@events.init_command_line_parser.add_listener
def _add_options(parser: Any) -> None:
    # To the parser itself: locust's web page shows these, and no group's.
    add = parser.add_argument
    add("--app-key", env_var="KASKAD_SHOP_KEY", default="", is_secret=True, help="an API key")
    add("--noisy-key", default="", is_secret=True, help="another app's; default: the same")
    add("--pattern", choices=list(PATTERNS), default="steady", help="how the rate changes")
    add("--rate", type=float, default=100.0, help="messages and reads a second")
    add("--seconds", type=Duration, default=Duration(60), help="how long: 90, 5s, 2m, 1h")
    add("--lines", type=int, default=500, help="messages in one stream")
    add("--saturated-ms", type=float, default=1_000.0, help="where a ramp ends")
    add("--first-person", type=int, default=-1, help="default: from the clock")
    for option in parser._actions:  # noqa: SLF001 - there is no other way to what locust added
        if option.dest == "processes":
            option.type = _refuse_processes


def _refuse_processes(_: str) -> int:
    """Before locust forks: of a master that ends at once, workers may wait for five minutes."""
    raise argparse.ArgumentTypeError(ONE_PROCESS)


@events.init.add_listener
def _refuse_several_processes(runner: Any, **_: Any) -> None:
    """Each would number the persons alike and deal out the whole rate."""
    if not isinstance(runner, LocalRunner):
        sys.stderr.write(f"{ONE_PROCESS}\n")
        sys.exit(2)


@events.test_start.add_listener
def _number_persons(environment: Any, **_: Any) -> None:
    global _persons
    first = environment.parsed_options.first_person
    if first < 0:  # a run must not meet the duplicates and caps of the one before
        first = int(time.time() * 1_000)
    _persons = itertools.count(first)
    _recent.clear()


class Pace(LoadTestShape):
    """One user of each kind, whose arrivals follow the pattern; ends after --seconds."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        if self.get_run_time() >= options.seconds:
            return None
        if options.pattern == "ramp" and self._saturated(options):
            return None
        kinds = len(self.runner.user_classes)
        return kinds, float(kinds)

    def _saturated(self, options: Any) -> bool:
        assert self.runner is not None
        p95_ms = self.runner.stats.total.get_current_response_time_percentile(0.95) or 0
        if p95_ms <= options.saturated_ms:
            return False
        rate = PATTERNS["ramp"](self.get_run_time(), options.rate, options.seconds)
        sys.stderr.write(f"Saturated at {rate:,.0f} a second: p95 is {p95_ms:,.0f} ms.\n")
        return True


class OpenUser(FastHttpUser):
    """Lets requests arrive at a rate; each is made by a greenlet of its own.

    `share` is its part of the rate beside the other kinds', `unit` how many messages a request
    carries.
    """

    abstract = True
    fixed_count = 1
    concurrency = 512
    share = 1
    key_option = "app_key"

    def on_start(self) -> None:
        self.options = self.environment.parsed_options
        self.began_s = time.perf_counter()
        self.requests = Pool()
        key = getattr(self.options, self.key_option) or self.options.app_key
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def on_stop(self) -> None:
        self.requests.kill()

    @property
    def unit(self) -> int:
        return 1

    def rate(self, at_s: float) -> float:
        """Messages a second of this kind of user, now."""
        options, kinds = self.options, self.environment.runner.user_classes
        shares = sum(kind.share for kind in kinds if kind is not NoisyApp)
        whole = PATTERNS[options.pattern](at_s, options.rate, options.seconds)
        return whole * self.share / shares if shares else 0.0

    @task
    def arrive(self) -> None:
        """Never returns: deals out arrivals until the user is stopped."""
        due_s = time.perf_counter()
        while True:
            rate = self.rate(time.perf_counter() - self.began_s)
            if rate <= 0:
                gevent.sleep(IDLE_S)
                due_s = time.perf_counter()
                continue
            gevent.sleep(max(0.0, due_s - time.perf_counter()))
            if len(self.requests) < OPEN_MAX:
                self.requests.spawn(self.request_once, due_s)
            else:
                self.report("OPEN", f"{type(self).__name__} not posted", 0.0, "too many open")
            due_s += self.unit / rate

    def request_once(self, due_s: float) -> None:
        """Makes one request that was due at `due_s`."""
        raise NotImplementedError

    def post(self, due_s: float, name: str, body: bytes, expected: int) -> bytes:
        """The answer's body; empty when it was not as expected, which counts as a failure."""
        call = self.client.post(
            "/v1/messages", name=name, data=body, headers=self.headers, catch_response=True
        )
        with call as response:
            response.request_meta["response_time"] = (time.perf_counter() - due_s) * 1000
            if response.status_code != expected:
                response.failure(f"answered {response.status_code}")
                return b""
            return response.content or b""

    def report(self, kind: str, name: str, response_ms: float, fault: str = "") -> None:
        """Counts something that is no HTTP request of its own."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=response_ms,
            response_length=0,
            exception=Exception(fault) if fault else None,
            context={},
        )


class SinglePoster(OpenUser):
    """A marketing message a request, each to a new person."""

    share = 5

    def request_once(self, due_s: float) -> None:
        answer = self.post(due_s, "single post", message("marketing"), 202)
        if answer:
            _recent.append(json.loads(answer)["id"])


class NdjsonStreamer(OpenUser):
    """A campaign in streams of --lines messages; one request is one whole stream."""

    share = 3

    def on_start(self) -> None:
        super().on_start()
        self.headers["Content-Type"] = "application/x-ndjson"

    @property
    def unit(self) -> int:
        lines: int = self.options.lines
        return lines

    def request_once(self, due_s: float) -> None:
        lines = b"\n".join(message("marketing") for _ in range(self.unit)) + b"\n"
        answer = self.post(due_s, f"stream of {self.unit}", lines, 200)
        accepted = answer.count(b'"outcome":"accepted"')
        if answer and accepted != self.unit:
            self.report("STREAM", "lines", 0.0, "a stream had lines that were not accepted")


class Otp(OpenUser):
    """A one-time password, and a look at when it left for the provider."""

    def request_once(self, due_s: float) -> None:
        answer = self.post(due_s, "OTP", message("otp"), 202)
        if not answer:
            return
        message_id = json.loads(answer)["id"]
        gevent.sleep(OTP_LOOK_S)
        found = self.client.get(
            f"/v1/messages/{message_id}", name="OTP look", headers=self.headers
        ).content
        steps = json.loads(found)["steps"] if found else []
        sent_at = steps[0]["sent_at"] if steps else None
        if sent_at is None:
            self.report("OTP", "accepted to sent", OTP_LOOK_S * 1000, "not sent yet")
        else:
            waited = _moment(sent_at) - _moment(json.loads(found)["created_at"])
            self.report("OTP", "accepted to sent", waited.total_seconds() * 1000)


class StatusReader(OpenUser):
    """Reads messages that were accepted lately, the newest most of the time."""

    def request_once(self, due_s: float) -> None:
        if not _recent:
            return
        call = self.client.get(
            f"/v1/messages/{_recent[-1]}", name="status", headers=self.headers, catch_response=True
        )
        with call as response:
            response.request_meta["response_time"] = (time.perf_counter() - due_s) * 1000


class NoisyApp(OpenUser):
    """Another app that suddenly sends far more than all others; silent in the other patterns."""

    share = 0
    key_option = "noisy_key"

    def request_once(self, due_s: float) -> None:
        self.post(due_s, "noisy app", message("marketing"), 202)

    def rate(self, at_s: float) -> float:
        return noisy_rate(self.options.pattern, at_s, self.options.rate, self.options.seconds)


def message(category: str) -> bytes:
    """One send request to a person nobody wrote to in this run."""
    person = next(_persons) % PERSONS
    found = {"to": f"+79{person:09d}", "category": category, "text": TEXT}
    if category == "marketing":
        found["campaign"] = "load-test"
    return json.dumps(found, ensure_ascii=False).encode()


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
