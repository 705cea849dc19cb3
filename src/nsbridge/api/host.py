"""The host namespace that a thread works on.

Each thread has a `Host` of its own, opened when it is first needed: its netlink sockets belong to the network
namespace in which the thread was then. A thread that moved to another namespace, and a forked child, get a new one.
So the API may be used from many threads at once; objects like `nsbridge.Network` carry names, not sockets, and can be
handed from one thread to another. What happens meanwhile (settings raised, leftovers of a killed process undone) is
told to the logger ``nsbridge`` at level INFO.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from nsbridge.engine import firewalls
from nsbridge.engine.host import Host
from nsbridge.wiring import open_host

_mine = threading.local()
_log = logging.getLogger("nsbridge")


def current(firewall: str = "") -> Host:
    """Return the calling thread's host, ready: what a killed process left half done is dealt with first.

    firewall: where the rules of its networks have to be; InvalidIntent when they are elsewhere.
    """
    host = _ready()
    host.firewall = firewall
    if firewall:
        firewalls.check(host)
    return host


def _ready() -> Host:
    here = (os.getpid(), os.stat("/proc/thread-self/ns/net").st_ino, os.environ.get("NSBRIDGE_ROOT", ""))
    if getattr(_mine, "place", None) != here:
        host = open_host(_log.info)
        host.kernel.link_index("lo")  # opens a socket, which keeps the namespace, and so its number, from vanishing
        _mine.host, _mine.place = host, here
        return host
    found: Host = _mine.host
    found.open()
    return found


def throwaway() -> None:
    """Go on in a throwaway host, as root of namespaces of its own: for scripts that must not touch the machine.

    Call it first thing in a script. It replaces this process by one that runs the same command line from its beginning
    inside such a host, so what ran before runs twice; inside it returns at once. It takes a process of its own because
    a thread can't leave its user namespace behind once others exist. Ordinary users may call it. Everything made in
    there is gone when the script ends. Raises SystemExit(125) in the new process when the system forbids namespaces.

        import nsbridge
        nsbridge.throwaway()
        with nsbridge.Network("lab") as net: ...
    """
    from nsbridge.kernel import sandbox

    if not sandbox.in_sandbox():
        sys.stdout.flush()
        sys.stderr.flush()
        sandbox.enter([sys.executable, *sys.orig_argv[1:]])
