"""The firewall that a planned state amounts to, with no kernel behind it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.seen import Firewall
    from nsbridge.state.kernel_state import KernelState


def firewall_of(state: KernelState) -> Firewall:
    """The tables and elements of a state, for the evaluator."""
    raise NotImplementedError
