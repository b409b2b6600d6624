"""How processes tell what they do: log lines, and metrics any ingress worker can show for all.

Each process keeps a registry of its own and publishes a snapshot of it every PUBLISH_EVERY_S
(`store.snapshots`); `/metrics` renders the union of all, with a `process` label. While Redis cannot
be reached the others' metrics are missing, and nothing else.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
import orjson
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from structlog.typing import EventDict, Processor, WrappedLogger

Role = Literal["ingress", "dispatch", "cli", "simulator"]

PREFIX = "kaskad"
PUBLISH_EVERY_S = 1.0
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SCHEMA = 1
_LOG_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


# --- logs ---


def configure_logs(role: Role, level: str, json: bool) -> None:
    """One line an event on stderr, of our loggers and of the libraries' alike.

    `level` is a name of the standard library ("info"); `json` False is for a person's terminal.
    Tracebacks carry no local variables, because those hold phone numbers and texts.
    Raises ValueError for a level that does not exist.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is no log level: use debug, info, warning or error.")

    def name_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process_name(role))  # a fork has another id
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        name_process,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    tail: list[Processor] = [structlog.processors.format_exc_info, renderer] if json else [renderer]
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)
    # A line a request of its own: ours says more (providers, outcomes), and one is enough.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class _Stderr(io.TextIOWrapper):
    """Whatever sys.stderr is when a line is written: loggers are kept, and it may be replaced."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _to_json(event: EventDict, **_options: object) -> str:
    """A log line never fails: what JSON cannot hold (half a surrogate, a huge number) is shown."""
    try:
        return orjson.dumps(event, default=_plain, option=_LOG_OPTIONS).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps({key: repr(value) for key, value in event.items()}).decode()


def _plain(value: object) -> object:
    return msgspec.to_builtins(value, str_keys=True, enc_hook=repr)


def process_name(role: Role) -> str:
    """`<role>-<host>-<pid>`: unique in an installation; `role_of` reads the role from it."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


def role_of(process: str) -> str:
    return process.partition("-")[0]


# --- metrics ---


class _Sample(msgspec.Struct, array_like=True, frozen=True):
    name: str
    labels: dict[str, str]
    value: float


class _Family(msgspec.Struct, array_like=True, frozen=True):
    name: str
    help: str
    kind: str
    samples: list[_Sample]


class _Snapshot(msgspec.Struct, array_like=True, frozen=True):
    schema: int
    process: str
    families: list[_Family]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


def new_registry() -> CollectorRegistry:
    """A registry with the process's own CPU seconds, memory and open files."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(namespace=PREFIX, registry=registry)
    return registry


def snapshot(registry: CollectorRegistry, process: str) -> bytes:
    """All metrics of a registry at this moment."""
    return _encode(_Snapshot(_SCHEMA, process, list(_families(registry))))


def render(snapshots: Iterable[bytes], registry: CollectorRegistry, process: str) -> bytes:
    """Prometheus text: the own registry as it is now and the others' snapshots, by `process`.

    A snapshot that another version wrote and this one cannot read is left out, and so is a family
    whose name or kind this one does not know.
    """
    found = {process: _Snapshot(_SCHEMA, process, list(_families(registry)))}
    for data in snapshots:
        try:
            read = _decode(data)
        except msgspec.DecodeError:
            continue
        if read.schema == _SCHEMA:
            found.setdefault(read.process, read)
    union: dict[str, Metric] = {}
    for snap in found.values():
        for family in snap.families:
            metric = union.get(family.name)
            if metric is None:
                try:
                    metric = union[family.name] = Metric(family.name, family.help, family.kind)
                except ValueError:
                    continue
            for sample in family.samples:
                labels = {**sample.labels, "process": snap.process}
                metric.add_sample(sample.name, labels, sample.value)
    return generate_latest(_Union(union.values()))


class _Union(CollectorRegistry):
    """What `generate_latest` reads: families that are put together already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._all = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._all


def _families(registry: CollectorRegistry) -> Iterator[_Family]:
    for metric in registry.collect():
        samples = [
            _Sample(s.name, dict(s.labels), float(s.value))
            for s in metric.samples
            if not s.name.endswith("_created")
        ]
        yield _Family(metric.name, metric.documentation, metric.type, samples)
