"""The configuration that the demo plays: the shipped one, or the one named, and what it adds.

Everything leads to the simulator, waits are seconds, and the acts have their routes. Pure, but for
reading the additions and writing a service account.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.demo.campaign import CLUB, SHOP, MessageTemplate, read_templates
from gateway.settings.file import Settings
from gateway.settings.price_file import COLUMNS
from providers.registry import KINDS

HOST = "127.0.0.1"
KEY_ENVS = {SHOP: "KASKAD_SHOP_KEY", CLUB: "KASKAD_CLUB_KEY"}

# A step that is never answered falls back after its wait and grace; so the demo takes seconds.
WAITS = ("2s", "500ms")
LAST_WAITS = ("3s", "1s")

# What the acts need beside the configured things: routes and a send window.
REACTIONS, BEST, REACH, WINDOW = "demo-reactions", "demo-best", "demo-reach", "demo-day"
REACT = "2s"  # longer than the people of the demo take to read

# Kinds that are not spoken to over HTTP, and how their connections are left unencrypted.
DOORS: Mapping[str, str | bool] = {"smtp": "none", "smpp": False}
ACCOUNT = "service-account.json"
PRICES = "prices.csv"
ARCHIVE = "archive"


class Additions(msgspec.Struct, frozen=True):
    """Tables of providers, whose channels the route REACH tries before those of the campaign's,
    or which have the place there of one of those; what the former cost, as a price list; the
    service account of those that need one; and the message that is sent over the route."""

    providers: dict[str, Any]
    prices: str
    account: dict[str, str]
    message: MessageTemplate


class DemoAddresses(msgspec.Struct, frozen=True):
    """Where the ingress and the simulator are: `doors` by kind."""

    port: int
    simulator_url: str
    doors: dict[str, int]


def read_additions(folder: Path) -> Additions:
    """What lies in the demo's own folder."""
    return Additions(
        providers=tomllib.loads((folder / "reach.toml").read_text("utf-8"))["providers"],
        prices=(folder / "reach.csv").read_text("utf-8"),
        account=msgspec.json.decode((folder / ACCOUNT).read_bytes(), type=dict[str, str]),
        message=read_templates((folder / "reach.ndjson").read_bytes())[0],
    )


def write(folder: Path, base: Settings, additions: Additions, places: DemoAddresses) -> Path:
    """Writes the configuration and what it refers to; returns its path."""
    (folder / ACCOUNT).write_bytes(_service_account(additions.account, places.simulator_url))
    (folder / PRICES).write_text(_prices(base, additions), "utf-8")
    made = folder / "kaskad.toml"
    made.write_text(_configuration(base, additions, places))
    return made


def alone(channel: str) -> str:
    """The route of one channel of the campaign's alone."""
    return f"demo-{channel}-alone"


def campaign_channels(settings: Settings) -> tuple[str, ...]:
    """The channels of the route that marketing takes, in its order."""
    route = settings.routes[settings.categories["marketing"].route]
    return tuple(dict.fromkeys(settings.channel_of(step) for step in route.steps))


def _configuration(base: Settings, additions: Additions, places: DemoAddresses) -> str:
    """The configuration with other addresses, the demo's two apps, and shorter waits."""
    document: dict[str, Any] = tomllib.loads(base.path.read_text())
    url = f"http://{HOST}:{places.port}"
    server = document.setdefault("server", {})
    server |= {"host": HOST, "port": places.port, "public_url": url}
    document["server"]["stop_within"] = document.setdefault("lanes", {})["stop_within"] = "5s"
    document["redis"] = {"data_dir": "redis"}
    document["archive"] = {"url": ARCHIVE, "keep": "1s"}
    document["links"] = {"default": "track"}
    document["webhooks"] = {"allow_hosts": [HOST]}
    document.setdefault("prices", {})["file"] = PRICES
    scopes = {
        SHOP: ["send", "read", "report-all", "manage", "operate"],
        CLUB: ["send", "read", "manage"],
    }
    document["apps"] = [
        {"name": app, "key_env": KEY_ENVS[app], "scopes": scopes[app]} for app in (SHOP, CLUB)
    ]
    _add(document, base, additions)
    for provider in document["providers"].values():
        provider |= _at_simulator(provider["kind"], places)
    for route in document["routes"].values():
        *earlier, last = route["steps"]
        for step in earlier:
            step |= _waits(WAITS)
        last |= _waits(LAST_WAITS)
    document["routes"] |= _routes(campaign_channels(base), additions)
    document.setdefault("send_windows", {})[WINDOW] = {"from": "09:00", "to": "21:00"}
    return to_toml(document)


