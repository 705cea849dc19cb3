"""A plan: steps in order, each with its reason and the way to take it back.

A step is what the journal remembers as one: it is begun, done, or found half done after a crash and then
walked back (or on) by the next command. Within a step the kernel may send many messages at once.
"""

from __future__ import annotations

from nsbridge.values import Value, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from nsbridge.state.things import Thing

    Verb: TypeAlias = Literal["add", "remove", "change", "swap"]

_OPPOSITE: dict[Verb, Verb] = {"add": "remove", "remove": "add", "change": "change", "swap": "swap"}


class Step(Value):
    """Add, remove or change `things`; for a change `before` holds the same identities as they were.

    Swap: elements of our tables alone, `before` goes and `things` come in one batch, so that no packet meets a moment
    in between.

    The things of a removal include what the kernel removes along with another of them (a link's addresses).
    """

    verb: Verb
    things: tuple[Thing, ...]
    before: tuple[Thing, ...] = ()
    why: str = field(default="", compare=False)

    def undo(self) -> Step:
        """Return the step that takes this one back."""
        if self.verb in ("change", "swap"):
            return Step(self.verb, self.before, self.things, why=f"undo: {self.why}")
        return Step(_OPPOSITE[self.verb], self.things, why=f"undo: {self.why}")


class Plan(Value):
    """Steps in the order in which they are safe."""

    steps: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.steps)
