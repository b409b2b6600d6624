"""Addresses that somebody else named for us to post to: which may be one at all.

Pure. Settings and ingress ask this, so nothing of a connection is loaded here: with the loop and
the client that `public_hosts` needs, each start of a command took a fifth more CPU (2026-11-29).
"""

from __future__ import annotations

from collections.abc import Container

PORT_MAX = 65_535


def is_receiver(url: str, hosts: Container[str]) -> bool:
    """Whether something may be posted to an address: https without user or fragment, for `hosts`
    plain http as well."""
    import httpx2  # only who has such an address loads it

    try:
        address = httpx2.URL(url)
        port = address.port
    except (httpx2.InvalidURL, ValueError):
        return False
    schemes = ("http", "https") if address.host in hosts else ("https",)
    fits = bool(address.host) and not address.userinfo and not address.fragment
    fits = fits and (port is None or 0 < port <= PORT_MAX)
    written = url.isascii() and url.isprintable() and " " not in url
    return fits and written and address.scheme in schemes


def is_host(text: str) -> bool:
    """Whether an address can have this very host, as `hosts` above hold it."""
    import httpx2

    try:
        return httpx2.URL(f"http://[{text}]/" if ":" in text else f"http://{text}/").host == text
    except httpx2.InvalidURL:
        return False
