"""Names that callers give: a person's id in their system, a campaign. Pure."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from gateway.core.channels import NO_CONTROL
from gateway.core.texts import is_blank

NAME_MAX = 128
NAME_RULE = f"1 to {NAME_MAX} characters that can be seen."
CONTROL = "Control characters cannot stand here: leave them out."

Name = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        description=f"1 to {NAME_MAX} characters without control characters; kept as NFC, without "
        "spaces at its ends.",
        # How long it is counts as it is kept.
        extra_json_schema={**NO_CONTROL, "maxLength": NAME_MAX},
    ),
]

control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


def name_fault(name: str) -> str | None:
    """Why it cannot be a user's id or a campaign's name; None when it can."""
    bad = is_blank(name) or len(name) > NAME_MAX or control(name) is not None
    return NAME_RULE if bad else None
