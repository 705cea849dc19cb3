"""Send bytes as fast as they go, or swallow them: ``pump.py sink PORT``, ``pump.py send ADDRESS PORT SECONDS``."""

import _socket as socket
import sys
import time
from _thread import start_new_thread

SIZE = 1 << 20


def swallow(fd: int) -> None:
    with_fd = socket.socket(fileno=fd)
    room, total = bytearray(SIZE), 0
    while count := with_fd.recv_into(room):
        total += count
    with_fd.sendall(b"%d" % total)
    with_fd.close()


def sink(port: int) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    server.listen(64)
    while True:
        fd, _ = server._accept()
        start_new_thread(swallow, (fd,))


def send(address: str, port: int, seconds: float) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.connect((address, port))
    data = bytes(SIZE)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    counted = int(sock.recv(64))
    print(counted * 8 / (time.perf_counter() - start) / 1e9)


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink(int(sys.argv[2]))
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
