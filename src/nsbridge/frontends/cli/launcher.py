"""The verbs `install` and `uninstall`: a command `nsbridge` that starts sooner than the one pip writes.

pip's script has the interpreter look for packages, and reads each module from a file of its own: 9 ms of a command
that takes 33 (docs/adr/0009). The launcher names the interpreter with ``-IS`` and says where packages are; most of
what a hot verb imports it has from one file of compiled code (`cached`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nsbridge
from nsbridge.errors import NoPermission, NsbridgeError, Taken, Unsupported
from nsbridge.frontends.cli import archive, output

MARK = "# Written by `nsbridge install`; `nsbridge uninstall` takes it away."

TEXT = """#!{python} -IS
{mark}
import gc, sys
gc.disable()  # until nsbridge says when to look for garbage
sys.path += {paths!r}
try:
    from marshal import loads
    from posix import O_CLOEXEC, open, read
    head = read(fd := open({code!r}, O_CLOEXEC), {head})
    there = {{}}
    run, *rest = loads(head)
    exec(run, there)
    there["use"](fd, {head}, *rest)
except Exception:  # another Python, or no such file: then modules come from their own
    pass
from nsbridge.frontends.cli.main import script
script()
"""

LONGEST = 255 - len("#! -IS")
"""Bytes of the interpreter's path: the first line ends at 256 (BINPRM_BUF_SIZE, <linux/binfmts.h>; execve(2))."""


def install(args: Any) -> None:
    """Write the launcher and its file of code, or write them anew."""
    python = sys.executable  # not what it links to: where it stands tells it the packages of its environment
    if len(python.encode()) > LONGEST or " " in python:
        raise Unsupported(
            f"the kernel runs no script for {python!r}", fix="give Python a path without spaces, or a shorter one"
        )
    command, code = _places(args.prefix)
    if command.exists() and not _ours(command):
        raise Taken(
            f"{command} is there, and nsbridge install didn't write it",
            fix="give --prefix DIR, with DIR/bin before it on PATH",
        )
    packages = [str(Path(nsbridge.__file__).parents[1])]
    packages += [
        path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and path not in packages
    ]
    try:
        head, rest = archive.written()
        text = TEXT.format(python=python, mark=MARK, paths=packages, code=str(code), head=len(head))
        _put(code, head + rest, 0o644)
        _put(command, text.encode(), 0o755)
    except PermissionError as err:
        raise NoPermission(f"{err.filename} can't be written", fix="run it as root, or give --prefix DIR") from err
    except OSError as err:
        raise NsbridgeError(f"{err.filename} can't be written: {err.strerror}", fix="give --prefix DIR") from err
    output.line(f"{command}")


def uninstall(args: Any) -> None:
    """Take away what `install` wrote, and nothing else."""
    command, code = _places(args.prefix)
    if command.exists() and not _ours(command):
        raise Taken(f"{command} isn't of nsbridge install's making", fix="give the --prefix that it was installed with")
    try:
        for path in (command, *code.parent.glob("*.code")):
            path.unlink(missing_ok=True)
        if code.parent.is_dir() and not any(code.parent.iterdir()):
            code.parent.rmdir()
    except PermissionError as err:
        raise NoPermission(f"{err.filename} can't be removed", fix="run it as root") from err


def _places(prefix: str) -> tuple[Path, Path]:
    """Return where the launcher goes, and its code: one file for each version of Python, as its bytecode differs."""
    root = Path(prefix).absolute()
    return root / "bin/nsbridge", root / f"lib/nsbridge/{sys.implementation.cache_tag}.code"


def _ours(command: Path) -> bool:
    return command.is_file() and MARK.encode() in command.read_bytes()[:1024].splitlines()


def _put(path: Path, text: bytes, mode: int) -> None:
    """Write a file whole or not at all, for commands may be starting from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(text)
    draft.chmod(mode)
    draft.rename(path)
