"""`nsbridge demo`: the lab of examples/docker-bridge.yaml in a throwaway host, and a request along every path of it.

It starts itself again inside namespaces of its own (kernel/sandbox.py), as root in there, whoever calls it: nothing of
the machine is touched. There it makes a world outside and a firewall that drops what is forwarded
(kernel/playground.py), looks at everything, brings the lab up, asks, takes it down, and looks again. Python and the
kernel are all it needs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import nsbridge
from nsbridge.frontends.cli import output
from nsbridge.kernel import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsbridge.frontends.cli.demo_paths import Asked

    Say = Callable[[str], None]

FILE = os.path.join(os.path.dirname(os.path.abspath(nsbridge.__file__)), "examples", "docker-bridge.yaml")
"""Shipped with the package; the repository's examples/ points to it."""

SUBNET = IPv4Network("175.18.0.0/24")
COLUMNS = ("FROM", "TO", "THROUGH", "SOURCE SEEN", "RESULT")


def main(argv: Sequence[str] = ()) -> int:
    """Run the demo; 0 when everything was as it should be, 1 when not, 125 when there can be no throwaway host."""
    parser = argparse.ArgumentParser(
        prog="nsbridge demo",
        description="Build the lab of examples/docker-bridge.yaml in a throwaway host, send a request along every "
        "path, show what arrived, and take it down. Needs no root and touches nothing of this machine.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: paths, services, left, ok, seconds")
    options = parser.parse_args(list(argv))
    if not sandbox.in_sandbox():
        sys.stdout.flush()
        # -P: the working directory's files aren't ours to import.
        sandbox.enter([sys.executable, "-P", "-m", "nsbridge.frontends.cli.demo", *argv])
    _surroundings()
    with output.words_for(True, True) as words:
        found = _play(words.say)
    if options.json:
        output.as_json(_record(found))
    else:
        _show(found)
    return 0 if found["ok"] else 1


def _surroundings() -> None:
    """A directory that every user may list, and a PATH on which the services' ``python3`` is found."""
    os.chdir("/run")
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{os.path.dirname(sys.executable)}"


def _play(say: Say) -> dict[str, Any]:
    """Build, ask, take down; return what came of it."""
    from nsbridge.api.host import current
    from nsbridge.api.topology import up
    from nsbridge.frontends.cli.demo_paths import Asking, Outsider, service_rows
    from nsbridge.kernel import playground
    from nsbridge.kernel.linux import LinuxKernel

    began = time.monotonic()
    _listen(say)
    kernel = LinuxKernel()
    say("a throwaway host: its own network, processes and /run; a world outside; FORWARD policy DROP")
    playground.furnish(kernel, SUBNET)
    playground.drop_forwarded(kernel)
    outsider = Outsider()
    current()
    before = playground.picture(kernel)
    with up(FILE) as lab:
        asking = Asking(lab, outsider)
        say("waiting for the web servers")
        asking.wait()
        paths = asking.paths()
        say(f"asking along {len(paths)} paths")
        asked: list[Asked] = [go() for go in paths]
        services = service_rows(lab)
        say("taking the lab down")
        lab.down(grace_s=1.0)
    after = playground.picture(kernel)
    left = sorted([*(f"+ {line}" for line in after - before), *(f"- {line}" for line in before - after)])
    return {
        "asked": asked,
        "services": services,
        "left": left,
        "ok": not left and all(one.ok for one in asked),
        "seconds": round(time.monotonic() - began, 2),
    }


def _listen(say: Say) -> None:
    """Tell what the engine tells: settings that were raised, services that start."""

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    log = logging.getLogger("nsbridge")
    log.setLevel(logging.INFO)
    log.addHandler(Teller())


def _record(found: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "from": one.origin,
            "to": one.to,
            "through": one.through,
            "source": one.source or None,
            "expected_source": one.expected or None,
            "answered": one.answered,
            "ok": one.ok,
        }
        for one in found["asked"]
    ]
    return {"paths": rows, **{key: found[key] for key in ("services", "left", "ok", "seconds")}}


def _show(found: dict[str, Any]) -> None:
    asked: list[Asked] = found["asked"]
    rows = [
        (one.origin, one.to, one.through, one.source or "-", f"{'✓' if one.ok else '✗'} {one.result}") for one in asked
    ]
    sys.stdout.write("\n")
    _table(COLUMNS, rows)
    sys.stdout.write("\n")
    services = [
        (row["name"], row["state"], f"{row['network']} {row['address']}", ", ".join(row["ports"]))
        for row in found["services"]
    ]
    _table(("NAME", "STATE", "NETWORKS", "PORTS"), services)
    sys.stdout.write("\n")
    right = sum(one.ok for one in asked)
    _verdict(right == len(asked), f"{right} of {len(asked)} paths as they should be")
    if found["left"]:
        _verdict(False, "taken down, but the host isn't as before:")
        sys.stdout.write("".join(f"  {line}\n" for line in found["left"]))
    else:
        _verdict(True, "taken down: links, addresses, routes, rules, settings and namespaces are as before")
    sys.stdout.write(f"{found['seconds']} s. It takes no root and no ip, nft or iptables. The lab's file: {FILE}\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write columns; on a terminal with a bold head, and marks in their colour."""
    lines = output.columns(header, rows).splitlines()
    if output.coloured(sys.stdout):
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    sys.stdout.write("".join(f"{_marked(line)}\n" for line in lines))


def _verdict(right: bool, text: str) -> None:
    sys.stdout.write(_marked(f"{'✓' if right else '✗'} {text}") + "\n")


def _marked(line: str) -> str:
    if output.coloured(sys.stdout):
        return line.replace("✓", "\x1b[32m✓\x1b[0m").replace("✗", "\x1b[31m✗\x1b[0m")
    return line


def script() -> int:
    """Run it inside the throwaway host, and say in words what went wrong."""
    try:
        return main(sys.argv[1:])
    except nsbridge.NsbridgeError as err:
        print(f"nsbridge demo: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(script())
