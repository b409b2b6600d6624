"""Data read from TOML or JSON becomes Structs, and everything wrong with it is told at once.

msgspec stops at the first fault, which makes a person repair a document one run at a time. A
`Collector` walks the keys itself and leaves each value to `msgspec.convert`: an unknown key, a
missing one and a wrong value are each a fault at its path, and what is beside them is still read.
How paths and sentences are written is the document's own (`Words`). Nothing raises: faults are
kept, as many as are asked for, and the others counted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar, Union, get_args, get_origin

import msgspec

from providers.notation import AtLeast

MEMBERS_MAX = 1_000  # of a value whose kind is wrong: of more, only the whole is told

T = TypeVar("T", bound=msgspec.Struct)

# Where msgspec met a fault: "$[2].token"; of the names of a table's members it knows none.
_steps = re.compile(r"\[(\d+)\]|\.(\w+)").findall


@cache
def fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """msgspec evaluates the annotations anew each time: nine tenths of what a whole file took."""
    return msgspec.structs.fields(kind)


class KeyFault(msgspec.Struct, frozen=True):
    """What is wrong at one key; `key` is its path."""

    key: str
    reason: str


class Words(Protocol):
    """How faults are told in one kind of document."""

    def at(self, path: str, key: str | int) -> str:
        """The path of a key, or of an item of a list."""
        ...

    def unknown(self, key: str, known: Collection[str], owner: str) -> str:
        """`owner` is what chose the known keys, or empty: see `Tagged`."""
        ...

    def missing(self, kind: Any) -> str: ...

    def wrong(self, kind: Any, raw: Any, reason: str) -> str:
        """`reason` is msgspec's sentence, without a full stop."""
        ...

    def no_choice(self, raw: str, known: Collection[str]) -> str:
        """The value of a tag that chooses nothing."""
        ...


class Choice(Protocol):
    @property
    def settings(self) -> type[msgspec.Struct]: ...


class Tagged:
    """Stands in the `Annotated` type of a Struct that `choices` extend: the key `tag` says which of
    them a table is read as."""

    def __init__(self, tag: str, choices: Mapping[str, Choice]) -> None:
        self.tag = tag
        self.choices = choices


class _Bad(msgspec.Struct, frozen=True):
    """Stands for a value that could not be read."""


_BAD: Final = _Bad()


