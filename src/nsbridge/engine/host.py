"""What every use case needs: the kernel, the store, and a way to say what goes on."""

from __future__ import annotations

from nsbridge.engine import recovery
from nsbridge.engine.journal import Operation
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from nsbridge.engine.entries import Mode
    from nsbridge.kernel.interface import Kernel
    from nsbridge.store.store import Store


class Host:
    """One host namespace. say: told, in words, what a person would want to know while it happens.

    firewall: the one asked for, "" for whichever it is. firewall_default: taken for the first network if none is.

    in_vain: journal files of killed commands that could be neither undone nor finished.
    """

    def __init__(
        self,
        kernel: Kernel,
        store: Store,
        say: Callable[[str], None] | None = None,
        *,
        firewall: str = "",
        firewall_default: str = "",
    ) -> None:
        self.kernel = kernel
        self.store = store
        self.say = say if say is not None else lambda text: None
        self.firewall = firewall
        self.firewall_default = firewall_default
        self.in_vain: set[str] = set()

    def open(self) -> None:
        """Get ready: forget what a reboot took, finish or undo what a killed command left.

        Waits for nobody: while others work, recovery is left to the first of us who takes the lock.
        """
        self.store.open()
        files.sweep(f"{self.store.root}/journal")
        if recovery.dead(self):
            with self.store.lock(wait=False) as lock:
                if lock.held:
                    recovery.recover(self)

    def lock(self, *, shared: bool = False) -> HostLock:
        """Shared for what touches one endpoint, exclusive for what changes networks or the host."""
        return HostLock(self, shared)

    def operation(self, what: str, mode: Mode = "back") -> Operation:
        """Begin an operation that a crash can't leave half done."""
        return Operation(self.kernel, self.store, what, mode)


class HostLock:
    """The store's lock, and nothing half done under it: who gets it first deals with what killed commands left."""

    def __init__(self, host: Host, shared: bool) -> None:
        self._host = host
        self._shared = shared

    def __enter__(self) -> None:
        host = self._host
        while True:
            self._lock = host.store.lock(shared=self._shared).__enter__()
            if not recovery.dead(host):
                return
            if not self._shared:
                break
            self._lock.__exit__(None, None, None)
            with host.store.lock():
                recovery.recover(host)
        try:
            recovery.recover(host)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, tb)
