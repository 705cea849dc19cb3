"""``python -m nsbridge`` is the command `nsbridge`."""

from __future__ import annotations

from nsbridge.frontends.cli.main import script

if __name__ == "__main__":
    script()