class Collector:
    """Reads documents of one kind; `faults` are the first that were met, `count` is their number.

    A faulty key takes its default, so that what is beside it is read too."""

    def __init__(self, words: Words, faults_max: int = sys.maxsize) -> None:
        self.faults: list[KeyFault] = []
        self.count = 0
        self._words = words
        self._faults_max = faults_max

    def read(self, kind: type[T], table: Any) -> T | None:
        """A whole document; None when something required is missing or cannot be read."""
        value = self._value(kind, table, "")
        return value if isinstance(value, kind) else None

    def read_keys(
        self, kind: type[msgspec.Struct], table: Mapping[str, Any], path: str = "", owner: str = ""
    ) -> dict[str, Any]:
        """The keys that can be read, by the name of their field and as its type."""
        fields = {field.encode_name: field for field in fields_of(kind)}
        unknown = (key for key in table if key not in fields)
        for key in islice(unknown, self._faults_max - len(self.faults)):
            self._fault(path, key, self._words.unknown(key, fields, owner))
        self.count += sum(1 for _ in unknown)  # of a million keys no sentence is made
        return self._known_keys(kind, table, path)

    def _known_keys(
        self, kind: type[msgspec.Struct], table: Mapping[str, Any], path: str
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field in fields_of(kind):
            key = field.encode_name
            if key in table:
                value = self._value(field.type, table[key], self._words.at(path, key))
                if value is not _BAD:
                    values[field.name] = value
            elif field.required:
                self._fault(path, key, self._words.missing(field.type))
        return values

    def _struct(
        self, kind: type[msgspec.Struct], table: Mapping[str, Any], path: str, owner: str = ""
    ) -> Any:
        values = self.read_keys(kind, table, path, owner)
        required = (f.name for f in fields_of(kind) if f.required)
        return _BAD if any(name not in values for name in required) else kind(**values)

    def _tagged(
        self, common: type[msgspec.Struct], by: Tagged, table: Mapping[str, Any], path: str
    ) -> Any:
        tag = table.get(by.tag)
        choice = by.choices.get(tag) if isinstance(tag, str) else None
        if choice is not None:
            return self._struct(choice.settings, table, path, f"{by.tag} {tag}")
        # Which other keys it may have is not known.
        self._known_keys(common, table, path)
        if isinstance(tag, str):
            self._fault(path, by.tag, self._words.no_choice(tag, by.choices))
        return _BAD

    def _value(self, kind: Any, raw: Any, path: str) -> Any:
        if isinstance(raw, Mapping):
            kind, raw = _struct_among(kind, raw)
        inner, notes = _bare(kind)
        arguments = get_args(inner)
        if _is_struct(inner) and isinstance(raw, Mapping):
            tagged = next((note for note in notes if isinstance(note, Tagged)), None)
            if tagged is not None:
                return self._tagged(inner, tagged, raw, path)
            return self._struct(inner, raw, path)
        if get_origin(inner) is dict and isinstance(raw, Mapping) and _holds_struct(arguments[1]):
            return self._table(arguments[0], arguments[1], raw, path)
        if get_origin(inner) is tuple and isinstance(raw, list):
            read = [
                self._value(arguments[0], value, self._words.at(path, i))
                for i, value in enumerate(raw)
            ]
            return tuple(value for value in read if value is not _BAD)
        return self._leaf(kind, notes, raw, path)

    def _leaf(self, kind: Any, notes: Collection[Any], raw: Any, path: str) -> Any:
        try:
            value = msgspec.convert(raw, kind, dec_hook=_custom)
        except msgspec.ValidationError as error:
            if not self._members(kind, raw, path):
                reason, _, place = str(error).partition(" - at")
                for index, name in _steps(place):
                    path = self._words.at(path, name or int(index))
                self._add(path, self._words.wrong(kind, raw, reason))
            return _BAD
        least = next((note for note in notes if isinstance(note, AtLeast)), None)
        if least is not None and value < least.ms:
            self._add(path, f"is {raw!r}: at least {least.ms} ms are needed.")
            return _BAD
        return value

    def _members(self, kind: Any, raw: Any, path: str) -> bool:
        """Whether it is a member of a table or list that is at fault: then each such is told."""
        inner = _bare(kind)[0]
        items: Iterable[tuple[str | int, Any]] = ()
        if get_origin(inner) is dict and isinstance(raw, Mapping) and len(raw) <= MEMBERS_MAX:
            items = raw.items()
        elif get_origin(inner) is list and isinstance(raw, list) and len(raw) <= MEMBERS_MAX:
            items = enumerate(raw)
        before = self.count
        for name, value in items:
            self._value(get_args(inner)[-1], value, self._words.at(path, name))
        return self.count > before

    def _table(self, names: Any, kind: Any, raw: Mapping[str, Any], path: str) -> Any:
        known = get_args(names) or raw.keys()
        read: dict[str, Any] = {}
        for name, value in raw.items():
            if name in known:
                read[name] = self._value(kind, value, self._words.at(path, name))
            else:
                self._fault(path, name, self._words.unknown(name, known, ""))
        return {name: value for name, value in read.items() if value is not _BAD}

    def _fault(self, path: str, key: str, reason: str) -> None:
        self._add(self._words.at(path, key), reason)

    def _add(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.faults) < self._faults_max:
            self.faults.append(KeyFault(path, reason))


def bare(kind: Any) -> Any:
    """A type without annotations and `| None`."""
    return _bare(kind)[0]


def rule_of(kind: Any) -> str:
    """The sentence that stands at a type, the same that the OpenAPI document shows; or empty."""
    inner, notes = _bare(kind)
    found = (note.description for note in notes if isinstance(note, msgspec.Meta))
    several = get_args(inner) if get_origin(inner) in (Union, UnionType) else ()
    return next((text for text in (*found, *map(rule_of, several)) if text), "")


def choices_of(kind: Any) -> tuple[str, ...]:
    """The words that a type allows, or that say which of several Structs a table is; or none."""
    inner = bare(kind)
    if get_origin(inner) is Literal:
        return tuple(map(str, get_args(inner)))
    return tuple(str(member.__struct_config__.tag) for member in _tagged_among(inner))


def _tagged_among(inner: Any) -> list[Any]:
    members = get_args(inner) if get_origin(inner) in (Union, UnionType) else ()
    return [each for each in members if _is_struct(each) and each.__struct_config__.tag]


def _bare(kind: Any) -> tuple[Any, list[Any]]:
    """Also the notes at it, the outermost first."""
    notes: list[Any] = []
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            notes += more
        elif get_origin(kind) in (Union, UnionType):
            rest = [argument for argument in get_args(kind) if argument is not NoneType]
            if len(rest) != 1:
                return kind, notes
            kind = rest[0]
        else:
            return kind, notes


def _struct_among(kind: Any, table: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Of a type that may be one Struct or something plain the Struct, of several Structs the one
    that the table's tag names, which is no key of it; any other type as it is."""
    inner = _bare(kind)[0]
    for each in _tagged_among(inner):
        field, tag = each.__struct_config__.tag_field, each.__struct_config__.tag
        if table.get(field) == tag:
            return each, {key: value for key, value in table.items() if key != field}
    members = get_args(inner) if get_origin(inner) in (Union, UnionType) else ()
    structs = [member for member in members if _is_struct(member)]
    return (structs[0] if len(structs) == 1 else kind), table


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _holds_struct(kind: Any) -> bool:
    return _is_struct(_bare(kind)[0])


def _custom(kind: type, raw: Any) -> Any:
    parse: Callable[[Any], Any] | None = getattr(kind, "parse", None)
    if parse is not None:
        return parse(raw)
    if kind is Path and isinstance(raw, str) and raw:
        return Path(raw)
    raise ValueError(f"{raw!r} is no path")
