"""Just enough TOML to write a configuration from Python: tables, arrays of tables, plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the keys of `above` put over it, table by table; None takes a key away."""
    whole = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(whole.get(key), Mapping):
            whole[key] = merged(whole[key], value)
        else:
            whole[key] = value
    return {key: value for key, value in whole.items() if value is not None}


def toml(tables: Mapping[str, Any]) -> str:
    """The text of a file whose top level holds tables and arrays of tables."""
    return "\n".join(_lines(tables, ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key, value in table.items():
        if key in inner:
            continue
        if not path and isinstance(value, list):
            for each in value:
                yield f"[[{key}]]"
                yield from _lines(each, (key,))
        else:
            yield f"{key} = {_value(value)}"
    for key, value in inner.items():
        name = (*path, key)
        yield f"[{'.'.join(name)}]"
        yield from _lines(value, name)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value)
