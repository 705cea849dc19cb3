"""Topology files: a project's networks and services in the words of the compose spec.

Text becomes a tree with positions (`document`), variables are filled in (`interpolate`), fields we don't know or
don't support are named (`screen`, `fields`), pydantic checks the shape (`shape`), and what is left is translated
into the model and checked against itself (`networks`, `services`). Every stage adds its faults to one `Report`, so a
file tells all its faults at once.

Only the functions here are public, and they import what they need when called: ruamel.yaml and pydantic cost
0.3 s, which only verbs that read files shall pay (docs/adr/0003).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Any

    from nsbridge.model.service import Topology

DEFAULT_NAMES = (
    "nsbridge.yaml",
    "nsbridge.yml",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
)
"""What a directory's topology file may be called, first match first. The last four are the compose spec's."""


def read(
    path: str | PathLike[str], *, project: str | None = None, environ: Mapping[str, str] | None = None
) -> Topology:
    """Read a topology file: YAML, JSON, or TOML by its suffix.

    project: its name, over the file's own ``name`` and the directory's. environ: variables for ``${NAME}`` and bare
    ``environment`` keys, the process's own when None; a ``.env`` file beside the topology supplies what they lack.
    Raises NotFound when there is no such file, InvalidFile with all its faults.
    """
    from nsbridge.files.reader import read as read_file

    return read_file(path, project=project, environ=environ)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a topology file, for editors."""
    from nsbridge.files.shape import json_schema

    return json_schema()


def find_default(directory: str | PathLike[str] = ".") -> str | None:
    """Return the path of the directory's topology file, None without one; see `DEFAULT_NAMES`."""
    from os.path import isfile, join

    for name in DEFAULT_NAMES:
        if isfile(path := join(directory, name)):
            return path
    return None
