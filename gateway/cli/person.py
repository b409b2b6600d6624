"""Who gives a command: as the audit and a provider's hold name an operator."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """`user@host`, the user behind sudo where there is one; never fails."""
    user = os.environ.get("SUDO_USER")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user need not have a name
            user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
