"""Whose rules these are, as far as the names of tables and chains tell."""

from __future__ import annotations

from nsbridge.firewall.iptables import PREFIX

_TABLES = (
    ("nsbridge", "nsbridge"), ("docker", "docker"), ("firewalld", "firewalld"), ("libvirt", "libvirt"),
    ("kube", "kubernetes"), ("netavark", "netavark"), ("cni", "cni"), ("lxc", "lxc"), ("incus", "incus"),
    ("ufw", "ufw"), ("fail2ban", "fail2ban"), ("f2b", "fail2ban"), ("tailscale", "tailscale"), ("calico", "calico"),
    ("cilium", "cilium"), ("podman", "podman"), ("crowdsec", "crowdsec"), ("wg-quick", "wireguard"),
)  # fmt: skip
_CHAINS = (
    ("DOCKER", "docker"), ("ufw", "ufw"), ("LIBVIRT", "libvirt"), ("KUBE", "kubernetes"), ("CNI", "cni"),
    ("NETAVARK", "netavark"), ("cali-", "calico"), ("CILIUM", "cilium"), ("f2b", "fail2ban"), ("ts-", "tailscale"),
    ("FWDI", "firewalld"), ("FWDO", "firewalld"), ("IN_", "firewalld"), (PREFIX, "nsbridge"),
)  # fmt: skip


def owner_of(family: str, table: str, chain: str = "", why: str = "", backend: str = "nft") -> str:
    """Name whose rule this is: a program, ``iptables`` for its tables' own chains, else the table."""
    if why.startswith("nsbridge"):
        return "nsbridge"
    if backend == "nft":
        for part, owner in _TABLES:
            if part in table.lower():
                return owner
        return f"table {family} {table}"
    for begin, owner in _CHAINS:
        if chain.startswith(begin):
            return owner
    return "iptables"