def _add(document: dict[str, Any], base: Settings, additions: Additions) -> None:
    """Adds the providers. One of a configured channel is charged as the others there, because the
    simulator has one bill for a channel, and takes no share of what is sent by the channel."""
    peers = _peers(base, additions)
    for name, table in additions.providers.items():
        document["providers"][name] = dict(table)
        if name in peers:
            of_peer = base.providers[peers[name][0]]
            document["providers"][name]["charged_on"] = of_peer.charged_on
            channels = document.setdefault("channels", {})
            channel = channels.setdefault(KINDS[of_peer.kind].channel, {})
            channel.setdefault("providers", [{"name": each} for each in peers[name]])


def _peers(base: Settings, additions: Additions) -> dict[str, list[str]]:
    """By added provider, the configured ones of its channel, where there are any."""
    found = {
        name: [each for each, of in base.providers.items() if KINDS[of.kind].channel == channel]
        for name, channel in _channels(additions).items()
    }
    return {name: peers for name, peers in found.items() if peers}


def _channels(additions: Additions) -> dict[str, str]:
    return {name: KINDS[each["kind"]].channel for name, each in additions.providers.items()}


def _at_simulator(kind: str, places: DemoAddresses) -> dict[str, Any]:
    """The keys of a provider that lead to the simulator."""
    known = KINDS[kind].settings.__struct_fields__
    keys: dict[str, Any] = {"base_url": places.simulator_url, "service_account_file": ACCOUNT}
    led = {key: value for key, value in keys.items() if key in known}
    if kind in places.doors:
        led |= {"host": HOST, "port": places.doors[kind], "tls": DOORS[kind]}
    return led


def _prices(base: Settings, additions: Additions) -> str:
    """The price list with that of the additions, whose amounts are of any currency. A provider of
    a configured channel costs what its peer does."""
    with base.prices.file.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    money, peers = {"currency": base.prices.currency}, _peers(base, additions)
    added = csv.DictReader(io.StringIO(additions.prices))
    rows += [row | money for row in added if row["provider"] not in peers]
    for name, (peer, *_) in peers.items():
        rows += [row | {"provider": name} for row in rows if row["provider"] == peer]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _service_account(account: Mapping[str, str], url: str) -> bytes:
    """The file that Google's console would give, with a key of its own and the simulator's URL."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own = {"private_key": pem.decode(), "token_uri": f"{url}/token"}
    return msgspec.json.encode({**account, **own})


def _routes(channels: Sequence[str], additions: Additions) -> dict[str, Any]:
    """Those of the acts, over the campaign's channels. On one channel alone nothing follows, so
    that there is time."""
    routes: dict[str, Any] = {
        alone(channel): {"steps": [{"channel": channel}]} for channel in channels
    }
    timed = [*((channel, WAITS) for channel in channels[:-1]), (channels[-1], LAST_WAITS)]
    if len(channels) > 1:
        first, last = ({"channel": name} | _waits(waits) for name, waits in (timed[0], timed[-1]))
        waiting = first | {"until": "seen", "react": REACT}
        routes[REACTIONS] = {"steps": [waiting, last | {"importance": "high"}]}
        routes[BEST] = {"order": "best", "steps": [first, last]}
    named = {channel: {"provider": name} for name, channel in _channels(additions).items()}
    added = [(channel, WAITS) for channel in named if channel not in channels]
    routes[REACH] = {
        "steps": [
            named.get(channel, {"channel": channel}) | _waits(waits)
            for channel, waits in (*added, *timed)
        ]
    }
    return routes


def _waits(waits: tuple[str, str]) -> dict[str, str]:
    return dict(zip(("wait", "grace"), waits, strict=True))


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
