"""Topology files: `nsbridge.up`, `nsbridge.down`, `nsbridge.planned`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Self, TypeAlias

from nsbridge import files
from nsbridge.api.command import Command
from nsbridge.api.endpoint import Endpoint
from nsbridge.api.host import current
from nsbridge.engine import services as running
from nsbridge.engine import topology
from nsbridge.engine.topology import Decision
from nsbridge.errors import NotFound
from nsbridge.model.service import Topology

if TYPE_CHECKING:
    from types import TracebackType

File: TypeAlias = str | os.PathLike[str] | Topology | None
"""A path, a topology as a value, or None for the working directory's file."""


class Lab:
    """A project that is up. As a `with` block it is taken down at the end, unless it was up before `nsbridge.up`.

    >>> with nsbridge.up("examples/docker-bridge.yaml") as lab:
    ...     print(lab["ns1"].address)
    175.18.0.2

    project: its name. done: what `up` changed. Iterating gives the endpoints that hold the default routes.
    """

    def __init__(self, project: str, done: Decision, *, ours: bool) -> None:
        self.project = project
        self.done = done
        self._ours = ours

    def __getitem__(self, name: str) -> Endpoint:
        """Return a service's endpoint on its main network. NotFound says which there are."""
        for endpoint in self:
            if endpoint.name == name:
                return endpoint
        have = ", ".join(endpoint.name for endpoint in self) or "none"
        raise NotFound(f"project {self.project!r} has no service {name!r} on a network (there is: {have})")

    def __iter__(self) -> Iterator[Endpoint]:
        """Iterate over the endpoints of services on their main networks."""
        for status in running.statuses(current(), self.project):
            for endpoint in status.endpoints:
                if endpoint.network == status.record.service.main_network:
                    yield Endpoint.of(endpoint)

    def command(self, name: str) -> Command:
        """Return the command of a service: to wait for, to stop, to read the logs of. NotFound."""
        current().store.service(name)
        return Command(name)

    def down(self, *, grace_s: float = running.GRACE_S) -> None:
        """Take it down: commands, namespaces, networks, rules, settings."""
        self._ours = False
        topology.down(current(), self.project, grace_s=grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Take down what `up` brought up."""
        if self._ours and self.project in topology.projects(current()):
            self.down()

    def __repr__(self) -> str:
        return f"<nsbridge.Lab {self.project!r}>"


def _read(file: File, project: str | None, environ: Mapping[str, str] | None) -> Topology:
    if isinstance(file, Topology):
        return file
    path = file if file is not None else files.find_default()
    if path is None:
        raise NotFound("there is no topology file in this directory", fix="name one: nsbridge.up('FILE')")
    return files.read(path, project=project, environ=environ)


def up(
    file: File = None,
    *,
    services: Iterable[str] = (),
    project: str | None = None,
    environ: Mapping[str, str] | None = None,
    remove_orphans: bool = False,
    recreate: bool = False,
    firewall: str = "",
) -> Lab:
    """Bring up what a topology file describes, or what differs of it; return the project.

    When the project wasn't up before, a failure takes down again what had come up of it. services: only these, and
    what they depend on. project: its name, over the file's own. environ: variables for ``${NAME}``, the process's own
    when None. remove_orphans: services that the file no longer has go. recreate: all services are made anew.
    firewall: as of `Network`. InvalidFile with all faults of the file, NotFound, Taken, PortTaken, NoPermission,
    KernelError.
    """
    wanted = _read(file, project, environ)
    host = current(firewall)
    fresh = wanted.project not in topology.projects(host)
    try:
        only = tuple(services)
        done = topology.up(host, wanted, only=only, remove_orphans=remove_orphans, recreate=recreate)
    except BaseException:
        if fresh and wanted.project in topology.projects(host):
            topology.down(host, wanted.project)
        raise
    return Lab(wanted.project, done, ours=fresh)


def planned(
    file: File = None,
    *,
    services: Iterable[str] = (),
    project: str | None = None,
    environ: Mapping[str, str] | None = None,
    remove_orphans: bool = False,
    recreate: bool = False,
) -> Decision:
    """Return what `up` would do, every step with its reason, and do nothing.

    Not called ``plan``, since `nsbridge.plan` is a package of ours.
    """
    wanted = _read(file, project, environ)
    only = tuple(services)
    return topology.decide(current(), wanted, only=only, remove_orphans=remove_orphans, recreate=recreate)


def down(file: File = None, *, project: str = "", grace_s: float = running.GRACE_S) -> None:
    """Take a project down, named by its file or its name; neither is needed when just one is up. NotFound.

    grace_s: seconds between SIGTERM and SIGKILL.
    """
    host = current()
    if not project:
        project = _read(file, None, None).project if file is not None else topology.one_project(host)
    topology.down(host, project, grace_s=grace_s)
