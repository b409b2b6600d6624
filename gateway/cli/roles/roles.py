"""The roles as commands: settings read, Redis checked, logs set up, then the role itself runs.

What comes before a role's own `run` is the same for each; the role's module is imported last, with
its loop. Warnings about settings and Redis are logged, errors end the start: they raise
ConfigurationError.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from gateway import crew, hangup
from gateway.backoff import Backoff
from gateway.cli.failures import DONE, UsageFault
from gateway.cli.reach import redis_for_role
from gateway.redis.errors import RedisUnavailable
from gateway.redis.server.loading import tell_loading, wait_until_loaded
from gateway.settings import bootstrap
from gateway.settings.file import Settings, load
from gateway.store.installation import installation
from gateway.telemetry import RoleName, configure_logs
from gateway.version import VERSION

LOG_LEVEL = "KASKAD_LOG_LEVEL"  # debug, info (default), warning, error
LOG_FORMAT = "KASKAD_LOG_FORMAT"  # json or text; default: text on a terminal
KEYLESS = "no-provider-has-a-key"  # what the simulator then signs with
REDIS_WAIT_S = 30.0  # under `kaskad up`, which has seen Redis serve
REDIS_TRY_S_MIN, REDIS_TRY_S_MAX = 0.05, 1.0

FoundT = TypeVar("FoundT")

_log = structlog.get_logger("start")


class Simulation(msgspec.Struct, frozen=True):
    """How the simulator was asked for; `knobs` are texts of the form name=value, `people` the path
    of a file of their habits, `book` that of its durable book, `smtp_tls` that of a folder."""

    host: str
    port: int
    seed: int
    api_key: str | None
    knobs: tuple[str, ...]
    people: Path | None = None
    book: Path | None = None
    smtp_port: int = 0
    smpp_port: int = 0
    smtps_port: int = 0
    smtp_tls: Path | None = None


def serve(
    config: Path | None,
    environment: Mapping[str, str],
    *,
    workers: int | None,
    host: str | None,
    port: int | None,
) -> int:
    """Runs ingress until it is told to stop."""
    url = _start("ingress", "serve", config, environment)

    def read() -> Settings:
        settings = _read(config, environment, url)
        server = settings.server
        return replace(
            settings,
            server=replace(
                server,
                workers=server.workers if workers is None else workers,
                host=server.host if host is None else host,
                port=server.port if port is None else port,
            ),
        )

    from gateway.ingress.http import server as ingress

    ingress.run(read(), ready=crew.announce, beat=crew.beat, read=read)
    return DONE


def dispatch(config: Path | None, environment: Mapping[str, str], *, restored: bool = False) -> int:
    """Runs a dispatcher until it is told to stop; `restored`: Redis was, from a backup."""
    url = _start("dispatch", "dispatch", config, environment, restored=restored)

    def read() -> Settings:
        return _read(config, environment, url)

    from gateway.dispatch import dispatcher as dispatcher

    restored_ms = once_redis_answers(lambda: installation.restored_at(url))
    dispatcher.run(read(), ready=crew.announce, beat=crew.beat, read=read, restored_ms=restored_ms)
    return DONE


def _people(path: Path) -> object:
    """Raises UsageFault."""
    from providers import simulator

    try:
        return msgspec.to_builtins(simulator.read_people(path.read_text("utf-8-sig")))
    except OSError as fault:
        reason = f"cannot be read: {fault.strerror}."
    except UnicodeDecodeError:
        reason = "is not UTF-8 text."
    except ValueError as fault:
        reason = f"{str(fault).rstrip('.')}."
    raise UsageFault(f"The simulator cannot start: {path}: {reason}")


def simulate(config: Path | None, environment: Mapping[str, str], wanted: Simulation) -> int:
    """Runs the simulator until it is told to stop."""
    crew.follow_parent()
    settings = load(config, environment, secrets_required=False)
    set_up_logs("simulator", environment)
    from providers import simulator

    try:
        given = {"seed": wanted.seed, "hooks": bootstrap.callback_addresses(settings)}
        given |= dict(_knob(text) for text in wanted.knobs)
        if wanted.people is not None:
            given["people"] = _people(wanted.people)
        knobs = simulator.changed(
            simulator.knobs_of(settings.providers, settings.prices.file), given
        )
    except (simulator.KnobFault, ValueError, OSError) as fault:
        raise UsageFault(f"The simulator cannot start: {fault}") from None

    def ready(port: int) -> None:
        _log.info("simulator_ready", url=f"http://{wanted.host}:{port}", prices=len(knobs.prices))
        crew.announce(port)

    chosen = simulator.Settings(
        api_key=wanted.api_key or _api_key(settings),
        knobs=knobs,
        book="" if wanted.book is None else str(wanted.book),
        smtp_port=wanted.smtp_port,
        smpp_port=wanted.smpp_port,
        smtps_port=wanted.smtps_port,
        smtp_tls="" if wanted.smtp_tls is None else str(wanted.smtp_tls),
    )
    try:
        simulator.run(chosen, host=wanted.host, port=wanted.port, ready=ready)
    except (simulator.BookFault, simulator.CertificateFault) as fault:
        raise UsageFault(str(fault)) from None
    except OSError as fault:
        ports = (wanted.port, wanted.smtp_port, wanted.smpp_port, wanted.smtps_port)
        tried = " or ".join(str(port) for port in ports if port)
        raise UsageFault(
            f"{wanted.host}:{tried} cannot be listened on ({fault.strerror}): choose another "
            "--host, --port, --smtp-port, --smtps-port or --smpp-port, or stop what uses it."
        ) from None
    return DONE


def set_up_logs(role: RoleName, environment: Mapping[str, str]) -> None:
    """Logs as KASKAD_LOG_LEVEL and KASKAD_LOG_FORMAT want them. Raises UsageFault."""
    form = environment.get(LOG_FORMAT) or ("text" if sys.stderr.isatty() else "json")
    if form not in ("text", "json"):
        raise UsageFault(f"{LOG_FORMAT} is {form!r}: use json or text.")
    try:
        configure_logs(role, environment.get(LOG_LEVEL) or "info", form == "json")
    except ValueError as fault:
        raise UsageFault(f"{LOG_LEVEL}: {fault}") from None


def _read(config: Path | None, environment: Mapping[str, str], url: str) -> Settings:
    """The configuration of a role whose Redis is at `url`. Raises SettingsError."""
    settings = load(config, environment)
    return replace(settings, redis=replace(settings.redis, url=url))


def _start(
    role: RoleName,
    command: str,
    config: Path | None,
    environment: Mapping[str, str],
    *,
    restored: bool = False,
) -> str:
    """What every role does first; returns the URL of Redis. Raises ConfigurationError."""
    hangup.hold()
    crew.follow_parent()
    settings = load(config, environment)
    set_up_logs(role, environment)
    url = redis_for_role(settings, command)
    warnings = prepare_redis(settings, url, restored=restored)
    _log.info(
        "starting",
        role=role,
        version=VERSION,
        configuration=str(settings.path),
        digest=settings.digest,
    )
    if crew.READY_FD not in os.environ:
        # Under `kaskad up` they were told once for all roles.
        for warning in warnings:
            _log.warning("start_check", warning=warning)
    return url


def prepare_redis(settings: Settings, url: str, *, restored: bool) -> list[str]:
    """Waits until Redis has loaded its data, and notes there what a first start does. Returns the
    warnings of settings and Redis. Raises StoreUnfitError, RedisUnavailable."""
    wait_until_loaded(url, tell_loading)
    restored_ms = once_redis_answers(partial(_time_of, url)) if restored else 0
    prepare = partial(
        installation.prepare,
        url,
        settings.redis.shards,
        settings.prices.currency,
        zone=settings.reports.zone,
        restored_ms=restored_ms,
    )
    found = once_redis_answers(prepare)
    return [*settings.warnings, *(finding.sentence for finding in found)]


def _time_of(url: str) -> int:
    """Raises RedisUnavailable."""
    from gateway.redis.asyncio_driver import run
    from gateway.store import redis_clock

    return run(url, redis_clock.now_ms)


def once_redis_answers(
    ask: Callable[[], FoundT], sleep: Callable[[float], None] = time.sleep
) -> FoundT:
    """What Redis answers. Under `kaskad up` one that died meanwhile is started again, and waited
    for; else nobody does that. Raises RedisUnavailable."""
    end = time.monotonic() + (REDIS_WAIT_S if crew.READY_FD in os.environ else 0.0)
    backoff = Backoff(REDIS_TRY_S_MIN, REDIS_TRY_S_MAX)
    while True:
        try:
            return ask()
        except RedisUnavailable:
            if time.monotonic() >= end:
                raise
            sleep(backoff.next_s())  # no loop runs yet


def _knob(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--knob {text!r} has no value: write it as name=value.")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value  # a plain word needs no quotes


def _api_key(settings: Settings) -> str:
    """The one key that all configured providers are called with. Raises UsageFault."""
    named = {name for each in settings.providers.values() if (name := each.key_variable)}
    keys = {key for name in named if (key := settings.secrets.get(name))}
    if len(keys) == 1:
        return keys.pop()
    if keys:
        raise UsageFault("The configured providers have different keys: name one with --api-key.")
    if settings.providers and not named:
        return KEYLESS
    wanted = " or ".join(sorted(named)) or "the providers' api_key_env"
    raise UsageFault(f"The simulator needs the key it asks for: set {wanted}, or use --api-key.")
