"""A page: a template, its style sheet, and the policy that tells a browser to use nothing else.

No page needs a script or anything from elsewhere; one may have a script of its own. Every value is
escaped by the template engine. A template is compiled when first shown, which takes 10 to 25 ms:
all of them were a fifth of a second of each start. One that is missing or uses an unknown name
fails when it is rendered.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

_FOLDER = Path(__file__).parent / "templates"
_code = re.compile(r"`([^`]+)`")


def _with_code(text: str) -> Markup:
    """Escapes a description and sets what stands between backticks as code."""
    return Markup(_code.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["with_code"] = _with_code
_environment.filters["segment"] = partial(quote, safe="")  # of a path: a name may hold a slash


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class Page:
    """`templates/NAME.html` with style sheets and a script of the same folder, by their names.
    `allowed` is added to the policy."""

    def __init__(
        self, name: str, allowed: str = "", styles: Sequence[str] = (), script: str = ""
    ) -> None:
        css = "".join((_FOLDER / f"{each}.css").read_text() for each in styles or (name,))
        js = (_FOLDER / f"{script}.js").read_text() if script else ""
        # Both are ours and their hashes are in the policy: escaped they would be others.
        self._css, self._script = Markup(css), Markup(js)  # noqa: S704
        self._name = name
        if script:
            allowed += f"script-src {_hash_of(js)}; connect-src 'self'; "
        self.content_security_policy = (
            f"default-src 'none'; style-src {_hash_of(css)}; {allowed}"
            "base-uri 'none'; frame-ancestors 'none'"
        )

    @cached_property
    def _template(self) -> jinja2.Template:
        return _environment.get_template(f"{self._name}.html")

    def render(self, **parts: object) -> bytes:
        """The page with these values."""
        return self._template.render(css=self._css, script=self._script, **parts).encode()

    def render_block(self, name: str, **parts: object) -> str:
        """One block of it alone."""
        context = self._template.new_context(parts)
        return "".join(self._template.blocks[name](context))
