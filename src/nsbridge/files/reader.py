"""Reading a topology file, stage by stage: bytes, tree, shape, model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from nsbridge.errors import InvalidIntent, NoPermission, NotFound
from nsbridge.files.attachments import DEFAULT_KEY
from nsbridge.files.document import parse
from nsbridge.files.faults import Fault, Report
from nsbridge.files.interpolate import dotenv
from nsbridge.files.networks import Known, known_networks
from nsbridge.files.parts import kind_of
from nsbridge.files.policy import policy_rules
from nsbridge.files.screen import screen, shaped
from nsbridge.files.services import Translator
from nsbridge.files.shape import TopologyShape
from nsbridge.model.network import Network
from nsbridge.model.service import Topology

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")


def read(
    path: str | os.PathLike[str], *, project: str | None = None, environ: Mapping[str, str] | None = None
) -> Topology:
    """Read a topology file; see `nsbridge.files.read`."""
    file = os.fspath(path)
    directory = os.path.dirname(os.path.abspath(file))
    if project is not None and not _PROJECT.fullmatch(project):
        raise InvalidIntent(f"{project!r} can't name a project", fix=_project_hint(project))
    report = Report(file)
    variables = _variables(directory, report, os.environ if environ is None else environ)
    text = _text(file, report)
    tree = parse(text, report, variables, suffix=os.path.splitext(file)[1].lower()) if text is not None else None
    if not isinstance(tree, dict):
        if not report.faults:
            said = "is empty" if tree is None else f"is {kind_of(tree)} where a map should be"
            report.add(Fault(file, 1, 1, "", said, "begin with 'services:'"))
        report.raise_faults()
    raw: dict[str, Any] = screen(tree, TopologyShape, (), report)
    shape = shaped(raw, report)
    report.settle()
    topology = _topology(shape, raw, report, project=project, directory=directory, variables=variables)
    report.raise_faults()
    return topology


def _topology(
    shape: TopologyShape,
    raw: dict[str, Any],
    report: Report,
    *,
    project: str | None,
    directory: str,
    variables: Mapping[str, str],
) -> Topology:
    name = project or _project(shape, directory, report)
    known = _with_default(known_networks(shape, raw, name, report), shape, name, report)
    translator = Translator(shape, known, report, project=name, directory=directory, variables=variables)
    services = translator.services()
    external = tuple(dict.fromkeys(known.names[key] for key in known.external))
    policy = policy_rules(shape, known, services, report)
    return Topology(name, tuple(known.networks.values()), services, external, report.warnings, policy)


def _with_default(known: Known, shape: TopologyShape, project: str, report: Report) -> Known:
    """Add the project's default network if a service needs it and the file doesn't say what it is like."""
    services = (shape.services or {}).values()
    needed = any(one is None or not (one.networks or one.network_mode) for one in services)
    named = any(one is not None and one.networks and DEFAULT_KEY in one.networks for one in services)
    if DEFAULT_KEY in known.names or not (needed or named):
        return known
    real, networks = f"{project}_{DEFAULT_KEY}", known.networks
    if real in known.names.values():
        key = next(key for key, name in known.names.items() if name == real)
        said = f"{real!r} is the real name of the default network too"
        report.fault(("networks", key, "name"), said, "choose another")
    try:
        networks = {**networks, DEFAULT_KEY: Network(real, project=project, policed=bool(shape.policy))}
    except InvalidIntent as error:
        report.fault(("name",) if shape.name else (), error.message, "give the project a shorter name")
    return Known({**known.names, DEFAULT_KEY: real}, networks, known.external)


def _project(shape: TopologyShape, directory: str, report: Report) -> str:
    """Return the file's name for the project, else the directory's made fit, as compose does."""
    if shape.name:
        if not _PROJECT.fullmatch(shape.name):
            report.fault(("name",), f"{shape.name!r} can't name a project", _project_hint(shape.name))
            return "project"
        return shape.name
    if fit := _normalised(os.path.basename(directory)):
        return fit
    if not report.is_broken("name"):
        said = f"the directory's name {os.path.basename(directory)!r} can't name the project"
        report.add(Fault(report.file, 1, 1, "", said, "add 'name: …' to the file"))
    return "project"


def _normalised(name: str) -> str:
    """Lower case, without characters that a project can't have, and beginning with a letter or digit."""
    return re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")


def _project_hint(name: str) -> str:
    fit = _normalised(name)
    return f"did you mean {fit!r}?" if fit else "use a-z, 0-9, '_' and '-', first a letter or digit"


def _text(file: str, report: Report) -> str | None:
    """Return the file's text; None after a fault, when it is no UTF-8."""
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", fix="give its path with -f, or write one") from None
    except IsADirectoryError:
        raise NotFound(f"{file} is a directory", fix="give the file in it with -f") from None
    except PermissionError:
        raise NoPermission(f"{file} may not be read", fix=f"run as its owner, or chmod +r {file}") from None
    except OSError as error:
        raise NotFound(f"{file} can't be read: {error.strerror}", fix="check the path") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        report.add(Fault(file, line, column, "", "is no UTF-8 text", "save it as UTF-8"))
    return None


def _variables(directory: str, report: Report, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the caller's variables, with what a ``.env`` file adds."""
    beside = os.path.join(directory, ".env")
    try:
        with open(beside, encoding="utf-8-sig", errors="surrogateescape") as stream:
            text = stream.read()
    except OSError:  # absent, or not for us to read: compose goes on without it, too
        return environ
    file = os.path.join(os.path.dirname(report.file), ".env")
    return {**dotenv(text, file, report, environ), **environ}
