"""The console's pages: what each shows stands in `templates/console`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.ingress.pages.page import Page

# The pages, and the words of those that stand in the menu.
MENU = {
    "now": "Now",
    "providers": "Providers",
    "messages": "Messages",
    "campaigns": "Campaigns",
    "people": "People",
    "webhooks": "Webhooks",
    "leftovers": "Left over",
    "money": "Money",
    "audit": "Audit",
}
_NAMES = (*MENU, "provider", "message", "campaign", "webhook", "month", "done", "fault")
_pages = {
    name: Page(
        f"console/{name}",
        "img-src data:; form-action 'self'; ",
        styles=("base", "console/console"),
        script="console/console",
    )
    for name in _NAMES
}
POLICY = (b"content-security-policy", _pages["now"].content_security_policy.encode())


def render(name: str, view: Mapping[str, Any]) -> bytes:
    """A whole page."""
    return _pages[name].render(menu=MENU, here=name, **view)


def live(name: str, view: Mapping[str, Any]) -> str:
    """The part of a page that is kept up to date."""
    return _pages[name].render_block("live", **view)
