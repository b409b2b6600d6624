"""URLs where people write them, and what of them may become the target of a link. Pure.

In a text a URL begins with http:// or https:// and goes on to a space, a quotation mark or an angle
bracket; punctuation at its end is the sentence's, and so is a closing bracket that nothing in the
URL opened. In HTML it is what an `href` of `a` or `area` names; elsewhere, as in a button, it is
the field as a whole. What is found is as it is written: `target_of` gives what a browser is sent
to. A change of these rules must go with a release in which both are known: a message is priced by
one process and written out by another.
"""

from __future__ import annotations

import html
import html.entities
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import idna
import msgspec
from msgspec.structs import replace

from gateway.core.channels import ChannelContent

TARGET_MAX = 2048  # characters of what a link leads to
UTM_NAMES = ("app", "campaign", "channel", "step")  # that can be filled in

LinkOf = Callable[[str], str]
Said = TypeVar("Said", bound=ChannelContent)

_url = re.compile(r"https?://[^\s<>\"«»„“”`|\\^{}\x00-\x20\x7f-\xa0]+", re.IGNORECASE)
# A tag ends where another begins, so that each letter is looked at for three tags at most, however
# they and their quotes are mixed. Without that "<a " 11,000 times took 28 s (2026-11-30).
_href = re.compile(
    r"(<a(?:rea)?\s(?:[^<>\"']|\"[^\"]*\"|'[^']*')*?(?<![\w-])href\s*=\s*)"
    r"(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))",
    re.IGNORECASE,
)
_name = re.compile(r"\{([a-z]+)\}")
_character = re.compile(r"&(?:#[xX]?[0-9a-fA-F]+;?|[0-9a-zA-Z]+(?:;|(?![0-9a-zA-Z=])))")
_ENDS = ".,;:!?'*_~…’"
_BRACKETS = {")": "(", "]": "["}
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # and what never needs to be escaped
_LOCAL = (".local", ".localhost", ".internal", ".lan", ".home.arpa")


def in_text(text: str, link_of: LinkOf) -> str:
    """The text with each URL replaced by what `link_of` says of it."""

    def replaced(found: re.Match[str]) -> str:
        url = _without_end(found[0])
        return link_of(url) + found[0][len(url) :] if _host(url) else found[0]

    return _url.sub(replaced, text)


def in_html(text: str, link_of: LinkOf) -> str:
    """The HTML with each `href` of a link replaced by what `link_of` says of it."""

    def replaced(found: re.Match[str]) -> str:
        url = _attribute(found[2] or found[3] or found[4] or "").strip()
        if _url.match(url) is None or not _host(url):
            return found[0]
        return f'{found[1]}"{html.escape(link_of(url))}"'

    return _href.sub(replaced, text)


def _attribute(value: str) -> str:
    """An attribute's value as browsers read it: unlike in a text, a name that only begins like one
    of a character, or stands before "=", is none, so that `&region=7` is no `®ion=7`."""
    return _character.sub(lambda found: _read(found[0]), value)


def _read(character: str) -> str:
    known = character[1] == "#" or character[1:] in html.entities.html5
    return html.unescape(character) if known else character


def in_content(said: Said, link_of: LinkOf) -> Said:
    """What a channel says with each URL that people can follow replaced."""
    changed: dict[str, object] = {}
    if said.text:
        changed["text"] = in_text(said.text, link_of)
    if page := getattr(said, "html", None):
        changed["html"] = in_html(page, link_of)
    if url := getattr(said, "url", None):
        changed["url"] = link_of(url)
    if button := getattr(said, "button", None):
        changed["button"] = replace(button, url=link_of(button.url))
    return replace(said, **changed)


def urls_of(said: ChannelContent) -> list[str]:
    """Each URL of a channel's content once, in their order."""
    found: dict[str, None] = {}

    def note(url: str) -> str:
        found[url] = None
        return url

    in_content(said, note)
    return list(found)


