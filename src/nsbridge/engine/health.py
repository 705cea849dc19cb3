"""Health of services: a watcher beside each command that has a test, and what follows from the test's answers.

The watcher is a process of its own, begun before the command runs a single instruction, and it ends with the command
(pidfd_open(2)): nobody has to stop it. It writes the latest answer into the service's run folder, and takes the service
out of turn on the ports it shares until it is healthy. It looks at all of them after every answer, so ports that
were published meanwhile, and turns that were dealt anew, follow too. A watcher that was killed leaves the turns as they
are; `up` begins another one.
"""

from __future__ import annotations

import os
import select
import sys
import time

from nsbridge import codec
from nsbridge.engine import shared
from nsbridge.errors import NsbridgeError
from nsbridge.store import files
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable

    from nsbridge.engine.host import Host
    from nsbridge.kernel.process import Running
    from nsbridge.model.service import Health, Service
    from nsbridge.store.store import ServiceRecord
else:
    import _signal

WATCHER = "import sys; sys.path.append(sys.argv[1]); from nsbridge.frontends.watcher import main; main(*sys.argv[2:])"
LONGEST = 4096
"""Bytes kept of what a test writes: its last ones."""

LOOK_S = 0.05
"""Seconds between two looks at a service that others wait for."""


class Answer(Value):
    """What is known of a service's health.

    status: ``starting``, ``healthy`` or ``unhealthy``. failures: in a row. exit_status: of the last test, None before
    the first, 124 after one that took too long. at: when that was, seconds since 1970. pid, started: of the watcher.
    """

    status: str = "starting"
    failures: int = 0
    exit_status: int | None = None
    output: str = ""
    at: float = 0.0
    pid: int = 0
    started: int = 0


def _file(host: Host, name: str) -> str:
    return f"{host.store.root}/{host.store.run_path(name)}/health.json"


def begin(host: Host, service: Service, pid: int, started: int) -> None:
    """Start the watcher of a service, whose process is, or is about to become, its command."""
    from nsbridge.kernel import process

    os.makedirs(f"{host.store.root}/{host.store.run_path(service.name)}", exist_ok=True)
    argv = (sys.executable, "-ISc", WATCHER, process.ROOT, service.name, str(pid), str(started))
    environment = {**os.environ, "NSBRIDGE_ROOT": host.store.root}
    spec = process.ProcessSpec(argv, environment=tuple(environment.items()), log="/dev/null", detach=True)

    def record(watcher: Running) -> None:
        known = Answer(pid=watcher.pid, started=watcher.started)
        files.replace(_file(host, service.name), codec.dumps(known) + "\n")

    process.start(spec, record)


def answer(host: Host, record: ServiceRecord) -> Answer | None:
    """Return what is known of the health of a service that runs; None for one without a test.

    Its status is ``unwatched`` when the watcher is gone.
    """
    from nsbridge.kernel import process

    if record.service.health is None:
        return None
    try:
        known: Answer = codec.loads(files.read(_file(host, record.service.name)) or "")
    except ValueError:  # its begin was killed
        return Answer("unwatched")
    return known if process.alive(process.Running(known.pid, known.started)) else known.replace(status="unwatched")


def await_healthy(host: Host, names: Iterable[str], who: str) -> None:
    """Wait until these services are healthy; NsbridgeError when one of them turns out not to be, or has ended."""
    from nsbridge.kernel import process

    for name in names:
        said = False
        while True:
            record = host.store.service(name)
            found = answer(host, record)
            if found is None or found.status == "healthy":
                break
            ended = not process.alive(process.Running(record.pid, record.started))
            if ended or found.status != "starting":
                state = "has ended" if ended else f"is {found.status}"
                raise NsbridgeError(
                    f"service {who!r} waits for {name!r}, which {state}{_shown(found)}",
                    fix=f"see `nsbridge logs {name}` and `nsbridge inspect {name}`; then bring it up again",
                )
            if not said:
                host.say(f"{who} waits until {name} is healthy")
                said = True
            time.sleep(LOOK_S)


def _shown(found: Answer) -> str:
    last = found.output.strip().rpartition("\n")[2]
    return f" (its test said: {last})" if last else ""


# the watcher


def watch(host: Host, name: str, running: Running) -> None:
    """Ask a service for its health as long as its command runs."""
    from nsbridge.kernel import process

    service = host.store.service(name).service
    health = service.health
    try:
        ended = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return
    if health is None or not process.alive(running):
        return
    me = os.getpid()
    known = Answer(pid=me, started=process.started(me))
    _tell(host, name, known)
    deadline = time.monotonic() + (health.start_period + health.retries * health.interval) / 1e6
    pause = 0.0
    while not _over(ended, pause):
        result = _ask(host, service, health, ended)
        if result is None:
            return
        known = judge(known, health, *result, late=time.monotonic() > deadline)
        _tell(host, name, known.replace(at=time.time()))
        starting = min(health.start_interval, health.interval)
        pause = (starting if known.status == "starting" else health.interval) / 1e6


def judge(known: Answer, health: Health, status: int, output: str, *, late: bool) -> Answer:
    """Return what is known after one more test. late: the time to become healthy is over."""
    failures = known.failures + 1 if status else 0
    verdict = known.status
    if not status:
        verdict = "healthy"
    elif late if known.status == "starting" else failures >= health.retries:
        verdict = "unhealthy"
    return known.replace(status=verdict, failures=failures, exit_status=status, output=output)


def _over(ended: int, pause_s: float) -> bool:
    """Wait; tell whether the command ended meanwhile."""
    return bool(select.select([ended], (), (), pause_s)[0])


def _tell(host: Host, name: str, known: Answer) -> None:
    """Write an answer down and let the turns follow."""
    try:
        files.replace(_file(host, name), codec.dumps(known) + "\n")
        for endpoint in host.store.endpoints(name=name):
            shared.turn_by_health(host, endpoint, known.status == "healthy")
    except (NsbridgeError, OSError):
        # The service or its network is just going, or the rules were flushed: the next answer tries again.
        return


def _ask(host: Host, service: Service, health: Health, ended: int) -> tuple[int, str] | None:
    """Run the test; return its exit status and what it wrote, None when the service ended meanwhile."""
    from nsbridge.engine import services
    from nsbridge.kernel import process

    said = f"{host.store.root}/{host.store.run_path(service.name)}/health.log"
    try:
        files.remove(said)
        spec = services.process_spec(host, service.replace(command=health.test), detach=False).replace(log=said)
        test = process.begin(spec, process.unrecorded, (), process.spawn_group)
    except (NsbridgeError, OSError) as err:
        return getattr(err, "exit_code", 1), str(err)
    done = os.pidfd_open(test.pid)
    ready = select.select([done, ended], (), (), health.timeout / 1e6)[0]
    if done not in ready:
        os.killpg(test.pid, _signal.SIGKILL)
    os.close(done)
    status = process.wait(test)
    if ended in ready:
        return None
    output = (files.read(said) or "")[-LONGEST:]
    if done in ready:
        return status, output
    return 124, f"{output}it took longer than {health.timeout / 1e6:g} s"
