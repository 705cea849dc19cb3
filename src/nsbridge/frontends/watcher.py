"""The process that watches one service's health: `engine/health.py` begins it, with a bare interpreter."""

from __future__ import annotations

import os

from nsbridge.engine import health
from nsbridge.kernel.process import Running
from nsbridge.wiring import open_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(name: str, pid: str, started: str) -> NoReturn:
    """Watch a service until its command, this very process, has ended."""
    try:
        health.watch(open_host(), name, Running(int(pid), int(started)))
    finally:
        os._exit(0)  # nobody reads what we would say; what we know stands in the service's record
