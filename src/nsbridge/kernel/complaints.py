"""What the kernel refused, in words, and what to do about it."""

from __future__ import annotations

import errno

from nsbridge.state.things import Address, Link, Netns, Route, RoutingRule, Shaper, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.state.things import Thing


def told(thing: Thing) -> str:
    """Name a thing in an error: ``link 'eth0' in /run/netns/ns1``."""
    if isinstance(thing, Link):
        text = f"link {thing.name!r}"
    elif isinstance(thing, Address):
        text = f"address {thing.address} of link {thing.link!r}"
    elif isinstance(thing, Route):
        text = f"route to {thing.dst}" + (f" via {thing.via}" if thing.via else f" by link {thing.link!r}")
    elif isinstance(thing, Sysctl):
        text = f"setting {thing.key} = {thing.value}"
    elif isinstance(thing, RoutingRule):
        text = f"rule for packets from {thing.src}"
    elif isinstance(thing, Shaper):
        text = f"limit of link {thing.link!r}"
    elif isinstance(thing, Netns):
        return f"namespace {thing.path}"
    else:
        return " ".join(filter(None, thing.identity))
    return text + (f" in {thing.netns}" if thing.netns else "")


def fix_for(thing: Thing, code: int) -> str:
    """Say what to do when the kernel refused a thing with this errno, empty if there is nothing to say."""
    if code in (errno.EPERM, errno.EACCES):
        return "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN in this namespace"
    if code == errno.EROFS:
        return "make /proc/sys writable here, or change the setting by hand"
    if code == errno.EEXIST:
        return f"choose another {'address' if isinstance(thing, Address) else 'name'}, or remove what is there"
    if code == errno.ENOENT:
        return "the namespace is gone: start its process again and connect it anew"
    if code == errno.ENODEV:
        return "a link it needs is gone: run `nsbridge up` or `nsbridge gc` to put things right"
    return ""
