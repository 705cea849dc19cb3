"""Make the virtual environment with nothing but Python's standard library: ``bootstrap.py VENV REQUIREMENT``.

A fresh Debian has no ``ensurepip``: it comes with the package python3-venv. So, in this order: the plain way;
as root, with that package; else an environment without pip, and pip's wheel fetched from the package index
that pip itself would ask (PIP_INDEX_URL and friends, pip's configuration files, then the public index). A
wheel is a zip file that Python runs as it is, so pip installs itself.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

PUBLIC_INDEX = "https://pypi.org/simple"
CONFIG_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def run(*command: str) -> bool:
    """Run a command and tell whether it succeeded; its words are shown only when it didn't."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}", file=sys.stderr)
    return done.returncode == 0


def has(python: str | Path, module: str) -> bool:
    """Tell whether that interpreter runs and has the module."""
    command = [str(python), "-c", f"import {module}"]
    return os.path.exists(python) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def setting(name: str) -> list[str]:
    """Return pip's setting of that name, split at white space; the environment wins over the files."""
    if found := os.environ.get("PIP_" + name.upper().replace("-", "_")):
        return found.split()
    for path in (os.environ.get("PIP_CONFIG_FILE", ""), *reversed(CONFIG_FILES)):
        config = configparser.RawConfigParser()
        config.read(Path(path).expanduser() if path else [])
        for section in ("install", "global"):
            if config.has_option(section, name):
                return config.get(section, name).split()
    return []


def tls(url: str) -> ssl.SSLContext | None:
    """Trust for one index: pip's `cert` and `trusted-host` settings count here too."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https":
        return None
    context = ssl.create_default_context(cafile=next(iter(setting("cert")), None))
    if parts.hostname in [host.split(":")[0] for host in setting("trusted-host")]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def fetch(url: str) -> bytes:
    """Read a URL; user and password may stand in it. OSError when that fails."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        path = Path(urllib.request.url2pathname(parts.path))
        return (path / "index.html" if path.is_dir() else path).read_bytes()
    address, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    if address:
        token = base64.b64encode(urllib.parse.unquote(address).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=60, context=tls(url)) as answer:
        return bytes(answer.read())


class Links(HTMLParser):
    """The links of an index page (PEP 503), without those that are withdrawn (PEP 592)."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of a link."""
        marks = dict(attrs)
        if tag == "a" and marks.get("href") and "data-yanked" not in marks:
            self.found.append(urllib.parse.urljoin(self.base, marks["href"] or ""))


def links() -> list[str]:
    """Return where the configured directories and indexes keep files of pip."""
    found = []
    for place in setting("find-links"):
        directory = Path(place.removeprefix("file://"))
        found += [file.resolve().as_uri() for file in directory.glob("pip-*.whl")] if directory.is_dir() else []
    indexes = [] if os.environ.get("PIP_NO_INDEX") else [*(setting("index-url") or [PUBLIC_INDEX])]
    for index in [*indexes, *setting("extra-index-url")]:
        page = Links(f"{index.rstrip('/')}/pip/")
        try:
            page.feed(fetch(page.base).decode())
        except OSError as err:
            print(f"the package index {urllib.parse.urlsplit(index).hostname or index} says: {err}", file=sys.stderr)
        found += page.found
    return found


def version(url: str) -> tuple[int, ...]:
    """Return the version of a final release of pip, () for anything else."""
    match = re.search(r"/pip-([0-9.]+)-py3-none-any\.whl(#|$)", url)
    return tuple(map(int, match[1].split("."))) if match else ()


def pip_wheel(directory: Path) -> Path:
    """Fetch the newest pip into a directory and check it against the digest that the index gives."""
    url = max(links(), key=version, default="")
    if not version(url):
        sys.exit("no pip to be found: install python3-venv, or set PIP_INDEX_URL to a package index within reach")
    file, _, digest = url.partition("#")
    content = fetch(file)
    kind, _, expected = digest.partition("=")
    if kind in hashlib.algorithms_available and hashlib.new(kind, content).hexdigest() != expected:
        sys.exit(f"{file} doesn't match the digest that the index gives for it")
    wheel = directory / urllib.parse.unquote(file.rsplit("/", 1)[-1])
    wheel.write_bytes(content)
    return wheel


def install_ensurepip() -> bool:
    """Install Debian's package for it, as root; False when that isn't possible."""
    if os.geteuid() or not shutil.which("apt-get"):
        return False
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    package = f"python3.{sys.version_info.minor}-venv" if sys.executable.startswith("/usr/bin/") else "python3-venv"
    return run("apt-get", "update", "-qq") and run("apt-get", "install", "-y", "-qq", package)


def make_environment(venv: Path) -> None:
    """Make an environment that has pip, in the first of the three ways that works."""
    command = (sys.executable, "-m", "venv", "--clear")
    if has(sys.executable, "ensurepip") and run(*command, str(venv)):
        return
    if install_ensurepip() and run(*command, str(venv)):
        return
    if not run(*command, "--without-pip", str(venv)):
        sys.exit("this Python can't make a virtual environment: install python3-venv")
    wheel = pip_wheel(venv)
    if not run(str(venv / "bin/python"), f"{wheel}/pip", "install", "--no-index", "--no-deps", str(wheel)):
        sys.exit("pip couldn't install itself")
    wheel.unlink()


def main(venv: Path, requirement: str) -> None:
    """Make the environment unless it works already, and install the project into it, editable."""
    python = venv / "bin/python"
    if not has(python, "pip"):
        print(f"making {venv} with {sys.executable}", flush=True)
        make_environment(venv)
    print(f"installing {requirement} into {venv}", flush=True)
    if not run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", requirement):
        sys.exit(f"pip couldn't install {requirement}: is a package index within reach? (PIP_INDEX_URL names one)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
