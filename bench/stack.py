"""What the benchmark's world and the storm's stage have in common: Kaskad's roles and a provider.

One app, two channels and one price list, in one folder and on the loopback only. A provider that
cannot be asked is a BenchFailed.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.processes import BenchFailed, Child, Started, free_port, role

APP_KEY = "bench-key-0123456789abcdef"
PROVIDER_KEY = "bench-provider-key"
CALLBACK_TOKEN = "bench-callback-token"  # noqa: S105 - of this run on the loopback only
VIBER, SMS, FCM, SMTP = "bench-viber", "bench-sms", "bench-fcm", "bench-smtp"
SMPP = "bench-smpp"
ACCOUNT_FILE = "service-account.json"
PRICES = f"""provider,prefix,category,cost,sell,currency,valid_from
{VIBER},,,0.0100,0.0125,EUR,2020-01-01
{SMS},,,0.0400,0.0500,EUR,2020-01-01
{FCM},,,0.0010,0.0012,EUR,2020-01-01
{SMTP},,,0.0020,0.0025,EUR,2020-01-01
{SMPP},,,0.0400,0.0500,EUR,2020-01-01
"""


class Stack(Started):
    """`env` is what every process gets, `logs` are those of the roles in the order of their start.
    The provider is a simulator at `provider_url`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs: list[Path] = []
        self.provider_port = free_port()
        self.provider_url = f"http://127.0.0.1:{self.provider_port}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("KASKAD_")} | {
            "BENCH_APP_KEY": APP_KEY,
            "BENCH_PROVIDER_KEY": PROVIDER_KEY,
            "BENCH_CALLBACK_TOKEN": CALLBACK_TOKEN,
            "BENCH_SMTP_USER": "bench",
            "KASKAD_LOG_FORMAT": "json",
        }

    def check(self) -> None:
        """Raises BenchFailed when a process has died that should live."""

    def launch_role(
        self,
        name: str,
        config: Path,
        words: list[str],
        env: Mapping[str, str] | None = None,
        python: str = "",
    ) -> Child:
        """Starts `kaskad <words>`, with `env` over its own, of another version where `python` is
        that one's; `await_ready` tells when it serves."""
        log = self.folder / f"{len(self.logs)}-{name}.log"
        self.logs.append(log)
        command = role([words[0], "--config", str(config), *words[1:]], python)
        return Child(f"kaskad {name}", command, log, {**self.env, **(env or {})}, announces=True)

    def launch_simulator(
        self, config: Path, seed: int, viber_share: float, knobs: Mapping[str, object], *more: str
    ) -> Child:
        words = ["simulate", "--port", str(self.provider_port), "--seed", str(seed)]
        words += ["--viber-share", str(viber_share), *more]
        for name, value in knobs.items():
            words += ["--knob", f"{name}={json.dumps(value)}"]
        return self.launch_role("simulator", config, words)

    def told_by(self, config: Path, redis_url: str, *words: str) -> Any:
        """What a `kaskad` command says with --json. Raises BenchFailed."""
        done = subprocess.run(
            role([*words, "--config", str(config)]),
            env=self.env | {"KASKAD_REDIS_URL": redis_url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise BenchFailed(f"kaskad {' '.join(words)}: {done.stderr.strip()}") from None

    def stats(self) -> dict[str, Any]:
        """The provider's."""
        found: dict[str, Any] = self.ask(f"{self.provider_url}/_sim/stats")
        return found

    def turn(self, **knobs: object) -> None:
        """Changes knobs of the simulator."""
        self.ask(f"{self.provider_url}/_sim/knobs", method="PUT", body=json.dumps(knobs).encode())

    def bill(self) -> dict[str, Any]:
        """The provider's."""
        found: dict[str, Any] = self.ask(f"{self.provider_url}/_sim/bill")
        return found

    def billed(self) -> dict[str, Any]:
        """Every message on the bill, by reference."""
        found: dict[str, Any] = self.ask(f"{self.provider_url}/_sim/bill?full=1")["messages"]
        return found

    def ask(
        self, url: str, authorization: str = "", *, method: str = "GET", body: bytes | None = None
    ) -> Any:
        """What a JSON answer says. Raises BenchFailed."""
        request = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - ours
        request.add_header("Content-Type", "application/json")
        if authorization:
            request.add_header("Authorization", authorization)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as fault:
            raise BenchFailed(f"{url} answered {fault.code}: {fault.read()[:300]!r}") from None
        except OSError as fault:
            self.check()
            raise BenchFailed(f"{url} cannot be reached: {fault}") from None


def providers_text(url: str, rate: int, batch: int, more: str) -> str:
    """Both providers in the configuration, each with the lines of `more`."""
    return "".join(
        f'[providers.{name}]\nkind = "infobip-{channel}"\nbase_url = "{url}"\nsender = "Bench"\n'
        f'rate = "{rate}/s"\nbatch = {batch}\n{more}\ncharged_on = "{charged_on}"\n'
        'api_key_env = "BENCH_PROVIDER_KEY"\ncallback_token_env = "BENCH_CALLBACK_TOKEN"\n\n'
        for name, channel, charged_on in ((VIBER, "viber", "delivered"), (SMS, "sms", "sent"))
    )


def fcm_text(url: str, rate: int, more: str, account: str = ACCOUNT_FILE) -> str:
    """A provider of notifications in the configuration, with the lines of `more`; `account` is the
    file of its service account."""
    return (
        f'[providers.{FCM}]\nkind = "fcm"\nbase_url = "{url}"\nrate = "{rate}/s"\n{more}\n'
        f'charged_on = "sent"\nservice_account_file = "{account}"\n\n'
    )


def smtp_text(port: int, rate: int, more: str) -> str:
    """A mail server in the configuration, with the lines of `more`."""
    return (
        f'[providers.{SMTP}]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n'
        f'rate = "{rate}/s"\n{more}\ncharged_on = "sent"\nfrom = "Bench <news@bench.example>"\n'
        'user_env = "BENCH_SMTP_USER"\npassword_env = "BENCH_PROVIDER_KEY"\n\n'
    )


def smpp_text(port: int, rate: int, more: str) -> str:
    """An SMSC in the configuration, with the lines of `more`."""
    return (
        f'[providers.{SMPP}]\nkind = "smpp"\nhost = "127.0.0.1"\nport = {port}\n'
        f'system_id = "bench"\nsender = "Bench"\nrate = "{rate}/s"\n{more}\n'
        'charged_on = "sent"\npassword_env = "BENCH_PROVIDER_KEY"\n\n'
    )


def service_account(url: str) -> str:
    """An account of Google's for this run; the provider at `url` gives it its tokens."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {"project_id": "bench", "client_email": "bench@bench.example", "private_key": pem}
    return json.dumps(account | {"token_uri": f"{url}/token"})
