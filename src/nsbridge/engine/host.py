"""What every use case needs: the kernel, the store, and a way to say what goes on."""

from __future__ import annotations

from nsbridge.engine.journal import Operation, recover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.engine.journal import Mode
    from nsbridge.kernel.interface import Kernel
    from nsbridge.store.store import Store


class Host:
    """One host namespace. say: told, in words, what a person would want to know while it happens."""

    def __init__(self, kernel: Kernel, store: Store, say: Callable[[str], None] | None = None) -> None:
        self.kernel = kernel
        self.store = store
        self.say = say if say is not None else lambda text: None

    def open(self) -> None:
        """Get ready: forget what a reboot took, finish or undo what a killed command left."""
        self.store.open()
        said = recover(self.kernel, self.store)
        for text in said:
            self.say(text)
        if said:
            from nsbridge.engine.networks import remove_idle

            remove_idle(self)

    def operation(self, what: str, mode: Mode = "back") -> Operation:
        """Begin an operation that a crash can't leave half done."""
        return Operation(self.kernel, self.store, what, mode)