class LinkRules(msgspec.Struct, frozen=True):
    """What is configured of links. `base_url` has no slash at its end; `hosts` are the only ones
    that links may lead to, none: any public one; `utm` is added to targets. `root` is worked out
    of `base_url`: beside what is that path other pages of ours stand."""

    base_url: str = ""
    track: bool = False  # where neither a message nor its campaign says
    ttl_ms: int = 90 * 86_400_000
    hosts: frozenset[str] = frozenset()
    utm: Mapping[str, str] = {}
    root: str = ""

    def __post_init__(self) -> None:
        scheme, host, path, *_ = urlsplit(self.base_url)
        root = urlunsplit((scheme, host, path.rpartition("/")[0], "", ""))
        msgspec.structs.force_setattr(self, "root", root)

    def is_ours(self, url: str) -> bool:
        """Whether it is a link or another page of ours already."""
        mine = urlsplit(self.base_url)
        try:
            its = urlsplit(url)
            same = _authority(mine) == _authority(its)
        except ValueError:
            return False
        if not same:
            return False
        root = urlsplit(self.root).path
        ours = f"{mine.path}/", f"{root}/u/", f"{root}/o/"
        return its.path.startswith(ours)


def utm_of(rules: LinkRules, names: Mapping[str, str]) -> dict[str, str]:
    """What is added to a target: each `{name}` is filled in; a parameter of nothing is left out."""
    filled = {
        key: _name.sub(lambda found: names.get(found[1], found[0]), value)
        for key, value in rules.utm.items()
    }
    return {key: value for key, value in filled.items() if value}


def refusal_of(url: str, rules: LinkRules) -> str | None:
    """Why a link may not lead there; None: it may."""
    try:
        parts = urlsplit(url)
        host = _ascii_host(parts.hostname or "")
        _ = parts.port
    except ValueError:
        return "It is no URL."
    if parts.scheme not in ("http", "https") or not host:
        return "A link leads to an absolute http or https address."
    if parts.username is not None or parts.password is not None:
        return "A link leads to no address with a user name in it."
    if len(target_of(url)) > TARGET_MAX:
        return f"A link leads to an address of at most {TARGET_MAX} characters."
    if rules.hosts:
        if host not in rules.hosts:
            return f"Links lead to {', '.join(sorted(rules.hosts))} alone."
    elif not _is_public(host):
        return "A link leads to a public host."
    return None


def target_of(url: str, more: Mapping[str, str] | None = None) -> str:
    """What a browser is sent to: in ASCII, with the parameters of `more` that it does not have.
    Raises ValueError for what is no URL."""
    parts = urlsplit(url)
    host = _ascii_host(parts.hostname or "")
    host = f"[{host}]" if ":" in host else host
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    query = quote(parts.query, safe=_SAFE)
    if more:
        there = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
        added = urlencode({name: value for name, value in more.items() if name not in there})
        query = "&".join(part for part in (query, added) if part)
    path, fragment = quote(parts.path, safe=_SAFE), quote(parts.fragment, safe=_SAFE)
    return urlunsplit((parts.scheme, netloc, path, query, fragment))


def _without_end(url: str) -> str:
    while url:
        last = url[-1]
        opening = _BRACKETS.get(last)
        if last not in _ENDS and (opening is None or url.count(opening) >= url.count(last)):
            break
        url = url[:-1]
    return url


def host_of(name: str) -> str | None:
    """The one spelling of a host: in lower case, in IDNA's ASCII form; None: it cannot be one."""
    try:
        return _ascii_host(name.lower())
    except ValueError:
        return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _ascii_host(host: str) -> str:
    """Raises ValueError."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode().lower()
    except UnicodeError as error:
        raise ValueError(str(error)) from None


def is_one_click(root: str) -> bool:
    """Whether mail programs may unsubscribe below an address: RFC 8058 wants https; on this machine
    and its own network, where one rehearses, http will do."""
    return root.startswith("https://") or (bool(root) and not _is_public(_host(root)))


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host.strip(".") and not host.endswith(_LOCAL) and not _is_number(host)


def _is_number(host: str) -> bool:
    """Whether browsers read it as an address, such as 127.1 or 0x7f.1."""
    return re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", host.rstrip(".").rpartition(".")[2]) is not None


def _authority(parts: SplitResult) -> tuple[str | None, int]:
    """Raises ValueError."""
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
