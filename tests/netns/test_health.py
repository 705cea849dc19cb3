"""Services that say whether they do their work: real commands, real connections, a real clock."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from commands import soon

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Command
    from lab import Lab

pytestmark = pytest.mark.netns

FILE = """
name: lab
services:
  a: &web
    command: [python3, -c, "{serve}", a]
    ports: [{{target: 80, published: 8080, share: true}}]
    healthcheck: {{test: "test -e {folder}/a-is-well", interval: 100ms, retries: 2, start_interval: 50ms}}
  b:
    <<: *web
    command: [python3, -c, "{serve}", b]
    healthcheck: {{test: [CMD, test, -e, "{folder}/b-is-well"], interval: 100ms, retries: 2, start_interval: 50ms}}
  c:
    command: [sleep, "60"]
    depends_on: {{a: {{condition: service_healthy}}}}
"""
SERVE = (
    "import http.server, sys; h = http.server.BaseHTTPRequestHandler; "
    "h.do_GET = lambda s: (s.send_response(200), s.end_headers(), s.wfile.write(sys.argv[1].encode())); "
    "http.server.HTTPServer(('', 80), h).serve_forever()"
)


def write(folder: Path) -> str:
    path = folder / "nsbridge.yaml"
    path.write_text(FILE.format(serve=SERVE, folder=folder))
    return str(path)


def health(nb: Command, name: str) -> str:
    return str(next(one["health"]["status"] for one in nb.json("ps", "--json") if one["name"] == name))


def answers(lab: Lab) -> set[str]:
    """Who answers, of enough requests for everybody's turn."""
    return {lab.get("http://198.51.100.1:8080/", "outside").body for _ in range(12)}


@pytest.mark.proves("row 72")
def test_the_unhealthy_are_left_out(lab: Lab, nb: Command, tmp_path: Path) -> None:
    (tmp_path / "a-is-well").touch()
    nb("up", "-d", "-f", write(tmp_path))
    # c waited for a; b isn't well yet, so everything goes to a.
    assert health(nb, "a") == "healthy"
    assert health(nb, "b") in ("starting", "unhealthy")
    soon(lambda: answers(lab) == {"a"})
    (tmp_path / "b-is-well").touch()
    soon(lambda: health(nb, "b") == "healthy")
    soon(lambda: answers(lab) == {"a", "b"})
    assert re.search(r"running .* \(healthy\)", nb("ps").out)
    (tmp_path / "a-is-well").unlink()
    soon(lambda: health(nb, "a") == "unhealthy")
    assert answers(lab) == {"b"}
    (tmp_path / "a-is-well").touch()
    soon(lambda: answers(lab) == {"a", "b"})
    # Drained by a person stays drained, however well it is.
    nb("publish", "--drain", "b", "8080:80")
    soon(lambda: health(nb, "b") == "healthy")
    assert answers(lab) == {"a"}
    nb("down", "-f", write(tmp_path))


def test_who_waits_for_the_unhealthy_is_told(lab: Lab, nb: Command, tmp_path: Path) -> None:
    said = nb("up", "-d", "-f", write(tmp_path), check=False)
    assert said.status != 0
    assert "service 'c' waits for 'a', which is unhealthy" in said.err
    assert "nsbridge logs a" in said.err
    assert {one["name"] for one in nb.json("ps", "--json")} == {"a", "b"}
    (tmp_path / "a-is-well").touch()
    soon(lambda: health(nb, "a") == "healthy")
    nb("up", "-d", "-f", write(tmp_path))
    assert {one["name"] for one in nb.json("ps", "--json")} == {"a", "b", "c"}
    nb("down", "-f", write(tmp_path))


def test_a_watcher_ends_with_its_command_and_a_killed_one_is_begun_anew(lab: Lab, nb: Command, tmp_path: Path) -> None:
    (tmp_path / "a-is-well").touch()
    nb("up", "-d", "-f", write(tmp_path), "a")
    (watcher,) = [pid for pid, line in lab.host.strangers().items() if "frontends.watcher" in line]
    os.kill(watcher, signal.SIGKILL)
    soon(lambda: health(nb, "a") == "unwatched")
    plan = json.loads(nb("plan", "-f", write(tmp_path), "--json").out)
    assert [(one["name"], one["what"]) for one in plan if one["name"] == "a"] == [("a", "watch")]
    nb("up", "-d", "-f", write(tmp_path), "a")
    soon(lambda: health(nb, "a") == "healthy")
    nb("stop", "-t", "1", "a")
    soon(lambda: not [1 for line in lab.host.strangers().values() if "frontends.watcher" in line])


def test_a_test_that_hangs_has_failed_and_leaves_nothing(nb: Command) -> None:
    nb("run", "-d", "--name", "slow", "--health-cmd", "echo thinking; sleep 77", "--health-timeout", "50ms",
       "--health-interval", "50ms", "--health-retries", "2", "--", "sleep", "60")  # fmt: skip
    soon(lambda: health(nb, "slow") == "unhealthy")
    (found,) = nb.json("inspect", "slow")
    assert found["health"]["exit_status"] == 124
    assert found["health"]["output"] == "thinking\nit took longer than 0.05 s"
    nb("rm", "-f", "slow")


def test_options_without_a_command_are_refused(nb: Command) -> None:
    said = nb.fails(2, "run", "-d", "--health-retries", "2", "--", "sleep", "1")
    assert "--health-cmd" in said
