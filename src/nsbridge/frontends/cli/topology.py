"""The verbs `up`, `down`, `plan`, `diff`."""

from __future__ import annotations

import sys
import threading

from nsbridge import files
from nsbridge.engine import services
from nsbridge.engine import topology as engine
from nsbridge.errors import NotFound
from nsbridge.frontends.cli import output
from nsbridge.frontends.cli.tail import PAUSE_S, Logs, positions
from nsbridge.frontends.cli.trouble import INTERRUPTED, Ended
from nsbridge.frontends.cli.words import thing_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.engine.topology import Change, Decision
    from nsbridge.model.service import Topology
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Thing
    from nsbridge.store.store import ServiceRecord

SIGNS = {"create": "+", "remove": "-"}
"""Of changes; all others are ``~``."""

STEP_SIGNS = {"add": "+", "remove": "-", "change": "~", "swap": "+"}


def _read(args: Any) -> Topology:
    path = getattr(args, "path", "") or args.file or files.find_default()
    if not path:
        looked = ", ".join(files.DEFAULT_NAMES)
        raise NotFound(f"there is no topology file in this directory (looked for {looked})", fix="name one: -f FILE")
    return files.read(path, project=args.project or None)


def up(host: Host, args: Any) -> int:
    """Bring a file's topology up, and stay with its commands unless detached."""
    topology = _read(args)
    only = tuple(args.services)
    wish = {"only": only, "remove_orphans": args.remove_orphans, "recreate": args.force_recreate}
    if args.dry_run:
        _show_plan(engine.decide(host, topology, **wish), host, args)
        return 0
    seen = positions(host)
    decision = engine.up(host, topology, **wish)
    if not decision.changes:
        host.say("everything is as the file says: nothing to do")
    args.words.pause()
    if args.detach:
        return 0
    chosen = topology.needed(only)
    names = [service.name for service in topology.services if service.name in chosen and service.command]
    if not names:
        host.say("no service has a command, so there is nothing to wait for; `nsbridge down` takes it all away")
        return 0
    return _attend(host, Logs(host, names, seen=seen), names)


def _attend(host: Host, logs: Logs, names: list[str]) -> int:
    """Show what commands write until they end; when we are told to end, end them."""
    try:
        logs.follow(tell_ends=True)
    except (KeyboardInterrupt, Ended) as err:
        found = [record for name in names if (record := host.store.service_or_none(name)) is not None]
        try:
            host.say("stopping the services (Ctrl-C once more kills them)")
            _stop(host, logs, found)
        except (KeyboardInterrupt, Ended):
            services.stop(host, found, 0.0)
        logs.pump(rest=True)
        host.say("stopped; `nsbridge down` takes namespaces and networks away too")
        return 128 + err.number if isinstance(err, Ended) else INTERRUPTED
    return 0


def _stop(host: Host, logs: Logs, found: list[ServiceRecord]) -> None:
    """Stop services while their last words are shown."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            services.stop(host, found)
        except Exception as err:  # told by the caller's thread
            failure.append(err)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        logs.pump()
        thread.join(PAUSE_S)
    if failure:
        raise failure[0]


def down(host: Host, args: Any) -> None:
    """Take a project away: the named one, that of the file, or the one that is up."""
    if args.project and not args.file:
        project = args.project
    elif args.file or files.find_default():
        project = _read(args).project
        if project not in engine.projects(host):  # as docker compose: no error, whatever ran before
            host.say(f"project {project!r} isn't up: nothing to take away")
            return
    else:
        project = engine.one_project(host)
    engine.down(host, project, args.timeout)


def plan(host: Host, args: Any) -> None:
    """Show what `up` would do, step by step."""
    decision = engine.decide(host, _read(args), remove_orphans=args.remove_orphans, recreate=args.force_recreate)
    if args.json:
        output.as_json([_change_record(change, steps=True) for change in decision.changes])
    else:
        _show_plan(decision, host, args)


def _show_plan(decision: Decision, host: Host, args: Any) -> None:
    for remark in decision.remarks:
        host.say(remark)
    if not decision.changes:
        output.line("nothing to do: everything is as the file says")
    if args.show_commands:
        from nsbridge.frontends.cli.telling import show_changes

        show_changes(host, args, decision.changes)
        return
    for change in decision.changes:
        output.line(_headline(change))
        for step in change.steps:
            _show_step(step)


def _show_step(step: Step) -> None:
    output.line(f"    {step.verb} {step.why}")
    rows = [("-", thing) for thing in step.before] if step.verb == "swap" else []
    for sign, thing in [*rows, *((STEP_SIGNS[step.verb], thing) for thing in step.things)]:
        why = output.paint(sys.stdout, output.DIM, f"  # {thing.why}") if thing.why else ""
        output.line(f"      {sign} {thing_text(thing)}{why}")


def _headline(change: Change) -> str:
    return f"{SIGNS.get(change.what, '~')} {change.what} {change.kind} {change.name}".rstrip() + f": {change.why}"


def _thing_record(thing: Thing) -> dict[str, Any]:
    return {"kind": type(thing).__name__, "text": thing_text(thing), "why": thing.why}


def _change_record(change: Change, *, steps: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": change.kind, "name": change.name, "what": change.what, "why": change.why}
    if steps:
        record["steps"] = [
            {
                "verb": step.verb,
                "why": step.why,
                "things": [_thing_record(thing) for thing in step.things],
                "gone": [_thing_record(thing) for thing in step.before] if step.verb == "swap" else [],
            }
            for step in change.steps
        ]
    return record


def diff(host: Host, args: Any) -> int:
    """Show what differs, a line each; exit status 1 if anything does."""
    decision = engine.decide(host, _read(args), remove_orphans=True)
    if args.json:
        output.as_json([_change_record(change, steps=False) for change in decision.changes])
    else:
        for change in decision.changes:
            name = f"{change.kind} {change.name}".rstrip()
            output.line(f"{SIGNS.get(change.what, '~')} {name}: {change.why}")
    return 1 if decision.changes else 0
