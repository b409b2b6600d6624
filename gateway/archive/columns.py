"""What the archive's columns hold, and rows as columns of Arrow.

Amounts come as integers in 1e-6 units and become DECIMAL(18, 6) without a rounding anywhere: their
bytes are laid out here, because a conversion would go through 128-bit objects one by one. What is
no integer raises instead of being cut to one.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import pyarrow as pa

ColumnKind = Literal["id", "word", "time", "count", "small", "money", "bytes", "nested"]

MONEY = pa.decimal128(18, 6)
_TIME = pa.timestamp("ms", tz="UTC")
_TYPES: dict[ColumnKind, pa.DataType] = {
    "id": pa.string(),
    "word": pa.string(),
    "time": _TIME,
    "count": pa.int64(),
    "small": pa.int16(),
    "money": MONEY,
    "bytes": pa.binary(),
}


class Column(NamedTuple):
    """Ids differ from row to row, words are the same again and again. What is nested is a list of
    rows with `columns` of their own."""

    name: str
    kind: ColumnKind
    columns: tuple[Column, ...] = ()

    @property
    def arrow(self) -> pa.DataType:
        return pa.list_(pa.struct(schema_of(self.columns))) if self.columns else _TYPES[self.kind]


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.arrow) for column in columns])


def table_of(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows, each with a value a column, as a table."""
    return pa.Table.from_arrays(_arrays(columns, rows), schema=schema_of(columns))


def _arrays(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[pa.Array]:
    values: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(columns)
    return [_array(column, each) for column, each in zip(columns, values, strict=True)]


def _array(column: Column, values: Sequence[Any]) -> pa.Array:
    if column.columns:
        inner = _arrays(column.columns, [row for rows in values for row in rows])
        rows = pa.StructArray.from_arrays(inner, fields=list(schema_of(column.columns)))
        ends = pa.array(accumulate(map(len, values), initial=0), pa.int32())
        return pa.ListArray.from_arrays(ends, rows, type=column.arrow)
    if column.kind == "money":
        return money_array(values)
    if column.kind in ("time", "count", "small"):
        _refuse_fractions(column.name, values)
    return pa.array(values, column.arrow)


def money_array(micros: Sequence[int | None]) -> pa.Array:
    """Amounts in 1e-6 units as decimals."""
    _refuse_fractions("an amount", micros)
    whole = pa.array(micros, pa.int64())
    # A decimal of 128 bits has its low half first where the machine has.
    assert sys.byteorder == "little"
    halves = array("q", [half for m in micros for half in (m or 0, (m or 0) >> 63)])
    validity = whole.buffers()[0]
    return pa.Array.from_buffers(
        MONEY, len(whole), [validity, pa.py_buffer(halves)], null_count=whole.null_count
    )


def micros_in(amounts: pa.Array) -> list[int]:
    """The other way, without the nulls."""
    there = amounts.drop_null()
    halves = array("q")
    first, last = 16 * there.offset, 16 * (there.offset + len(there))
    halves.frombytes(memoryview(there.buffers()[1])[first:last])
    return halves[::2].tolist()


def _refuse_fractions(name: str, values: Iterable[Any]) -> None:
    """Arrow would cut 1.5 to 1 without a word."""
    kinds = {type(value) for value in values} - {int, type(None)}
    if kinds:
        raise TypeError(f"{name} is given as {sorted(kind.__name__ for kind in kinds)}.")
