"""A topology brought up in thought: by the same engine, in a simulated kernel, with a store that is thrown away."""

from __future__ import annotations

from nsbridge.engine import topology as engine
from nsbridge.engine.host import Host
from nsbridge.kernel.fake import FakeKernel
from nsbridge.store import files
from nsbridge.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.kernel.interface import HostFacts
    from nsbridge.model.service import Topology
    from nsbridge.state.kernel_state import KernelState


class Foreseen:
    """The host that would be: `host` with its records, `state` of its kernel. A context manager: its files go after."""

    def __init__(self, facts: HostFacts, topology: Topology) -> None:
        self._facts = facts
        self._topology = topology
        self._root = ""

    def __enter__(self) -> Foreseen:
        from tempfile import mkdtemp

        self._root = mkdtemp(prefix="nsbridge-")
        kernel = FakeKernel(facts=self._facts)
        self.host = Host(kernel, Store(self._root))
        self.host.open()
        # Commands aren't run: what a namespace holds doesn't depend on them.
        services = tuple(service.replace(command=()) for service in self._topology.services)
        engine.up(self.host, self._topology.replace(services=services, external=()))
        self.state: KernelState = kernel.state
        return self

    def __exit__(self, *_: object) -> None:
        files.remove_tree(self._root)
