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
    """Whether an IP address is of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # An IPv4 address in disguise is judged as what it leads to.
        ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in _INSIDE)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What the standard library takes for global all the same: IPv4-compatible and IPv4-translated
# addresses, NAT64 of a network's own, site-local addresses, and segment routing.
_INSIDE = [
    ipaddress.ip_network(each)
    for each in ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10", "5f00::/16")
]
