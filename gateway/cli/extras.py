"""Libraries that come with an extra: a command that needs one which is not installed says so."""

from __future__ import annotations

from importlib.util import find_spec

from gateway.cli.failures import UsageFault


def needs(extra: str, *modules: str) -> None:
    """Raises UsageFault, which names the extra, where one of the modules is missing."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UsageFault(
            f"This needs {', '.join(missing)}, which the extra {extra} brings: "
            f"`pip install 'kaskad[{extra}]'`."
        )
