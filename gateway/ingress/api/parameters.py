"""The parameters of an address are read."""

from __future__ import annotations

from urllib.parse import parse_qsl

from gateway.ingress.http.problems import refuse


def read_parameters(query: bytes, most: int, *, keep_blank: bool = False) -> list[tuple[str, str]]:
    """So many names and values, in their order; one without a value only with `keep_blank`. Raises
    Refusal."""
    try:
        return parse_qsl(query.decode("ascii"), keep_blank, max_num_fields=most)
    except ValueError:
        raise refuse("malformed", "The parameters of the address cannot be read.") from None
