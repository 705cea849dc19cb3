"""What a kernel holds, as one frozen value: the common type of `desired`, `observe` and `simulate`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeVar

    from nsbridge.state.things import Thing

    K = TypeVar("K")


class KernelState:
    """Things by their identity. Compared by value; the order of insertion doesn't matter."""

    __slots__ = ("_things",)

    def __init__(self, things: Iterable[Thing] = ()) -> None:
        self._things = {thing.identity: thing for thing in things}

    def __iter__(self) -> Iterator[Thing]:
        """Iterate over the things in the order they were given."""
        return iter(self._things.values())

    def __len__(self) -> int:
        """Count the things."""
        return len(self._things)

    def __contains__(self, thing: Thing) -> bool:
        """Tell whether an equal thing is here."""
        return self._things.get(thing.identity) == thing

    def __eq__(self, other: object) -> bool:
        """Equal when the same things are in both."""
        return isinstance(other, KernelState) and self._things == other._things

    def __hash__(self) -> int:
        """Hash of the set of things."""
        return hash(frozenset(self._things.values()))

    def __repr__(self) -> str:
        """Show one thing a line, sorted."""
        return "KernelState(\n" + "".join(f"  {thing!r}\n" for thing in self.sorted()) + ")"

    def find(self, identity: tuple[str, ...]) -> Thing | None:
        """Return the thing of that identity, or None."""
        return self._things.get(identity)

    def of(self, kind: type[K]) -> tuple[K, ...]:
        """Return the things of one class."""
        return tuple([thing for thing in self._things.values() if type(thing) is kind])

    def sorted(self) -> tuple[Thing, ...]:
        """Return the things by identity, so that equal states read alike."""
        return tuple(sorted(self._things.values(), key=lambda thing: thing.identity))

    def __or__(self, more: Iterable[Thing]) -> KernelState:
        """Return the state with more things; a later one replaces one of the same identity."""
        return KernelState((*self, *more))

    def __sub__(self, fewer: Iterable[Thing]) -> KernelState:
        """Return the state without things of these identities."""
        gone = {thing.identity for thing in fewer}
        return KernelState(thing for thing in self if thing.identity not in gone)
