"""nsbridge: Docker's bridge network for any Linux process or network namespace.

>>> import nsbridge
>>> with nsbridge.Network("lan", subnet="10.90.0.0/24") as lan, lan.endpoint("web", ports=["8080:80"]) as web:
...     server = web.start(["python3", "-m", "http.server", "80"])
...     print(web.address, *web.ports)
10.90.0.2 0.0.0.0:8080->80/tcp

Everything is imported when it is first used, so that `import nsbridge` costs nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.api.command import Command
    from nsbridge.api.endpoint import Endpoint
    from nsbridge.api.explaining import Explanation, explained
    from nsbridge.api.host import throwaway
    from nsbridge.api.looking import doctor, endpoints, gc, networks, policies, run
    from nsbridge.api.network import Network
    from nsbridge.api.options import NetworkOptions
    from nsbridge.api.topology import Lab, down, planned, up
    from nsbridge.api.tracing import Tracing, traced
    from nsbridge.api.words import Place
    from nsbridge.engine.doctor import Finding
    from nsbridge.engine.topology import Change, Decision
    from nsbridge.errors import (
        Exhausted,
        InUse,
        InvalidFile,
        InvalidIntent,
        KernelError,
        NoPermission,
        NotFound,
        NsbridgeError,
        PortTaken,
        Taken,
        Unsupported,
    )
    from nsbridge.kernel.process import CommandNotFound, CommandRefused
    from nsbridge.model.endpoint import PublishedPort
    from nsbridge.model.limits import Limits
    from nsbridge.model.network import StaticRoute
    from nsbridge.model.policy import Policy

__version__ = "0.1.0"

__all__ = [
    "Change",
    "Command",
    "CommandNotFound",
    "CommandRefused",
    "Decision",
    "Endpoint",
    "Exhausted",
    "Explanation",
    "Finding",
    "InUse",
    "InvalidFile",
    "InvalidIntent",
    "KernelError",
    "Lab",
    "Limits",
    "Network",
    "NetworkOptions",
    "NoPermission",
    "NotFound",
    "NsbridgeError",
    "Place",
    "Policy",
    "PortTaken",
    "PublishedPort",
    "StaticRoute",
    "Taken",
    "Tracing",
    "Unsupported",
    "doctor",
    "down",
    "endpoints",
    "explained",
    "gc",
    "networks",
    "planned",
    "policies",
    "run",
    "throwaway",
    "traced",
    "up",
]

_HOMES = {
    "api.command": "Command",
    "api.endpoint": "Endpoint",
    "api.explaining": "Explanation explained",
    "api.host": "throwaway",
    "api.looking": "doctor endpoints gc networks policies run",
    "api.network": "Network",
    "api.options": "NetworkOptions",
    "api.topology": "Lab down planned up",
    "api.tracing": "Tracing traced",
    "api.words": "Place",
    "engine.doctor": "Finding",
    "engine.topology": "Change Decision",
    "kernel.process": "CommandNotFound CommandRefused",
    "model.endpoint": "PublishedPort",
    "model.limits": "Limits",
    "model.network": "StaticRoute",
    "model.policy": "Policy",
    "errors": "Exhausted InUse InvalidFile InvalidIntent KernelError NoPermission NotFound NsbridgeError PortTaken "
    "Taken Unsupported",
}


if not TYPE_CHECKING:  # a checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for (PEP 562)."""
        for home, names in _HOMES.items():
            if name in names.split():
                found: object = getattr(__import__(f"nsbridge.{home}", fromlist=[name]), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module 'nsbridge' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
