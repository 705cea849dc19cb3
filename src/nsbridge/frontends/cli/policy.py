"""The verb `policy ls`."""

from __future__ import annotations

from nsbridge.desired.policy import levels
from nsbridge.frontends.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host


def listing(host: Host, args: Any) -> None:
    """List the rules of all projects in their order."""
    found = [
        {
            "project": policy.project,
            "rule": str(rule),
            "verdict": rule.verdict,
            "log": rule.log,
            "map": f"{rule.way}_{level}",
        }
        for policy in host.store.policies()
        for rule, level in zip(policy.rules, levels(policy.rules), strict=True)
    ]
    if args.json:
        output.as_json(found)
    else:
        output.table(("PROJECT", "RULE"), [(str(one["project"]), str(one["rule"])) for one in found])
