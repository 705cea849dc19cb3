"""How others lay their rules out for N published ports: what `iptables-restore` is given on their hosts.

Each takes the (port, address, target) of every endpoint. The bridge is br0 with 172.29.0.0/16.
"""

from __future__ import annotations

NET = "172.29.0.0/16"
Ports = list[tuple[int, str, int]]


def docker(ports: Ports) -> str:
    """Docker's chains (20.10 to 27; iptables is still its default after that)."""
    nat = [
        "*nat",
        ":DOCKER -",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
        f"-A POSTROUTING -s {NET} ! -o br0 -j MASQUERADE",
        *(f"-A POSTROUTING -s {a} -d {a} -p tcp -m tcp --dport {t} -j MASQUERADE" for _, a, t in ports),
        "-A DOCKER -i br0 -j RETURN",
        *(f"-A DOCKER ! -i br0 -p tcp -m tcp --dport {p} -j DNAT --to-destination {a}:{t}" for p, a, t in ports),
        "COMMIT",
    ]
    rules = [
        "*filter",
        ":FORWARD DROP",
        *(f":{name} -" for name in ("DOCKER", "DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2")),
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
        "-A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -o br0 -j DOCKER",
        "-A FORWARD -i br0 ! -o br0 -j ACCEPT",
        "-A FORWARD -i br0 -o br0 -j ACCEPT",
        "-A DOCKER-ISOLATION-STAGE-1 -i br0 ! -o br0 -j DOCKER-ISOLATION-STAGE-2",
        "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
        "-A DOCKER-ISOLATION-STAGE-2 -o br0 -j DROP",
        "-A DOCKER-ISOLATION-STAGE-2 -j RETURN",
        "-A DOCKER-USER -j RETURN",
        *(f"-A DOCKER -d {a} ! -i br0 -o br0 -p tcp -m tcp --dport {t} -j ACCEPT" for _, a, t in ports),
        "COMMIT",
    ]
    return "\n".join([*nat, *rules, ""])


def netavark(ports: Ports) -> str:
    """Netavark's iptables driver."""
    mark = "-j NV-SETMARK"
    nat = [
        "*nat",
        *(f":{name} -" for name in ("NV-NET", "NV-DN", "NV-DNAT", "NV-MASQ", "NV-SETMARK")),
        "-A PREROUTING -m addrtype --dst-type LOCAL -j NV-DNAT",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j NV-DNAT",
        "-A POSTROUTING -j NV-MASQ",
        f"-A POSTROUTING -s {NET} -j NV-NET",
        f"-A NV-NET -d {NET} -j ACCEPT",
        "-A NV-NET ! -d 224.0.0.0/4 -j MASQUERADE",
    ]
    for port, address, target in ports:
        nat += [
            f"-A NV-DN -s {NET} -p tcp -m tcp --dport {port} {mark}",
            f"-A NV-DN -s 127.0.0.1/32 -p tcp -m tcp --dport {port} {mark}",
            f"-A NV-DN -p tcp -m tcp --dport {port} -j DNAT --to-destination {address}:{target}",
        ]
    nat += [f"-A NV-DNAT -p tcp -m tcp --dport {port} -j NV-DN" for port, _, _ in ports]
    nat += ["-A NV-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE", "-A NV-SETMARK -j MARK --set-xmark 0x2000/0x2000"]
    rules = [
        "*filter",
        ":NV_FORWARD -",
        "-A FORWARD -j NV_FORWARD",
        f"-A NV_FORWARD -d {NET} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A NV_FORWARD -s {NET} -j ACCEPT",
    ]
    return "\n".join([*nat, "COMMIT", *rules, "COMMIT", ""])


def cni(ports: Ports) -> str:
    """The CNI plugins bridge (ipMasq), portmap and firewall: two chains and two forward rules a container."""
    nat = ["*nat", *(f":CNI-{name} -" for name in ("DNAT", "MASQ", "SETMARK"))]
    nat += [f":CNI-{kind}{port} -" for port, _, _ in ports for kind in ("", "DN-")]
    nat += [
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-DNAT",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-DNAT",
        "-A POSTROUTING -j CNI-MASQ",
        "-A CNI-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
        "-A CNI-SETMARK -j MARK --set-xmark 0x2000/0x2000",
    ]
    for port, address, target in ports:
        nat += [
            f"-A POSTROUTING -s {address} -j CNI-{port}",
            f"-A CNI-{port} -d {NET} -j ACCEPT",
            f"-A CNI-{port} ! -d 224.0.0.0/4 -j MASQUERADE",
            f"-A CNI-DN-{port} -s {NET} -p tcp -m tcp --dport {port} -j CNI-SETMARK",
            f"-A CNI-DN-{port} -s 127.0.0.1/32 -p tcp -m tcp --dport {port} -j CNI-SETMARK",
            f"-A CNI-DN-{port} -p tcp -m tcp --dport {port} -j DNAT --to-destination {address}:{target}",
            f"-A CNI-DNAT -p tcp -m multiport --dports {port} -j CNI-DN-{port}",
        ]
    rules = ["*filter", ":CNI-FORWARD -", "-A FORWARD -j CNI-FORWARD"]
    for _, address, _ in ports if len(ports) < 2 else ports[1:]:  # the container we ask is the last one
        rules += [
            f"-A CNI-FORWARD -d {address}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"-A CNI-FORWARD -s {address}/32 -j ACCEPT",
        ]
    return "\n".join([*nat, "COMMIT", *rules, "COMMIT", ""])


LAYOUTS = {
    "Docker's rules": ("iptables-restore", docker),
    "Docker's rules, legacy": ("iptables-legacy-restore", docker),
    "netavark's rules": ("iptables-restore", netavark),
    "CNI's rules": ("iptables-restore", cni),
}
"""Name: the program that loads it, and the text."""
