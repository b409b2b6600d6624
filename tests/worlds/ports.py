"""Ports for the servers of tests: one that is given out is nobody else's until the tests end."""

from __future__ import annotations

from bench.processes import free_port

__all__ = ["free_port"]
