"""What the demo starts, so that nothing of it is left behind: Redis, simulator, roles.

A temporary directory holds Redis's data and the configuration (`gateway.demo.configuration`);
secrets live as long as the demo. Leaving the stage stops all processes, however it is left.
What cannot be started is a CampaignFailed (or the error of the part itself) with the last lines of
its log.
"""

from __future__ import annotations

import queue
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gateway.crew import Crew, Ready, Role, RoleEnded, role_command
from gateway.demo.api import Api, CampaignFailed
from gateway.demo.campaign import Traffic
from gateway.demo.cast import Cast, choose
from gateway.demo.configuration import (
    DOORS,
    HOST,
    KEY_ENVS,
    Additions,
    DemoAddresses,
    campaign_channels,
    write,
)
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.settings import bootstrap
from gateway.settings import file as settings_file
from gateway.settings.file import Settings
from gateway.store.installation import api_keys
from providers.simulator import Knobs, Overrides, People, knobs_of
from providers.simulator import Settings as SimulatorSettings
from providers.simulator.child import Child, ChildFailed, start

START_WAIT_S = 30.0
STOP_WAIT_S = 8.0
LOG_LINES = 400  # kept of all roles together
LOG_LINES_SHOWN = 15

EXPIRY_MS = 1_500  # when the simulator reports a person who was not reached
REVIVE_SHARE = 0.1  # of those, who get the message after all, when the next step is out already
REVIVE_MS = 2_500


class Stage:
    """Everything that runs for the demo."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        simulator: Child,
        crew: Crew,
        log: deque[str],
        people: Sequence[People],
        cast: Cast | None,
        additions: Additions,
    ) -> None:
        self.settings = settings
        self.people = people
        self.additions = additions
        self.cast = cast
        self.redis_url = redis_url
        self.simulator = simulator
        self.url = settings.server.public_url
        self._crew = crew
        self._log = log

    @property
    def channels(self) -> tuple[str, ...]:
        """Those of the campaign's route, in its order."""
        return campaign_channels(self.settings)

    def share(self, channel: str) -> float:
        """Of people who have it."""
        return sum(kind.share for kind in self.people if channel in kind.on)

    def key(self, app: str) -> str:
        return self.settings.app_keys()[app]

    def api(self, app: str) -> Api:
        return Api(self.settings.server.port, self.key(app))

    def check(self) -> None:
        """Raises CampaignFailed when a role has ended."""
        try:
            notice = self._crew.notices.get_nowait()
        except queue.Empty:
            return
        if isinstance(notice, RoleEnded):
            raise CampaignFailed(f"The {notice.role} ended with {notice.code}.{self.last()}")

    def wait_ready(self) -> None:
        """Waits until both roles serve. Raises CampaignFailed."""
        waiting = {role.name for role in roles(self.settings.path)}
        deadline = time.monotonic() + START_WAIT_S
        while waiting:
            try:
                notice = self._crew.notices.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise CampaignFailed(
                    f"Not ready after {START_WAIT_S:.0f} s: {', '.join(waiting)}.{self.last()}"
                ) from None
            match notice:
                case Ready():
                    waiting.discard(notice.role)
                case RoleEnded():
                    raise CampaignFailed(f"The {notice.role} could not start.{self.last()}")

    def last(self) -> str:
        """The last lines the roles wrote, to be added to a sentence."""
        lines = list(self._log)[-LOG_LINES_SHOWN:]
        return "".join(f"\n  {line}" for line in ["Their last words:", *lines]) if lines else ""


@contextmanager
def stage(
    environment: Mapping[str, str],
    *,
    config: Path | None,
    port: int,
    seed: int,
    traffic: Traffic,
    people: Sequence[People],
    additions: Additions,
) -> Iterator[Stage]:
    """Starts it all and stops it all. `config` None is the shipped configuration. Raises
    SettingsError for one that cannot be used."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaskad-demo-")))
        base = settings_file.load(config, {}, secrets_required=False)
        redis = stack.enter_context(EmbeddedRedis(folder / "redis", base.redis.fsync))
        api_key = secrets.token_urlsafe(24)
        doors = {kind: free_port() for kind in DOORS}
        simulator = stack.enter_context(_simulator(api_key, doors))
        places = DemoAddresses(port or free_port(), simulator.base_url, doors)
        made = write(folder, base, additions, places)
        own = _secrets(settings_file.load(made, {}, secrets_required=False), api_key)
        settings = settings_file.load(made, own)
        cast = choose(traffic.spare, people, seed, campaign_channels(settings))
        knobs = _knobs(settings, seed, people, traffic, cast)
        simulator.turn(**msgspec.to_builtins(knobs))
        children = {k: v for k, v in environment.items() if k != "KASKAD_CONFIG"} | own
        children |= {"KASKAD_REDIS_URL": redis.url, "KASKAD_LOG_FORMAT": "json"}
        log: deque[str] = deque(maxlen=LOG_LINES)
        crew = Crew(roles(made), children, lambda role, line: log.append(f"{role}: {line}"))
        stack.callback(_patiently, crew)
        crew.start()
        yield Stage(settings, redis.url, simulator, crew, log, people, cast, additions)


@contextmanager
def _simulator(api_key: str, doors: Mapping[str, int]) -> Iterator[Child]:
    """One that is not told yet how it is to be. Raises CampaignFailed."""
    ports = {f"{kind}_port": port for kind, port in doors.items()}
    try:
        child = start(msgspec.convert({"api_key": api_key, **ports}, SimulatorSettings))
    except ChildFailed as fault:
        raise CampaignFailed(str(fault)) from fault
    try:
        yield child
    finally:
        child.stop()


def roles(config: Path) -> tuple[Role, ...]:
    return (
        Role("ingress", role_command("serve", "--config", str(config)), STOP_WAIT_S),
        Role("dispatch", role_command("dispatch", "--config", str(config)), STOP_WAIT_S),
    )


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def shipped_file(settings: Settings, name: str) -> Path:
    """A file that lies beside the shipped configuration."""
    return settings.path.parent / "demo" / name


def _patiently(crew: Crew) -> None:
    """Stops the roles; a ctrl-C meanwhile must not leave half of it behind."""
    if threading.current_thread() is not threading.main_thread():
        crew.stop()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        crew.stop()
    finally:
        signal.signal(signal.SIGINT, before)


def _knobs(
    settings: Settings, seed: int, people: Sequence[People], traffic: Traffic, cast: Cast | None
) -> Knobs:
    channels = campaign_channels(settings)
    stories = {phone: {channels[0]: {"ending": "silent"}} for phone in traffic.silent}
    if cast is not None:
        stories[cast.known] = {channel: {"ending": "delivered"} for channel in channels}
    return replace(
        knobs_of(settings.providers, settings.prices.file),
        seed=seed,
        people=tuple(people),
        expiry_ms=EXPIRY_MS,
        revive_share=REVIVE_SHARE,
        revive_ms=REVIVE_MS,
        hooks=bootstrap.callback_addresses(settings),
        repeat_share=0.02,
        reordered_share=0.02,
        early_share=0.01,
        by_phone=msgspec.convert(stories, dict[str, Overrides]),
    )


def _secrets(settings: Settings, api_key: str) -> dict[str, str]:
    """All variables that are needed; `api_key` is what the simulator takes from every provider."""
    own = {name: api_keys.new_key() for name in KEY_ENVS.values()}
    own[settings.archive.hash_key_env] = secrets.token_urlsafe(24)
    for provider in settings.providers.values():
        for key, name in provider.variables():
            known = key in ("api_key_env", "password_env")
            own[name] = api_key if known else secrets.token_urlsafe(24)
    return own
