"""The keys of a web push provider."""

from __future__ import annotations

import re
from collections.abc import Iterator

from providers.notation import Text
from providers.push.settings import PushSettings
from providers.settings import TableFault, address_faults

# Of the browsers that people use; others are added in the configuration.
HOSTS = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "*.push.services.mozilla.com",
    "web.push.apple.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)

_subject = re.compile(r"(mailto:[^@\s]+@[^@\s]+|https://\S+)").fullmatch
_host = re.compile(r"(\*\.)?([a-z0-9-]+\.)+[a-z0-9-]+").fullmatch


class WebPushSettings(PushSettings, frozen=True, kw_only=True):
    """`base_url` takes the place of every subscription's own host."""

    vapid_key_env: Text
    subject: Text
    hosts: tuple[Text, ...] = HOSTS
    base_url: Text | None = None

    def faults(self) -> Iterator[TableFault]:
        if _subject(self.subject) is None:
            reason = (
                f"is {self.subject!r}: write whom a push service may ask, such as "
                '"mailto:ops@shop.example" or an https address.'
            )
            yield "subject", reason
        for host in self.hosts:
            if _host(host) is None:
                yield "hosts", f'holds {host!r}: write a host, or "*." and a domain.'
        if not self.hosts:
            yield "hosts", "is empty: then no subscription can be reached."
        if self.base_url is not None:
            yield from address_faults("base_url", self.base_url)
