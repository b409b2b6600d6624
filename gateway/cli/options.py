"""The options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration to use.", show_default=False),
]
Restored = Annotated[
    bool,
    typer.Option(
        "--restored",
        help="Redis was restored from a backup: ask providers what they have before sending.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
