"""Who may import whom, and who may touch the kernel."""

from __future__ import annotations

import ast

import pytest
from source import Import, Module, ids, imports, modules, names

# The longest prefix decides. A new top-level module gets its number here, or the tests say that it has none.
LAYERS = {
    "nsbridge.values": 1,
    "nsbridge.codec": 1,
    "nsbridge.errors": 1,
    "nsbridge.model": 1,
    "nsbridge.state": 1,
    "nsbridge.firewall.expressions": 1,
    "nsbridge.firewall.ruleset": 1,
    "nsbridge.firewall.seen": 1,
    "nsbridge.firewall.reads": 1,
    "nsbridge.plan.step": 1,
    "nsbridge.kernel.interface": 1,
    "nsbridge.desired": 2,
    "nsbridge.firewall": 2,
    "nsbridge.plan": 3,
    "nsbridge.explain.world": 1,
    "nsbridge.explain": 3,
    "nsbridge.kernel": 3,
    "nsbridge.store": 3,
    "nsbridge.files": 3,
    "nsbridge.dns": 3,
    "nsbridge.engine": 4,
    "nsbridge.lessons": 4,
    "nsbridge.frontends": 5,
    "nsbridge.wiring": 5,
    "nsbridge.api": 5,
    "nsbridge.__main__": 6,
    "nsbridge": 5,
}
READERS = {("nsbridge.explain", "nsbridge.plan")}  # of one layer, yet what tells of plans knows them
VOCABULARY = 1  # one layer of frozen values: its modules know one another

PURE = (
    "nsbridge.values",
    "nsbridge.codec",
    "nsbridge.errors",
    "nsbridge.model",
    "nsbridge.state",
    "nsbridge.firewall",
    "nsbridge.desired",
    "nsbridge.plan",
    "nsbridge.explain",
    "nsbridge.kernel.interface",
)
EFFECTS = frozenset(
    "os posix nt io _io socket _socket subprocess _posixsubprocess time _time datetime random _random secrets uuid "
    "ctypes _ctypes cffi fcntl mmap signal _signal select selectors threading _thread multiprocessing asyncio "
    "concurrent pathlib shutil tempfile glob http urllib sqlite3 resource pwd grp platform importlib".split()
)
KERNEL_WORDS = frozenset(
    "AF_NETLINK NETLINK_ROUTE NETLINK_NETFILTER setns unshare CLONE_NEWNET CLONE_NEWNS CLONE_NEWUSER umount2 "
    "pivot_root".split()
)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def room(name: str) -> str:
    """The entry of LAYERS a module falls under."""
    fitting = [prefix for prefix in LAYERS if (name == prefix if prefix == "nsbridge" else inside(name, prefix))]
    assert fitting, f"{name} has no layer: name one in {__file__}"
    return max(fitting, key=len)


def layer(name: str) -> int:
    return LAYERS[room(name)]


def front_end(name: str) -> str | None:
    """``nsbridge.frontends.cli`` for all modules of that front end."""
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[:2] == ["nsbridge", "frontends"] and len(parts) > 2 else None


def ours(module: Module) -> list[Import]:
    # A package's docstring is all its __init__ has, so importing through it is no dependency on its layer.
    return [found for found in imports(module) if inside(found.module, "nsbridge") and found.module in names()]


def allowed(importer: str, imported: str) -> bool:
    here, there = layer(importer), layer(imported)
    if here != there:
        return there < here
    if here == VOCABULARY or room(importer) == room(imported) or (room(importer), room(imported)) in READERS:
        return True
    return here == 5 and (imported in ("nsbridge.wiring", "nsbridge") or inside(imported, "nsbridge.api"))


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_imports_point_down(module: Module) -> None:
    wrong = [
        f"line {found.line}: {module.name} (layer {layer(module.name)}) imports {found.module} ({layer(found.module)})"
        for found in ours(module)
        if not allowed(module.name, found.module)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [m for m in modules() if front_end(m.name)], ids=ids)
def test_front_ends_do_not_know_one_another(module: Module) -> None:
    wrong = [
        f"line {found.line}: imports {found.module}"
        for found in ours(module)
        if front_end(found.module) not in (None, front_end(module.name))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [m for m in modules() if any(inside(m.name, p) for p in PURE)], ids=ids)
def test_pure_packages_have_no_effects(module: Module) -> None:
    wrong = [
        f"line {found.line}: imports {found.module}"
        for found in imports(module)
        if not found.typing_only and found.module.split(".")[0] in EFFECTS
    ]
    assert not wrong, "\n".join(wrong)
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    opens = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "open"]
    assert not opens, f"opens a file on lines {opens}"


@pytest.mark.parametrize("module", [m for m in modules() if not inside(m.name, "nsbridge.kernel")], ids=ids)
def test_only_the_kernel_room_speaks_netlink_or_changes_namespace(module: Module) -> None:
    wrong = []
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.alias(name=word):
                mounts = word in ("mount", "umount") and "libc" in ast.unparse(node)
                if word in KERNEL_WORDS or mounts:
                    wrong.append(f"line {node.lineno}: {word}")
    assert not wrong, "\n".join(wrong)


def test_the_rules_would_notice() -> None:
    """The tests above judge what is there; this one judges them."""
    assert not allowed("nsbridge.model.network", "nsbridge.desired.ruleset")
    assert not allowed("nsbridge.desired.ruleset", "nsbridge.kernel.linux")
    assert not allowed("nsbridge.plan.plan", "nsbridge.store.store")
    assert not allowed("nsbridge.engine.engine", "nsbridge.wiring")
    assert not allowed("nsbridge.wiring", "nsbridge.frontends.cli")
    assert allowed("nsbridge.frontends.cli.main", "nsbridge.wiring")
    assert allowed("nsbridge.kernel.linux", "nsbridge.kernel.interface")
    assert front_end("nsbridge.frontends.cli.main") == front_end("nsbridge.frontends.cli.files")
    assert front_end("nsbridge.frontends.cni") != front_end("nsbridge.frontends.cli.main")


def test_value_types_have_distinct_names() -> None:
    """Records name a value by its class alone (`codec`), so no two classes share a name."""
    seen: dict[str, str] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Value" for base in node.bases):
                assert node.name not in seen, f"{node.name} is in {seen[node.name]} and in {module.name}"
                seen[node.name] = module.name
    assert len(seen) > 20
