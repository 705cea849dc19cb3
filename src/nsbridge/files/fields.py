"""Every field of the compose spec that nsbridge doesn't do, and what to do instead.

Names from schema/compose-spec.json of github.com/compose-spec/compose-spec. A field is `IGNORED`, with a warning, when
the programs run and the packets flow just the same without it; otherwise it is `UNSUPPORTED`, a fault, because
whoever wrote it counts on something that would not happen. A field whose value asks for nothing (false, nothing,
an empty list, ``restart: no``) is neither.
"""

from __future__ import annotations

from typing import Any

_HOST_PROGRAM = "nsbridge runs programs of the host: use command"
_HOST_FILES = "programs see the host's files: give their paths, and working_dir"
_LIMITS = "limit it in the command: systemd-run --scope -p …, prlimit, taskset or nice"
_RIGHTS = "rights come from user: narrow them in the command with setpriv or capsh"
_NAMES = "nsbridge writes resolv.conf and hosts: names of neighbours come from networks and aliases"
_ENGINE = "it belongs to a container engine: remove it"
_ONE_FILE = "write everything in one file; YAML anchors and << save repetition"

UNSUPPORTED: dict[str, dict[str, str]] = {
    "topology": {
        "configs": _HOST_FILES,
        "include": _ONE_FILE,
        "models": _ENGINE,
        "secrets": _HOST_FILES,
        "volumes": _HOST_FILES,
    },
    "service": {
        "blkio_config": _LIMITS,
        "build": _HOST_PROGRAM,
        "cap_add": _RIGHTS,
        "cap_drop": _RIGHTS,
        "cgroup": _LIMITS,
        "cgroup_parent": _LIMITS,
        "configs": _HOST_FILES,
        "cpu_count": _LIMITS,
        "cpu_percent": _LIMITS,
        "cpu_period": _LIMITS,
        "cpu_quota": _LIMITS,
        "cpu_rt_period": _LIMITS,
        "cpu_rt_runtime": _LIMITS,
        "cpu_shares": _LIMITS,
        "cpus": _LIMITS,
        "cpuset": _LIMITS,
        "credential_spec": _ENGINE,
        "deploy": "a service is one process on this host: write one service a copy",
        "device_cgroup_rules": _LIMITS,
        "devices": "programs see the host's devices: give their paths",
        "dns": _NAMES,
        "dns_opt": _NAMES,
        "dns_search": _NAMES,
        "domainname": "write the full name as hostname",
        "env_file": "use environment with ${NAME}, and a .env file beside the topology",
        "extends": _ONE_FILE,
        "external_links": "put both services on one external network",
        "extra_hosts": _NAMES,
        "gpus": "programs see the host's devices: remove it",
        "group_add": "use user: NAME:GROUP",
        "image": _HOST_PROGRAM,
        "ipc": _ENGINE,
        "isolation": _ENGINE,
        "label_file": "use labels",
        "links": "services of one network find each other by name: use aliases for other names",
        "mem_limit": _LIMITS,
        "mem_reservation": _LIMITS,
        "mem_swappiness": _LIMITS,
        "memswap_limit": _LIMITS,
        "models": _ENGINE,
        "oom_kill_disable": _LIMITS,
        "oom_score_adj": "use choom in the command",
        "pid": "programs share the host's processes: remove it, or use unshare in the command",
        "pids_limit": _LIMITS,
        "post_start": "run it afterwards with nsbridge exec",
        "pre_stop": "run it before nsbridge down with nsbridge exec",
        "privileged": _RIGHTS,
        "profiles": "write one file a profile, or name the services to nsbridge up",
        "provider": _ENGINE,
        "read_only": "use unshare --mount in the command",
        "restart": "a service that ends stays ended: nsbridge up starts it again; or wrap the command in a loop",
        "runtime": _HOST_PROGRAM,
        "scale": "a service is one process on this host: write one service a copy",
        "secrets": _HOST_FILES,
        "security_opt": _RIGHTS,
        "shm_size": _HOST_FILES,
        "stop_grace_period": "services get SIGTERM and time to end; handle it in the command",
        "stop_signal": "services get SIGTERM; translate it in the command: sh -c 'trap … TERM'",
        "storage_opt": _HOST_FILES,
        "sysctls": "set them in the command: sh -c 'sysctl -w …; exec …'",
        "tmpfs": _HOST_FILES,
        "ulimits": "use prlimit in the command",
        "use_api_socket": _ENGINE,
        "userns_mode": _RIGHTS,
        "uts": _ENGINE,
        "volumes": _HOST_FILES,
        "volumes_from": _HOST_FILES,
    },
    "network of a service": {
        "priority": "list first the network that shall come first; gw_priority chooses the default route",
    },
    "network": {"attachable": "every network takes other namespaces: nsbridge connect"},
    "ipam": {"options": _ENGINE},
}
"""By kind of thing: field, and what to do instead."""

_NO_CONTAINER = "there is no container to apply it to"
_NO_IMAGE = "there is no image"

IGNORED: dict[str, dict[str, str]] = {
    "topology": {"version": "the format has no versions any more"},
    "service": {
        "annotations": _NO_CONTAINER,
        "attach": "nsbridge up without -d shows all services",
        "develop": "nothing is built",
        "expose": "ports are open to the networks of the service anyway; publish with ports",
        "init": "nsbridge itself reaps processes and passes signals on",
        "logging": "output is kept for nsbridge logs",
        "platform": _NO_IMAGE,
        "pull_policy": _NO_IMAGE,
        "pull_refresh_after": _NO_IMAGE,
        "stdin_open": "use nsbridge run for a program you talk to",
        "tty": "use nsbridge run for a program you talk to",
    },
}
"""By kind of thing: field, and why it makes no difference."""

_NOTHING: dict[str, tuple[Any, ...]] = {
    "restart": ("no",),
    "scale": (1, "1"),
}


def asks_for_nothing(field: str, value: Any) -> bool:
    """Tell whether a field's value asks for what happens without it."""
    return value is None or value is False or value in ([], {}) or value in _NOTHING.get(field, ())
