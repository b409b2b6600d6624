"""A page: a template, its style sheet, and the policy that tells a browser to use nothing else.

No page needs a script or anything from elsewhere. Every value is escaped by the template engine. A
template that is missing or uses an unknown name fails when the page is made or rendered.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

_FOLDER = Path(__file__).parent / "templates"
_code = re.compile(r"`([^`]+)`")


def _with_code(text: str) -> Markup:
    """Escapes a description and sets what stands between backticks as code."""
    return Markup(_code.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


class Page:
    """`templates/NAME.html` with `templates/NAME.css`, or that of another page. `allowed` is added
    to the policy."""

    def __init__(self, name: str, allowed: str = "", *, style: str = "") -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["with_code"] = _with_code
        css = (_FOLDER / f"{style or name}.css").read_text()
        # The style sheet is ours and its hash is in the policy: escaped it would be another one.
        self._css = Markup(css)  # noqa: S704
        self._template = environment.get_template(f"{name}.html")
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        self.content_security_policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; {allowed}"
            "base-uri 'none'; frame-ancestors 'none'"
        )

    def render(self, **parts: object) -> bytes:
        """The page with these values."""
        return self._template.render(css=self._css, **parts).encode()
