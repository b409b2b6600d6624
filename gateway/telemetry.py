"""How processes tell what they do: log lines, and metrics that ingress shows for all.

Each process keeps registries of its own and publishes a snapshot of them every PUBLISH_EVERY_S
(`store.installation.snapshots`). A *server* is the workers of one `kaskad serve`, which share an
address and so are one target to scrape: whichever worker is asked, `/metrics` shows all of that
server, by `process`. What no server owns, the dispatchers and the figures that the whole
installation shares, only one server shows: the first that runs. So each series stands at one
target, and sums over targets are right. While Redis cannot be reached a worker shows its own
figures and nothing else.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

import msgspec
import orjson
import structlog
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.version import VERSION

RoleName = Literal["ingress", "dispatch", "archive", "reports", "cli", "simulator"]

PREFIX = "kaskad"
PUBLISH_EVERY_S = 1.0
NAMED_MAX = 20  # messages in a log line
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SCHEMA = 2
_LOG_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


# --- logs ---


def configure_logs(role: RoleName, level: str, json: bool) -> None:
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


def few(messages: Iterable[str]) -> list[str]:
    """The messages that a line about several names: the first NAMED_MAX."""
    return list(islice(messages, NAMED_MAX))


def process_name(role: RoleName) -> str:
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
    server: str
    own: list[_Family]
    shared: list[_Family]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


class Registries(NamedTuple):
    """One process's metrics. `shared` holds gauges of the whole installation, such as what Redis
    holds: whoever shows one shows the same."""

    own: CollectorRegistry
    shared: CollectorRegistry


def new_registries() -> Registries:
    """Empty ones, but for the process's own CPU seconds, memory and open files."""
    own = CollectorRegistry(auto_describe=True)
    ProcessCollector(namespace=PREFIX, registry=own)
    build = Gauge(f"{PREFIX}_build_info", "1; which Kaskad this is.", ["version"], registry=own)
    build.labels(VERSION).set(1)
    return Registries(own, CollectorRegistry(auto_describe=True))


def server_name(since_ms: int) -> str:
    """Names the server whose workers this process is or will start; of several, the first to run
    has the least name."""
    return f"{since_ms:014}-{socket.gethostname()}-{os.getpid()}"


def snapshot(registries: Registries, process: str, server: str = "") -> bytes:
    """All metrics of a process at this moment. `server` is empty for one that nobody scrapes."""
    return _encode(_taken(registries, process, server))


def render(
    snapshots: Iterable[bytes] | None, registries: Registries, process: str, server: str
) -> bytes:
    """Prometheus text of the process's server, and of all that no server owns where that is the
    first. `snapshots` are every process's; None: they cannot be had.

    A snapshot that another version wrote and this one cannot read is left out, and so is a family
    whose name or kind this one does not know.
    """
    here = _taken(registries, process, server)
    found = {process: here}
    for read in _readable(snapshots or ()):
        found.setdefault(read.process, read)
    first = min(snap.server for snap in found.values() if snap.server)
    leads = snapshots is not None and first == server
    union = _Union()
    for snap in found.values():
        if snap.server == server or (leads and not snap.server):
            union.add(snap.own, snap.process)
        if leads and (snap is here or not snap.server):
            union.share(snap.shared)
    return generate_latest(union)


def versions(found: Iterable[Figure]) -> dict[str, str]:
    """Which Kaskad each process is."""
    name = f"{PREFIX}_build_info"
    return {figure.process: figure.labels["version"] for figure in found if figure.name == name}


class Figure(NamedTuple):
    """One figure of one process, as its snapshot has it."""

    process: str
    name: str
    labels: dict[str, str]
    value: float


def figures(snapshots: Iterable[bytes]) -> Iterator[Figure]:
    """All that the processes say of themselves, also what they share."""
    for snap in _readable(snapshots):
        for family in (*snap.own, *snap.shared):
            for sample in family.samples:
                yield Figure(snap.process, sample.name, sample.labels, sample.value)


def _readable(snapshots: Iterable[bytes]) -> Iterator[_Snapshot]:
    """Those that this version can read."""
    for data in snapshots:
        try:
            read = _decode(data)
        except msgspec.DecodeError:
            continue
        if read.schema == _SCHEMA:
            yield read


def _taken(registries: Registries, process: str, server: str) -> _Snapshot:
    own, shared = registries
    return _Snapshot(_SCHEMA, process, server, list(_families(own)), list(_families(shared)))


class _Union(CollectorRegistry):
    """What `generate_latest` reads: families of several processes, put together."""

    def __init__(self) -> None:
        super().__init__()
        self._metrics: dict[str, Metric] = {}

    def add(self, families: Iterable[_Family], process: str) -> None:
        """A process's own, told apart by its name."""
        for family in families:
            if (metric := self._metric(family)) is not None:
                for sample in family.samples:
                    metric.add_sample(
                        sample.name, {**sample.labels, "process": process}, sample.value
                    )

    def share(self, families: Iterable[_Family]) -> None:
        """Figures that several processes show: each stands once, the highest."""
        for family in families:
            if (metric := self._metric(family)) is None:
                continue
            highest = {_series(sample): sample for sample in metric.samples}
            for each in family.samples:
                held = highest.get(_series(each))
                if held is None or each.value > held.value:
                    highest[_series(each)] = Sample(each.name, each.labels, each.value)
            metric.samples = list(highest.values())

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.values()

    def _metric(self, family: _Family) -> Metric | None:
        if family.name not in self._metrics:
            try:
                self._metrics[family.name] = Metric(family.name, family.help, family.kind)
            except ValueError:
                return None
        return self._metrics[family.name]


def _series(sample: Sample | _Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())


def _families(registry: CollectorRegistry) -> Iterator[_Family]:
    for metric in registry.collect():
        samples = [
            _Sample(s.name, dict(s.labels), float(s.value))
            for s in metric.samples
            if not s.name.endswith("_created")
        ]
        yield _Family(metric.name, metric.documentation, metric.type, samples)
