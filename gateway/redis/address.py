"""Where Redis is: the URL of the settings, read once into an `Address`.

    redis://[[user]:password@]host[:port][/db]            TCP
    rediss://…[?ssl_ca_certs=FILE&ssl_certfile=FILE&ssl_keyfile=FILE]   TLS, always verified
    unix://[[user]:password@]/path/to/redis.sock[?db=N]   unix socket
    redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/service[/db][?sentinel_password=…]
    rediss+sentinel://…                                   the same, with TLS to sentinels and Redis
    redis+cluster://[[user]:password@]host[:port][,host[:port]…]   any nodes of a Redis Cluster
    rediss+cluster://…                                    the same, with TLS to every node

Pure, apart from reading certificate files in `Address.tls_context`. A faulty URL raises
`AddressError`, whose sentence never repeats the URL, because a URL may hold a password; for the
same reason an address prints as its `label`.
"""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from gateway.errors import ConfigurationError

PORT_DEFAULT = 6379
SENTINEL_PORT_DEFAULT = 26379
DB_MAX = 65535

_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_OPTIONS = {
    "redis": frozenset[str](),
    "rediss": _TLS_OPTIONS,
    "unix": frozenset({"db"}),
    "redis+sentinel": frozenset({"sentinel_password"}),
    "rediss+sentinel": _TLS_OPTIONS | {"sentinel_password"},
    "redis+cluster": frozenset[str](),
    "rediss+cluster": _TLS_OPTIONS,
}


class AddressError(ConfigurationError):
    """The URL of Redis cannot be used; the sentence says why."""


class Endpoint(msgspec.Struct, frozen=True):
    """One place to connect to: a unix socket's `path`, or `host` and `port`."""

    path: str | None = None
    host: str = ""
    port: int = 0

    @property
    def label(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address(msgspec.Struct, frozen=True):
    """Which Redis, and how to log in.

    `endpoints` is the one server, with a `service` its sentinels in the order to ask them, or of a
    `cluster` some nodes that know the others.
    """

    endpoints: tuple[Endpoint, ...]
    service: str | None = None
    cluster: bool = False
    username: str | None = None
    password: str | None = None
    sentinel_password: str | None = None
    db: int = 0
    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def label(self) -> str:
        """What may be shown and logged: no password."""
        places = ", ".join(endpoint.label for endpoint in self.endpoints)
        if self.cluster:
            return f"{places} (cluster)"
        return f"{places} (sentinels of {self.service})" if self.service is not None else places

    def of_node(self, endpoint: Endpoint) -> Address:
        """The address of one node of the cluster, with the same log-in."""
        return msgspec.structs.replace(self, endpoints=(endpoint,), cluster=False)

    def __repr__(self) -> str:
        return f"Address({self.label})"

    def tls_context(self) -> ssl.SSLContext | None:
        """A verifying client context, or None without TLS.

        Raises AddressError for unreadable files.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except OSError as fault:
            raise AddressError(
                f"The TLS files of redis.url cannot be used: {fault}. Check ssl_ca_certs, "
                "ssl_certfile and ssl_keyfile."
            ) from fault
        return context


def parse_address(url: str) -> Address:
    """Reads one of the forms above. Raises AddressError."""
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as fault:
        raise AddressError(f"redis.url is not a URL: {fault}.") from fault
    if parts.scheme not in _OPTIONS:
        raise AddressError(
            f"redis.url starts with {parts.scheme or 'no scheme'!r}; use one of "
            + ", ".join(f"{scheme}://" for scheme in _OPTIONS)
            + "."
        )
    unknown = sorted(options.keys() - _OPTIONS[parts.scheme])
    if unknown:
        raise AddressError(f"redis.url has the unknown option {unknown[0]!r}; remove it.")
    option = {key: values[-1] for key, values in options.items()}
    username, password = _login(parts)
    address = Address(
        endpoints=(),
        username=username,
        password=password,
        sentinel_password=option.get("sentinel_password"),
        tls=parts.scheme.startswith("rediss"),
        ca_file=option.get("ssl_ca_certs"),
        certificate_file=option.get("ssl_certfile"),
        key_file=option.get("ssl_keyfile"),
    )
    if parts.scheme == "unix":
        return _unix(address, parts, option.get("db", ""))
    if parts.scheme.endswith("+sentinel"):
        return _sentinel(address, parts)
    if parts.scheme.endswith("+cluster"):
        return _cluster(address, parts)
    return _tcp(address, parts)


def _login(parts: SplitResult) -> tuple[str | None, str | None]:
    login, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None, None
    username, colon, password = login.partition(":")
    if not colon:
        raise AddressError("redis.url has a user without a password; write user:password@.")
    return unquote(username) or None, unquote(password) or None


def _unix(address: Address, parts: SplitResult, db: str) -> Address:
    if parts.netloc.rpartition("@")[2] or len(parts.path) < 2:
        raise AddressError(
            "redis.url needs an absolute path to the socket: unix:///path/redis.sock."
        )
    endpoint = Endpoint(path=unquote(parts.path))
    return msgspec.structs.replace(address, endpoints=(endpoint,), db=_db(db))


def _tcp(address: Address, parts: SplitResult) -> Address:
    endpoint = _endpoint(parts.netloc.rpartition("@")[2] or "localhost", PORT_DEFAULT)
    return msgspec.structs.replace(
        address, endpoints=(endpoint,), db=_db(parts.path.removeprefix("/"))
    )


def _sentinel(address: Address, parts: SplitResult) -> Address:
    hosts = parts.netloc.rpartition("@")[2]
    service, _, db = parts.path.removeprefix("/").partition("/")
    if not hosts or not service:
        raise AddressError(
            "redis.url needs sentinels and a service: redis+sentinel://host:port,host:port/service."
        )
    return msgspec.structs.replace(
        address,
        endpoints=tuple(_endpoint(host, SENTINEL_PORT_DEFAULT) for host in hosts.split(",")),
        service=unquote(service),
        db=_db(db),
    )


def _cluster(address: Address, parts: SplitResult) -> Address:
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts:
        raise AddressError(
            "redis.url needs some nodes of the cluster: redis+cluster://host:port,host:port."
        )
    if parts.path.removeprefix("/"):
        raise AddressError("redis.url names a database, and a cluster has only one; remove it.")
    return msgspec.structs.replace(
        address,
        endpoints=tuple(_endpoint(host, PORT_DEFAULT) for host in hosts.split(",")),
        cluster=True,
    )


def _endpoint(text: str, port_default: int) -> Endpoint:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as fault:
        raise AddressError(f"redis.url has a faulty host or port: {fault}.") from fault
    if not host:
        raise AddressError("redis.url has an empty host; write host:port.")
    return Endpoint(host=host, port=port_default if port is None else port)


def _db(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and int(text) <= DB_MAX):
        raise AddressError(f"redis.url has the database {text!r}; it must be a number like 0.")
    return int(text)
