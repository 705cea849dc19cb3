"""A server that answers with what it saw of its client; for people and tests. Standard library only.

    python3 echo.py NAME http:80 tcp:7 udp:7

Each answer is one line of JSON: {"server": NAME, "source": ADDRESS, "source_port": PORT, "local": ADDRESS,
"local_port": PORT}; over HTTP as the body of any request. TCP and UDP add "said": what the client sent. It listens
on every address, IPv4 and IPv6, and prints ``ready`` once all ports are bound.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50


def plain(address: str) -> str:
    """Write an IPv4 address as one, also where a dual-stack socket shows it as ::ffff:10.0.0.1."""
    return address.removeprefix("::ffff:").partition("%")[0]


def answer(name: str, peer: tuple, local: tuple, said: str = "") -> bytes:
    import json

    return (
        json.dumps(
            {
                "server": name,
                "source": plain(peer[0]),
                "source_port": peer[1],
                "local": plain(local[0]),
                "local_port": local[1],
                "said": said,
            }
        ).encode()
        + b"\n"
    )


def bound(kind: int, port: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address: tuple = ("::", port)
    except OSError:  # no IPv6 here
        sock, address = socket.socket(socket.AF_INET, kind), ("0.0.0.0", port)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    return sock


def serve_http(name: str, client: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(4096)
        if not part:
            return
        received += part
    body = answer(name, client.getpeername(), client.getsockname(), received.split(b"\r\n", 1)[0].decode())
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    client.sendall(head.encode() + body)


def serve_tcp(name: str, client: socket.socket) -> None:
    while said := client.recv(65536):
        client.sendall(answer(name, client.getpeername(), client.getsockname(), said.decode("utf-8", "replace")))


def accept(name: str, sock: socket.socket, serve) -> None:
    def one(client: socket.socket) -> None:
        with client:
            try:
                client.settimeout(10)
                serve(name, client)
            except OSError:
                return

    while True:
        client, _ = sock.accept()
        threading.Thread(target=one, args=(client,), daemon=True).start()


def serve_udp(name: str, sock: socket.socket) -> None:
    """Answer from the address that was asked: on a host with several, the route alone might choose another."""
    inet6 = sock.family == socket.AF_INET6
    if inet6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    port = sock.getsockname()[1]
    while True:
        said, control, _, peer = sock.recvmsg(65536, 256)
        local, reply = "", []
        for level, kind, data in control:
            if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
                local = socket.inet_ntop(socket.AF_INET6, data[:16])
                scope = data[16:20] if local.startswith("fe80") else struct.pack("I", 0)
                reply = [(level, kind, data[:16] + scope)]
        sock.sendmsg([answer(name, peer, (local, port), said.decode("utf-8", "replace"))], reply, 0, peer)


def main(name: str, *ports: str) -> None:
    work = []
    for text in ports:
        proto, _, port = text.partition(":")
        if proto == "udp":
            work.append((serve_udp, (name, bound(socket.SOCK_DGRAM, int(port)))))
        else:
            sock = bound(socket.SOCK_STREAM, int(port))
            sock.listen(128)
            work.append((accept, (name, sock, serve_http if proto == "http" else serve_tcp)))
    threads = [threading.Thread(target=function, args=args, daemon=True) for function, args in work]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
