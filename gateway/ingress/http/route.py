"""What one row of the route table says, and finding the row of a request.

A row is all there is to know of an endpoint from outside: where it is, which scope its key needs,
under which name it is counted and logged, and what the OpenAPI document tells of it. An address
that is in no row is a 404, one without the method a 405: both are raised as Refusal.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import unquote, unquote_plus

import msgspec

from gateway.ingress.http.problems import Refusal, refuse
from gateway.ingress.http.request import Request
from gateway.store.installation.api_keys import Scope

EndpointsT = TypeVar("EndpointsT")
Doc = dict[str, Any]
Handler = Callable[[Request], Awaitable[None]]
Method = Literal["GET", "PUT", "PATCH", "POST", "DELETE"]
Tag = Literal[
    "Messages",
    "Campaigns",
    "Links",
    "Opt-outs",
    "People",
    "Reports",
    "Webhooks",
    "Providers",
    "Operators",
    "State",
]

QUERY_NAME_MAX = 64  # characters of an unknown one that are repeated to the caller

_NO_PARAMETERS: Mapping[str, str] = {}


class DocumentedSettings(msgspec.Struct, frozen=True):
    """What the document tells of this installation's settings."""

    batch_items_max: int
    providers: tuple[str, ...]


# A type that msgspec describes, a JSON schema, a tuple of either, or a function that gives one of
# these for the settings.
Schema = Any


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a request."""

    name: str
    place: Literal["path", "query", "header"]
    text: str
    schema: Schema = msgspec.field(default_factory=lambda: {"type": "string"})


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What a request or an answer carries: the schema of each media type."""

    text: str = ""
    media: Mapping[str, Schema] = msgspec.field(default_factory=dict)
    required: bool = True  # of a request
    # By media type. Of an answer in JSON one is made from the schema where there is none here.
    examples: Mapping[str, Any] = msgspec.field(default_factory=dict)
    headers: Doc = msgspec.field(default_factory=dict)  # of an answer
    shown: Sequence[type[msgspec.Struct]] = ()  # what a text holds: described, but no schema here


class HttpRoute(msgspec.Struct, Generic[EndpointsT], frozen=True, kw_only=True):
    """One row: a method at an address. `name` is the endpoint's name everywhere: the label of its
    metrics, its log lines, and the document's operationId."""

    method: Method
    path: str  # `{name}` stands for one segment
    name: str
    handler: Callable[[EndpointsT], Handler]
    scope: Scope | None = None  # None: no key is asked for
    login: bool = False  # a page: the key comes as the password of HTTP Basic
    any_query: bool = False  # its query is another's, who may put into it what he likes
    endless: bool = False  # its answer is a stream: there is no HEAD of it
    # Served on the admin port alone where there is one, on both, or never there.
    on_admin_port: Literal["only", "too", "no"] = "no"
    # A pattern of other paths at which it is, where no row is.
    elsewhere: str = ""
    # Only refusals are counted and logged, and what changed something: it is asked all the time.
    quiet: bool = False
    tag: Tag | None = None  # None: not in the document
    summary: str = ""
    text: str = ""
    parameters: Sequence[Parameter] = ()
    body: Payload | None = None
    answers: Mapping[int, Payload] = msgspec.field(default_factory=dict)
    # Statuses of its problems, beside those that scope and body bring.
    problems: Sequence[int] = ()


def refuse_unknown_query(route: HttpRoute[Any], query: bytes) -> None:
    """Raises Refusal for a parameter that a row of the API does not have."""
    if route.any_query or not route.path.startswith("/v1/"):
        return
    known = [each.name for each in route.parameters if each.place == "query"]
    for field in query.split(b"&"):
        name = unquote_plus(field.partition(b"=")[0].decode("latin-1"))
        if field and name not in known:
            there_are = f"there are: {', '.join(known)}" if known else "there are none"
            shown = name[:QUERY_NAME_MAX]
            raise refuse("query", f"Unknown query parameter {shown!r}; {there_are}.")


Methods: TypeAlias = dict[str, HttpRoute[EndpointsT]]


class Router(Generic[EndpointsT]):
    """Finds the row of a request."""

    def __init__(self, routes: Sequence[HttpRoute[EndpointsT]]) -> None:
        self._plain: dict[str, dict[str, HttpRoute[EndpointsT]]] = {}
        patterns: dict[str, dict[str, HttpRoute[EndpointsT]]] = {}
        for route in routes:
            place = patterns if "{" in route.path else self._plain
            methods = place.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET" and not route.endless:
                methods["HEAD"] = route
        # By what is before an open last segment, as almost all are: people follow links all day.
        self._open_ended: dict[str, tuple[str, Methods[EndpointsT]]] = {}
        # The others by the first segment, which no pattern leaves open.
        self._patterns: dict[str, list[tuple[re.Pattern[str], Methods[EndpointsT]]]] = {}
        for path, methods in patterns.items():
            if (open_ended := _open_ended(path)) is not None:
                self._open_ended[open_ended[1]] = open_ended[2], methods
            else:
                self._patterns.setdefault(_head(path), []).append((_pattern(path), methods))
        self._elsewhere = [
            (re.compile(route.elsewhere), patterns[route.path])
            for route in routes
            if route.elsewhere
        ]

    def find(self, method: str, path: str) -> tuple[HttpRoute[EndpointsT], Mapping[str, str]]:
        """The row, and the parameters in its path. Raises Refusal (404, 405)."""
        methods, parameters = self._plain.get(path), _NO_PARAMETERS
        if methods is None:
            methods, parameters = self._match(path)
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(methods)
            raise refuse("method-not-allowed", f"Use {allowed}.", (b"allow", allowed.encode()))
        return route, parameters

    def _match(self, path: str) -> tuple[dict[str, HttpRoute[EndpointsT]], Mapping[str, str]]:
        before, _, last = path.rpartition("/")
        found = self._open_ended.get(before)
        if found is not None and last:
            name, methods = found
            return methods, {name: unquote(last)}
        for pattern, methods in chain(self._patterns.get(_head(path), ()), self._elsewhere):
            if (match := pattern.fullmatch(path)) is not None:
                return methods, {name: unquote(value) for name, value in match.groupdict().items()}
        raise _nothing_here()


def _head(path: str) -> str:
    return path[: path.find("/", 1)]


_open_ended = re.compile(r"([^{]*)/\{(\w+)\}").fullmatch


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _nothing_here() -> Refusal:
    return refuse("not-found", "There is nothing at this address; /docs lists all there is.")
