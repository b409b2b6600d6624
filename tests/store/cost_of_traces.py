"""What traces cost: a life's spans, made and exported for real.

    python -m tests.store.cost_of_traces                      200,000 lives, some seconds

Of each message it is asked whether it is traced; of the share that is, a life's spans are made as
ingress and dispatch make them (accept, decide, send, two receipts), encoded by OpenTelemetry's
exporter and posted as OTLP over HTTP to a receiver in a process of its own, whose CPU is not
counted. It is that of this process with all its threads, the flush at the end included.
One line: µs a message, and which part that is of a stream's whole life, the cheapest there is, in
the newest kept result. Where a span did not arrive it says so, exit code 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.traces import Traces, open_traces

LIVES = 200_000
SHARE = 0.01
SPANS = 5  # of a life
LIFE = "stream, whole life"
RESULTS = Path(__file__).parents[2] / "bench" / "results"
# The exporter's queue holds 2,048 spans: so many lives are made at once, and then it is waited for.
BURST = 100
BURST_S = 0.1
PATIENCE_S = 10.0


class LostError(Exception):
    """Spans did not arrive."""


def measure(lives: int, share: float) -> float:
    """CPU in µs a message. Raises LostError."""
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,))
    receiver.start()
    try:
        endpoint = f"http://127.0.0.1:{ours.recv()}"
        began, made = 0.0, 0
        for count, part in ((BURST, 1.0), (lives, share)):  # the first loads libraries
            began = time.process_time()
            with open_traces(endpoint, part, "ingress") as traces:
                assert traces is not None
                made += _live(traces, count) * SPANS
        spent = time.process_time() - began
        ours.send(made)
        if not ours.poll(PATIENCE_S):
            raise LostError(f"Of {made} spans some did not arrive.")
        return spent / lives * 1e6
    finally:
        receiver.terminate()
        receiver.join()


def _live(traces: Traces, lives: int) -> int:
    """How many of the lives were traced."""
    traced = 0
    for _ in range(lives):
        if not traces.asked(None):
            continue
        traced += 1
        with traces.accepting(None, "shop") as carried:
            began_ns = traces.clock()
        traces.decided([carried], began_ns, 100)
        traces.sent(carried, "infobip-viber", True, "", 100, began_ns)
        traces.received(carried, "infobip-viber", "delivered")
        traces.received(carried, "infobip-viber", "seen")
        if not traced % BURST:
            time.sleep(BURST_S)  # the exporter says nothing when its queue has room again
    return traced


def receive(told: Connection) -> None:
    """Says its port, takes spans, and says when as many came as it is told there are."""
    came = 0
    arrived = threading.Condition()

    class Collector(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal came
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            with arrived:
                came += sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
                arrived.notify()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.send(server.server_port)
        expected = told.recv()
        with arrived:
            arrived.wait_for(lambda: came >= expected)
        told.send(came)


def life_us() -> float:
    """CPU a message of a stream's whole life, in the newest result."""
    newest = json.loads(max(RESULTS.glob("*.json")).read_text())
    (row,) = (row for row in newest["rows"] if row["name"] == LIFE)
    return float(row["cpu_us"]["total"])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.store.cost_of_traces", description=__doc__
    )
    parser.add_argument("--lives", type=int, default=LIVES)
    parser.add_argument("--share", type=float, default=SHARE)
    asked = parser.parse_args(arguments)
    try:
        us, life = measure(asked.lives, asked.share), life_us()
    except LostError as lost:
        sys.stderr.write(f"{lost}\n")
        return 1
    sys.stdout.write(
        f"{asked.share:.2%} traced: {us:.2f} µs CPU a message, {us / life:.2%} of {life:.0f} µs\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
