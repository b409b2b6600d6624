"""The keys of an FCM provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from providers.notation import Text
from providers.push.settings import PushSettings
from providers.settings import TableFault, address_faults, is_local, reading_faults


class FcmSettings(PushSettings, frozen=True, kw_only=True):
    """`service_account_file` is the JSON file of the Firebase console."""

    service_account_file: Text
    base_url: Text = "https://fcm.googleapis.com"

    def faults(self) -> Iterator[TableFault]:
        yield from address_faults("base_url", self.base_url)

    def warnings(self) -> Iterator[TableFault]:
        if self.base_url.startswith("http:") and not is_local(self.base_url):
            yield "base_url", "is plain http to a provider that is not local: use https."

    def below(self, folder: Path) -> Self:
        return replace(self, service_account_file=str(folder / self.service_account_file))

    def file_faults(self) -> Iterator[TableFault]:
        from providers.fcm import service_account  # and with it what reads keys

        return reading_faults(
            "service_account_file", self.service_account_file, service_account.read
        )
