"""Connections to hosts that somebody else named: never to an address inside.

A name is resolved here and the connection made to what it resolved to, so that a name which points
elsewhere a moment later gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket

import trio


async def open_public_stream(host: str, port: int) -> trio.SocketStream:
    """Connects to the first public address of a host that can be reached. Raises OSError, also
    where it has none."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    public = [str(address[0]) for *_, address in found if is_public(str(address[0]))]
    failure = OSError(f"{host} has no public address.")
    for address in dict.fromkeys(public):
        try:
            return await trio.open_tcp_stream(address, port)
        except OSError as error:
            failure = error
    raise failure


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet, and leads nowhere else."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip  # an IPv4 address written as IPv6
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in _INSIDE)


# What is refused though a version of the standard library takes it for global: addresses that stand
# for an IPv4 address (compatible, translated, 6to4, Teredo, NAT64) or lead to one, and networks of
# a special use, by the registries of IANA (2026-11).
_INSIDE = [
    ipaddress.ip_network(each)
    for each in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("240.0.0.0/4", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
        *("100::/64", "2001::/32", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
        *("fc00::/7", "fe80::/10", "fec0::/10"),
    )
]
