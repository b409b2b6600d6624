"""`kaskad up`: all roles of one machine in the foreground, and Redis when none is configured.

Redis and its checks come first, then ingress and dispatcher together; on the way down the roles
first, so that they can still write down what they did. A role that cannot start at all ends
everything with its exit code; one that dies later is started again by its crew. SIGHUP is passed on
to them. The second ctrl-C does not wait.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import structlog

from gateway import hangup
from gateway.cli.failures import DONE, FAILED
from gateway.cli.reach import embedded_redis
from gateway.cli.roles.roles import LOG_FORMAT, prepare_redis, set_up_logs
from gateway.cli.terminal import mention
from gateway.crew import Crew, Notice, OwnerAsked, Ready, Role, RoleEnded, role_command
from gateway.settings.file import Settings, load

STOP_SLACK_S = 5.0  # what a role may take beyond its own deadline
START_WAIT_S = 60.0

_log = structlog.get_logger("up")


def up(config: Path | None, environment: Mapping[str, str], *, restored: bool = False) -> int:
    """Runs until SIGINT or SIGTERM; returns the exit code. `restored`: Redis was, from a backup."""
    hangup.hold()  # in what is started from here too, until it listens
    settings = load(config, environment)
    set_up_logs("cli", environment)
    with ExitStack() as stack:
        url = settings.redis.url
        if not url:
            server = embedded_redis(settings)
            url = stack.enter_context(server).url
            _log.info("embedded_redis_ready", data_dir=str(settings.redis.data_dir))
        for warning in prepare_redis(settings, url, restored=restored):
            _log.warning("start_check", warning=warning)
        crew = Crew(roles(settings), _role_environment(environment, url), _line())
        _on_signals(crew)
        return _run(crew, settings)


def roles(settings: Settings) -> tuple[Role, ...]:
    """Ingress, dispatcher and, where the configuration has something for them, archiver and
    reporter, as processes."""
    config = ("--config", str(settings.path))
    reporter = Role("reports", role_command("report", "run", *config), STOP_SLACK_S)
    archiver = Role("archive", role_command("archive", "run", *config), STOP_SLACK_S)
    return (
        Role(
            "ingress",
            role_command("serve", *config),
            settings.server.stop_within_ms / 1000 + STOP_SLACK_S,
        ),
        Role(
            "dispatch",
            role_command("dispatch", *config),
            settings.lanes.stop_within_ms / 1000 + STOP_SLACK_S,
        ),
        *([archiver] if settings.archive.url else []),
        *([reporter] if settings.reports.schedule else []),
    )


def _run(crew: Crew, settings: Settings) -> int:
    code = DONE
    host = port = ""
    crew.start()
    hangup.release()
    try:
        waiting = {role.name for role in roles(settings)}
        while True:
            notice = crew.notices.get()
            match notice:
                case OwnerAsked():
                    break
                case RoleEnded(final=True):
                    _log.error("cannot_start", role=notice.role, exit_code=notice.code)
                    code = notice.code if notice.code > 0 else FAILED
                    break
                case RoleEnded():
                    continue  # its crew has said so and starts it again
                case Ready():
                    if notice.role == "ingress":
                        host, _, port = notice.said.rpartition(" ")
                    was_waiting = bool(waiting)
                    waiting.discard(notice.role)
                    if was_waiting and not waiting:
                        mention(places(settings, host, port))
    finally:
        clean = crew.stop()
    return code if clean or code else FAILED


def places(settings: Settings, host: str, port: str) -> str:
    """Where things are, for whoever just started Kaskad on that address."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    base = f"http://{host}:{port}"
    data_dir = settings.redis.data_dir
    redis = "as configured" if settings.redis.url else f"embedded, data in {data_dir}"
    return (
        f"Kaskad serves.\n"
        f"  Send       POST {base}/v1/messages\n"
        f"  Documents  {base}/docs\n"
        f"  Reports    {base}/reports\n"
        f"  Metrics    {base}/metrics\n"
        f"  Redis      {redis}\n"
        f"Stop it with ctrl-C.\n"
    )


def _role_environment(environment: Mapping[str, str], url: str) -> dict[str, str]:
    own = dict(environment) | {"KASKAD_REDIS_URL": url}
    if sys.stderr.isatty():
        own.setdefault(LOG_FORMAT, "text")
    return own


def _line() -> Callable[[str, str], None]:
    """Passes a role's lines on: named for a person, unchanged for a machine that reads JSON."""
    named = sys.stderr.isatty()
    lock = threading.Lock()

    def line(role: str, text: str) -> None:
        with lock:
            sys.stderr.write(f"{role:<8} | {text}\n" if named else f"{text}\n")
            sys.stderr.flush()

    return line


def _on_signals(crew: Crew) -> None:
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked:
            crew.send(signal.SIGKILL)
        asked.append(number)
        crew.notices.put(_told(number))

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    # Each role reads the file again and says what it makes of it.
    signal.signal(signal.SIGHUP, lambda number, _frame: crew.send(number))


def _told(number: int) -> Notice:
    return OwnerAsked(signal.Signals(number).name)
