"""A decoded document becomes Structs, and everything wrong with it is told at once.

msgspec stops at the first fault, which makes a person repair a configuration one run at a time.
This walks the tables itself and leaves each value to `msgspec.convert`: an unknown key, a missing
one and a wrong value are each a fault with its path, and what is beside them is still read. Knows
nothing of settings. Nothing raises: faults are appended to the caller's list.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from gateway.settings.units import Duration, Rate

T = TypeVar("T", bound=msgspec.Struct)


class Fault(msgspec.Struct, frozen=True):
    """What is wrong at one key; `key` is a path such as `routes.fast.steps[0].wait`."""

    key: str
    reason: str


class AtLeast(msgspec.Struct, frozen=True):
    """The shortest duration a key takes; stands in the key's `Annotated` type."""

    ms: int


class _Bad(msgspec.Struct, frozen=True):
    """Stands for a value that could not be read."""


_BAD: Final = _Bad()


def decode(kind: type[T], table: Mapping[str, Any], faults: list[Fault]) -> T | None:
    """Reads a table into `kind`, appending every fault.

    A faulty key takes its default, so that the rest can be checked too; None when something
    required is missing or cannot be read.
    """
    value = _struct(kind, table, "", faults)
    return value if isinstance(value, kind) else None


def _struct(kind: type[msgspec.Struct], table: Any, path: str, faults: list[Fault]) -> Any:
    if not isinstance(table, Mapping):
        faults.append(Fault(path, "must be a table of keys."))
        return _BAD
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    faults += [Fault(_at(path, key), _unknown(key, fields)) for key in table if key not in fields]
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            value = _value(field.type, table[key], _at(path, key), faults)
            if value is not _BAD:
                values[field.name] = value
        elif field.required:
            faults.append(Fault(_at(path, key), "is missing."))
    if any(field.required and field.name not in values for field in fields.values()):
        return _BAD
    return kind(**values)


def _value(kind: Any, raw: Any, path: str, faults: list[Fault]) -> Any:
    inner, least = _bare(kind)
    arguments = get_args(inner)
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _struct(inner, raw, path, faults)
    if get_origin(inner) is dict:
        return _table(arguments[0], arguments[1], raw, path, faults)
    if get_origin(inner) is tuple:
        return _list(arguments[0], raw, path, faults)
    if get_origin(inner) is Literal and raw not in arguments:
        faults.append(Fault(path, f"is {raw!r}: use {_choice(arguments)}."))
        return _BAD
    try:
        value = msgspec.convert(raw, kind, dec_hook=_custom)
    except msgspec.ValidationError as error:
        reason = str(error)
        faults.append(Fault(path, f"{reason[0].lower()}{reason[1:]}."))
        return _BAD
    if least is not None and value < least.ms:
        faults.append(Fault(path, f"is {raw!r}: at least {least.ms} ms are needed."))
        return _BAD
    return value


def _table(names: Any, kind: Any, raw: Any, path: str, faults: list[Fault]) -> Any:
    if not isinstance(raw, Mapping):
        faults.append(Fault(path, "must be a table of tables."))
        return _BAD
    known = get_args(names) or raw.keys()
    faults += [Fault(_at(path, name), _unknown(name, known)) for name in raw if name not in known]
    read = {
        name: _value(kind, value, _at(path, name), faults)
        for name, value in raw.items()
        if name in known
    }
    return {name: value for name, value in read.items() if value is not _BAD}


def _list(kind: Any, raw: Any, path: str, faults: list[Fault]) -> Any:
    if not isinstance(raw, list):
        faults.append(Fault(path, "must be a list."))
        return _BAD
    read = [_value(kind, value, f"{path}[{i}]", faults) for i, value in enumerate(raw)]
    return tuple(value for value in read if value is not _BAD)


def _bare(kind: Any) -> tuple[Any, AtLeast | None]:
    """The type without `| None` (TOML has no null) and annotations, and its least value."""
    least = None
    if get_origin(kind) is Annotated:
        least = next((note for note in get_args(kind) if isinstance(note, AtLeast)), None)
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (argument for argument in get_args(kind) if argument is not NoneType)
    return kind, least


def _custom(kind: type, raw: Any) -> Any:
    if issubclass(kind, Duration | Rate):
        return kind.parse(raw)
    if kind is Path and isinstance(raw, str) and raw:
        return Path(raw)
    raise ValueError(f"{raw!r} is no path")


def _at(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _unknown(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"is an unknown key; did you mean {close[0]}?" if close else "is an unknown key."


def _choice(values: tuple[Any, ...]) -> str:
    *firsts, last = (f'"{value}"' for value in values)
    return f"{', '.join(firsts)} or {last}" if firsts else last
