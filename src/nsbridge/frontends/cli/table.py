"""Every verb of `nsbridge`. Names, flags and meanings are those of docker and docker compose where they exist."""

from __future__ import annotations

from nsbridge.frontends.cli.verbs_attaching import ENDPOINTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsbridge.frontends.cli.verb import Verb


def verbs() -> tuple[Verb, ...]:
    """Return all of them, in the order in which help shows them."""
    from nsbridge.frontends.cli.verbs_running import LOOKING, SERVICES, TOPOLOGY
    from nsbridge.frontends.cli.verbs_telling import TELLING
    from nsbridge.frontends.cli.verbs_wiring import HOUSEKEEPING, NETWORKS

    return (*TOPOLOGY, *SERVICES, *NETWORKS, *ENDPOINTS, *LOOKING, *TELLING, *HOUSEKEEPING)


def find(words: Sequence[str]) -> tuple[Verb, int] | None:
    """Return the verb that the first words name, and how many words that takes; None without such a verb."""
    # The quick ones first: making the others takes longer than an endpoint does.
    return _among(ENDPOINTS, words) or _among(verbs(), words)


def _among(some: Iterable[Verb], words: Sequence[str]) -> tuple[Verb, int] | None:
    for verb in some:
        for name in (verb.name, *verb.aliases):
            parts = name.split()
            if list(words[: len(parts)]) == parts:
                return verb, len(parts)
    return None
