"""How the faults of a configuration are told: paths as `routes.fast.steps[0].wait`, and sentences
that go on after the key."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin

import msgspec

from gateway.decoding import bare


class TomlWords:
    def at(self, path: str, key: str | int) -> str:
        if isinstance(key, int):
            return f"{path}[{key}]"
        return f"{path}.{key}" if path else key

    def unknown(self, key: str, known: Collection[str], owner: str) -> str:
        close = difflib.get_close_matches(key, list(known), n=1)
        told = f"is an unknown key; did you mean {close[0]}?" if close else "is an unknown key."
        return f"{told} The keys of {owner} are: {', '.join(known)}." if owner else told

    def missing(self, kind: Any) -> str:  # noqa: ARG002 - other documents say what is wanted
        return "is missing."

    def wrong(self, kind: Any, raw: Any, reason: str) -> str:
        inner = bare(kind)
        if get_origin(inner) is Literal:
            return f"is {raw!r}: use {_choice(get_args(inner))}."
        if get_origin(inner) is tuple:
            return "must be a list."
        if get_origin(inner) is dict:
            return "must be a table of tables."
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return "must be a table of keys."
        return f"{reason[0].lower()}{reason[1:]}."

    def no_choice(self, raw: str, known: Collection[str]) -> str:
        return f"is {raw!r}: there are adapters for {', '.join(sorted(known))}."


def _choice(values: tuple[Any, ...]) -> str:
    *firsts, last = (f'"{value}"' for value in values)
    return f"{', '.join(firsts)} or {last}" if firsts else last
