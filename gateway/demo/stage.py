"""What the demo starts, so that nothing of it is left behind: Redis, simulator, roles.

A temporary directory holds Redis's data and a configuration made from the shipped one (or the one
named); secrets live as long as the demo. Leaving the stage stops all processes, however it is left.
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
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.crew import Crew, Ended, Ready, Role, role_command
from gateway.demo.api import Api, CampaignFailed
from gateway.demo.campaign import CLUB, SHOP, Traffic
from gateway.demo.cast import Cast, choose
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.settings import file as settings_file
from gateway.settings.file import Settings
from gateway.store import api_keys
from providers.http.settings import HttpSettings
from providers.simulator import Knobs, Overrides, People, knobs_of
from providers.simulator import Settings as SimulatorSettings
from providers.simulator.child import Child, ChildFailed, running

START_WAIT_S = 30.0
STOP_WAIT_S = 8.0
LOG_LINES = 400  # kept of all roles together
LOG_LINES_SHOWN = 15

KEY_ENVS = {SHOP: "KASKAD_SHOP_KEY", CLUB: "KASKAD_CLUB_KEY"}

# A step that is never answered falls back after its wait and grace; so the demo takes seconds.
WAITS = ("2s", "500ms")
LAST_WAITS = ("3s", "1s")
EXPIRY_MS = 1_500  # when the simulator reports a person who was not reached
REVIVE_SHARE = 0.1  # of those, who get the message after all, when the next step is out already
REVIVE_MS = 2_500

# What the acts need beside the configured things: routes and a send window.
REACTIONS, BEST, WINDOW = "demo-reactions", "demo-best", "demo-day"
REACT = "2s"  # longer than the people of the demo take to read


def alone(channel: str) -> str:
    """The route of one channel of the campaign's alone."""
    return f"demo-{channel}-alone"


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
    ) -> None:
        self.settings = settings
        self.people = people
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
        if isinstance(notice, Ended):
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
                case Ended():
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
) -> Iterator[Stage]:
    """Starts it all and stops it all. `config` None is the shipped configuration. Raises
    SettingsError for one that cannot be used."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaskad-demo-")))
        api_key, own = _secrets(settings_file.load(config, {}, secrets_required=False))
        base = settings_file.load(config, own)
        redis = stack.enter_context(EmbeddedRedis(folder / "redis", base.redis.fsync))
        cast = choose(traffic.spare, people, seed, campaign_channels(base))
        knobs = _knobs(base, seed, people, traffic, cast)
        try:
            simulator = stack.enter_context(
                running(SimulatorSettings(api_key=api_key, knobs=knobs))
            )
        except ChildFailed as fault:
            raise CampaignFailed(str(fault)) from fault
        made = folder / "kaskad.toml"
        made.write_text(_configuration(base, port or free_port(), simulator.base_url))
        children = {k: v for k, v in environment.items() if k != "KASKAD_CONFIG"} | own
        children |= {"KASKAD_REDIS_URL": redis.url, "KASKAD_LOG_FORMAT": "json"}
        log: deque[str] = deque(maxlen=LOG_LINES)
        crew = Crew(roles(made), children, lambda role, line: log.append(f"{role}: {line}"))
        stack.callback(_patiently, crew)
        crew.start()
        settings = settings_file.load(made, own)
        yield Stage(settings, redis.url, simulator, crew, log, people, cast)


def roles(config: Path) -> tuple[Role, ...]:
    return (
        Role("ingress", role_command("serve", "--config", str(config)), STOP_WAIT_S),
        Role("dispatch", role_command("dispatch", "--config", str(config)), STOP_WAIT_S),
    )


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def campaign_channels(settings: Settings) -> tuple[str, ...]:
    """The channels of the route that marketing takes, in its order."""
    route = settings.routes[settings.categories["marketing"].route]
    return tuple(dict.fromkeys(settings.channel_of(step) for step in route.steps))


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
        repeat_share=0.02,
        reordered_share=0.02,
        early_share=0.01,
        by_phone=msgspec.convert(stories, dict[str, Overrides]),
    )


def _secrets(base: Settings) -> tuple[str, dict[str, str]]:
    """The key that the simulator takes from every provider, and all variables that are needed."""
    api_key = secrets.token_urlsafe(24)
    own = {name: api_keys.new_key() for name in KEY_ENVS.values()}
    for provider in base.providers.values():
        own |= {name: secrets.token_urlsafe(24) for _, name in provider.variables()}
        if isinstance(provider, HttpSettings):
            own[provider.api_key_env] = api_key
    return api_key, own


def _configuration(base: Settings, port: int, provider_url: str) -> str:
    """The configuration with other addresses, the demo's two apps, and shorter waits."""
    document: dict[str, Any] = tomllib.loads(base.path.read_text())
    url = f"http://127.0.0.1:{port}"
    server = document.setdefault("server", {})
    server |= {"host": "127.0.0.1", "port": port, "public_url": url}
    document["server"]["stop_within"] = document.setdefault("lanes", {})["stop_within"] = "5s"
    document["redis"] = {"data_dir": "redis"}
    document.setdefault("prices", {})["file"] = str(base.prices.file)
    scopes = {SHOP: ["send", "read", "report-all", "manage"], CLUB: ["send", "read"]}
    document["apps"] = [
        {"name": app, "key_env": KEY_ENVS[app], "scopes": scopes[app]} for app in (SHOP, CLUB)
    ]
    for name, provider in base.providers.items():
        if isinstance(provider, HttpSettings):
            document["providers"][name]["base_url"] = provider_url
    for route in document["routes"].values():
        *earlier, last = route["steps"]
        for step in earlier:
            step["wait"], step["grace"] = WAITS
        last["wait"], last["grace"] = LAST_WAITS
    document["routes"] |= _routes(base)
    document.setdefault("send_windows", {})[WINDOW] = {"from": "09:00", "to": "21:00"}
    return to_toml(document)


def _routes(base: Settings) -> dict[str, Any]:
    """Those of the acts, over the channels of the campaign's route. On one channel alone nothing
    follows, so that there is time."""
    steps = base.routes[base.categories["marketing"].route].steps
    channels = list(dict.fromkeys(base.channel_of(step) for step in steps))
    routes: dict[str, Any] = {
        alone(channel): {"steps": [{"channel": channel}]} for channel in channels
    }
    if len(channels) > 1:
        first, last = (
            {"channel": channel, "wait": wait, "grace": grace}
            for channel, (wait, grace) in ((channels[0], WAITS), (channels[-1], LAST_WAITS))
        )
        waiting = first | {"until": "seen", "react": REACT}
        routes[REACTIONS] = {"steps": [waiting, last | {"importance": "high"}]}
        routes[BEST] = {"order": "best", "steps": [first, last]}
    return routes


def to_toml(document: Mapping[str, Any]) -> str:
    """Writes tables of strings, numbers, lists and tables; what `tomllib` reads back unchanged."""
    return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in document.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
