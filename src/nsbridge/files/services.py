"""From the shape of services to the model's: names, commands, environments, modes, order."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping

from nsbridge.errors import InvalidIntent
from nsbridge.files.attachments import Claims, attachments, published
from nsbridge.files.faults import Path, Report
from nsbridge.files.networks import Known, intent_fault, pairs
from nsbridge.files.screen import did_you_mean
from nsbridge.files.shape import ServiceShape, TopologyShape
from nsbridge.model.names import DEFAULT_NETWORK, check_name
from nsbridge.model.service import Attachment, Health, Service

_SHARED = "service:"
_BROKEN = "?"
_MODES = ["bridge", "host", "none", "service:NAME"]


class Translator:
    """Translates the services of one file.

    names: what each service is really called, by its key: its container_name if it has one.
    """

    def __init__(
        self,
        topology: TopologyShape,
        known: Known,
        report: Report,
        *,
        project: str,
        directory: str,
        variables: Mapping[str, str],
    ) -> None:
        self.shapes = {
            key: shape or ServiceShape.model_validate({}) for key, shape in (topology.services or {}).items()
        }
        self.known = known
        self.report = report
        self.project = project
        self.directory = directory
        self.variables = variables
        self.names = {key: shape.container_name or key for key, shape in self.shapes.items()}
        self.claims = Claims(report)
        self.edges: dict[str, dict[str, Path]] = {}

    def services(self) -> tuple[Service, ...]:
        """Return all services that could be translated, in the order of the file."""
        self._check_names()
        found = [self._service(key, shape) for key, shape in self.shapes.items()]
        self._check_circles()
        return tuple(service for service in found if service)

    def _check_names(self) -> None:
        by_name: dict[str, str] = {}
        for key, name in self.names.items():
            if name in by_name:
                other = by_name[name]
                where: Path = ("services", key)
                if self.shapes[key].container_name:
                    where = (*where, "container_name")
                said = f"{name!r} is the name of service {other!r} too"
                self.report.fault(where, said, "choose another", key=len(where) == 2)
            by_name.setdefault(name, key)

    def _service(self, key: str, shape: ServiceShape) -> Service | None:
        path: Path = ("services", key)
        name = self.names[key]
        try:
            check_name("service", name)
        except InvalidIntent as error:
            where = (*path, "container_name") if shape.container_name else path
            intent_fault(self.report, where, error, key=not shape.container_name)
            return None
        self.edges[key] = {}
        after = self._after(key, shape)
        mode = self._mode(key, shape)
        places = self._places(key, shape, mode)
        ports = published(path, name, shape, self.report, None if self._is_routed(places) else self.claims)
        if ports and not places:
            self._no_place_for_ports(key, shape)
            ports = ()
        if ports and shape.networks:
            self._warn_if_internal(key, shape.networks)
        service = Service(
            name,
            (*(shape.entrypoint or ()), *(shape.command or ())),
            self._environment(path, shape),
            os.path.normpath(os.path.join(self.directory, shape.working_dir)) if shape.working_dir else "",
            shape.user or "",
            attachments=places,
            ports=ports,
            mode="" if mode in ("bridge", _BROKEN) else mode,
            after=after,
            after_healthy=self._after_healthy(key, shape, after),
            health=self._health(path, shape),
            labels=pairs(shape.labels),
            project=self.project,
        )
        try:
            return service.replace(hostname=shape.hostname or "")
        except InvalidIntent as error:
            intent_fault(self.report, (*path, "hostname"), error)
            return service

    def _is_routed(self, places: tuple[Attachment, ...]) -> bool:
        """Tell whether the network that would publish its ports is one of ours without NAT in any family."""
        on = Service("any", attachments=places).main_network
        network = next((one for one in self.known.networks.values() if one.name == on), None)
        if network is None:
            return False
        versions = {subnet.network.version for subnet in network.subnets} or {4}
        versions |= {6} if network.ipv6 else set()
        return all(network.gateway_mode(version) == "routed" for version in versions)

    def _places(self, key: str, shape: ServiceShape, mode: str) -> tuple[Attachment, ...]:
        """Return where the service is attached; nothing for a mode without networks of its own."""
        path: Path = ("services", key)
        if mode == "bridge":
            return (Attachment(DEFAULT_NETWORK, mac=shape.mac_address or ""),)
        if not mode or (mode == _BROKEN and shape.networks):
            return attachments(path, key, shape, self.known, self.report, self.claims)
        if mode == _BROKEN:
            return ()
        if shape.networks:
            said = f"can't be given together with network_mode {mode!r}"
            self.report.fault((*path, "networks"), said, "keep one of the two", key=True)
        if shape.mac_address:
            said = f"has no interface to stand on with network_mode {mode!r}"
            self.report.fault((*path, "mac_address"), said, "remove it", key=True)
        return ()

    def _mode(self, key: str, shape: ServiceShape) -> str:
        """Return ``""``, ``bridge``, ``host``, ``none``, ``service:`` and a real name, or `_BROKEN` after a fault."""
        mode, path = shape.network_mode, ("services", key, "network_mode")
        if mode is None:
            return ""
        if mode in ("bridge", "host", "none"):
            if mode == "bridge" and shape.networks:
                self.report.fault(
                    ("services", key, "networks"),
                    "can't be given together with network_mode 'bridge'",
                    "keep one of the two",
                    key=True,
                )
            return mode
        if mode.startswith("container:"):
            hint = "use service:NAME, or nsbridge connect for a container's namespace"
            self.report.fault(path, f"{mode!r} is not supported by nsbridge", hint)
        elif not mode.startswith(_SHARED):
            self.report.fault(path, f"is {mode!r}", did_you_mean(mode, _MODES))
        elif (other := mode.removeprefix(_SHARED)) not in self.shapes:
            self.report.fault(path, f"there is no service {other!r}", did_you_mean(other, list(self.shapes)))
        else:
            self.edges[key].setdefault(other, path)
            self._check_shared(path, other)
            return _SHARED + self.names[other]
        return _BROKEN

    def _check_shared(self, path: Path, other: str) -> None:
        theirs = self.shapes[other].network_mode or ""
        if theirs == "host" or theirs.startswith(_SHARED):
            said = f"service {other!r} has no namespace of its own to share"
            self.report.fault(path, said, f"use network_mode: {theirs}")

    def _no_place_for_ports(self, key: str, shape: ServiceShape) -> None:
        mode = shape.network_mode or ""
        shared = mode.removeprefix(_SHARED)
        if mode not in ("host", "none") and not (mode.startswith(_SHARED) and shared in self.shapes):
            return  # the fault of its networks or its mode is told already
        hints = {"host": "its ports are the host's own: remove ports", "none": "give it a network, or remove ports"}
        hint = hints.get(mode, f"publish them on service {shared!r}")
        self.report.fault(("services", key, "ports"), f"can't be published with network_mode {mode!r}", hint, key=True)

    def _warn_if_internal(self, key: str, networks: Iterable[str]) -> None:
        first = next(iter(networks))
        if first in self.known.networks and self.known.networks[first].internal:
            said = f"can't be reached: {first!r}, the service's first network, is internal"
            self.report.warn(("services", key, "ports"), said, "list another network first", key=True)

    def _environment(self, path: Path, shape: ServiceShape) -> tuple[tuple[str, str], ...]:
        """Return the pairs; a bare name takes the caller's value, and is left out when there is none."""
        given = shape.environment
        items = given.items() if isinstance(given, dict) else given or ()
        found: dict[str, str] = {}
        for index, (name, value) in enumerate(items):
            if not name or "=" in name:
                where = (*path, "environment", name if isinstance(given, dict) else index)
                self.report.fault(where, f"{name!r} can't name a variable", "write NAME: value", key=True)
            elif value is not None:
                found[name] = value
            elif name in self.variables:
                found[name] = self.variables[name]
        return tuple(found.items())

    def _after(self, key: str, shape: ServiceShape) -> tuple[str, ...]:
        """Return the real names of the services that are started first."""
        path: Path = ("services", key, "depends_on")
        given = shape.depends_on or ()
        found: list[str] = []
        for index, other in enumerate(given):
            here: Path = (*path, other if isinstance(given, dict) else index)
            wish = given[other] if isinstance(given, dict) else None
            if other in self.shapes:
                self.edges[key].setdefault(other, here)
                found.append(self.names[other])
            elif not (wish and wish.required is False):
                hint = did_you_mean(other, list(self.shapes))
                self.report.fault(here, f"there is no service {other!r}", hint, key=True)
        return tuple(dict.fromkeys(found))

    def _after_healthy(self, key: str, shape: ServiceShape, after: tuple[str, ...]) -> tuple[str, ...]:
        """Return the real names of the services that must be healthy first."""
        given = shape.depends_on if isinstance(shape.depends_on, dict) else {}
        found = []
        for other, wish in given.items():
            if wish.condition != "service_healthy" or self.names.get(other) not in after:
                continue
            check = self.shapes[other].healthcheck
            if check is None or check.disable or not check.test:
                where: Path = ("services", key, "depends_on", other, "condition")
                self.report.fault(where, f"{other!r} has no healthcheck", "give it one, or wait for service_started")
            found.append(self.names[other])
        return tuple(found)

    def _health(self, path: Path, shape: ServiceShape) -> Health | None:
        check = shape.healthcheck
        if check is None or check.disable or check.test == ():
            return None
        where: Path = (*path, "healthcheck")
        if not (shape.command or shape.entrypoint):
            self.report.fault(where, "belongs to a service without a command", "remove it", key=True)
            return None
        given = {name: getattr(check, name) for name in Health._fields if getattr(check, name) is not None}
        if "test" not in given:
            if not self.report.is_broken(*where, "test"):
                said = "write test: a command that succeeds when all is well"
                self.report.fault(where, "has no test", said, key=True)
            return None
        try:
            return Health(**given)
        except InvalidIntent as error:
            intent_fault(self.report, where, error)
            return None

    def _check_circles(self) -> None:
        """Report each circle of services that wait for one another once, at the edge that closes it."""
        done: set[str] = set()
        for start in self.edges:
            trail: list[str] = [] if start in done else [start]
            waiting = [iter(self.edges[key].items()) for key in trail]
            while trail:  # not recursive: a chain may be longer than Python's stack
                other, where = next(waiting[-1], (None, ()))
                if other is None:
                    done.add(trail.pop())
                    waiting.pop()
                elif other in trail:
                    circle = " -> ".join((*trail[trail.index(other) :], other))
                    said = f"services wait for one another in a circle: {circle}"
                    self.report.fault(where, said, "let one of them not wait", key=where[-1] != "network_mode")
                elif other not in done:
                    trail.append(other)
                    waiting.append(iter(self.edges.get(other, {}).items()))
