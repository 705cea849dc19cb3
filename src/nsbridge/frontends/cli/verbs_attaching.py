"""The verbs about namespaces on networks: in a module of their own, for a command of theirs loads no other verbs."""

from __future__ import annotations

from nsbridge.frontends.cli.shared import ALIAS, ENDPOINT_FIELDS, IP, IP6, JSON, LINK, MAC, NET, PORTS, SHOW
from nsbridge.frontends.cli.verb import Verb, arg, flag, text

ENDPOINTS = (
    Verb(
        "connect",
        "endpoints",
        "Attach an existing namespace to a network",
        "endpoints:connect",
        (
            text("--name", metavar="NAME", help="name of the endpoint (default: the namespace's)"),
            IP,
            IP6,
            MAC,
            *LINK,
            ALIAS,
            PORTS,
            SHOW,
            JSON,
            arg("network", metavar="NETWORK", help="network"),
            arg("netns", metavar="NETNS", help="a name of `ip netns`, a path that opens the namespace, or a PID in it"),
        ),
        about="The namespace may belong to anything: `ip netns`, a container engine's process, a sandbox. What is "
        "connected to a service's goes with the service, and its ports come back when it returns to their network.",
        examples=(
            "connect lab ns1",
            "connect -p 8088:80 --ip 10.9.0.7 lab /run/netns/ns1",
            "connect --name web lab 4711",
        ),
        fields=ENDPOINT_FIELDS,
    ),
    Verb(
        "disconnect",
        "endpoints",
        "Take a namespace off a network",
        "endpoints:disconnect",
        (
            flag("-f", "--force", help="it is no error if there is no such endpoint"),
            SHOW,
            arg("network", metavar="NETWORK", help="network"),
            arg("name", nargs="+", metavar="NAME", help="endpoint, or the namespace as it was named to connect"),
        ),
        about="Several are taken away in one operation, which costs little more than one alone.",
        examples=("disconnect lab ns1", "disconnect lab ns1 ns2 ns3"),
    ),
    Verb(
        "publish",
        "endpoints",
        "Publish more ports of a live endpoint",
        "endpoints:publish",
        (
            NET,
            flag("--share", help="others may publish this host port too: new connections go to each in turn"),
            flag("--drain", help="give it no new connections of a shared port for now, and publish nothing"),
            flag("--undrain", help="give it some again"),
            SHOW,
            arg("name", metavar="NAME", help="endpoint or service"),
            arg("ports", nargs="+", metavar="PORT", help="[HOST_IP:][HOST_PORT:]PORT[/PROTOCOL], ranges too"),
        ),
        about="An interface of the host may stand for HOST_IP: eth0:8088:80 answers what comes in by eth0.",
        examples=(
            "publish web 8088:80",
            "publish web 127.0.0.1:5353:53/udp wg0:8080:80",
            "publish --share web2 8088:80",
            "publish --drain web2 8088:80",
        ),
    ),
    Verb(
        "unpublish",
        "endpoints",
        "Take published ports of a live endpoint away",
        "endpoints:unpublish",
        (
            NET,
            SHOW,
            arg("name", metavar="NAME", help="endpoint or service"),
            arg(
                "ports",
                nargs="+",
                metavar="PORT",
                help="as they were published, or the port inside alone for all of it",
            ),
        ),
        examples=("unpublish web 8088:80", "unpublish web 80"),
    ),
)
