"""Every verb of `nsbridge`. Names, flags and meanings are those of docker and docker compose where they exist."""

from __future__ import annotations

from nsbridge.frontends.cli.verbs_running import LOOKING, SERVICES, TOPOLOGY
from nsbridge.frontends.cli.verbs_telling import TELLING
from nsbridge.frontends.cli.verbs_wiring import ENDPOINTS, HOUSEKEEPING, NETWORKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsbridge.frontends.cli.verb import Verb

VERBS = (*TOPOLOGY, *SERVICES, *NETWORKS, *ENDPOINTS, *LOOKING, *TELLING, *HOUSEKEEPING)


def find(words: Sequence[str]) -> tuple[Verb, int] | None:
    """Return the verb that the first words name, and how many words that takes; None without such a verb."""
    for verb in VERBS:
        for name in (verb.name, *verb.aliases):
            parts = name.split()
            if list(words[: len(parts)]) == parts:
                return verb, len(parts)
    return None
