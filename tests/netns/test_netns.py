"""Namespaces and settings on a running kernel; `ip netns` and /proc judge."""

from __future__ import annotations

import _thread
import errno
import os
import subprocess
import sys
import time

import pytest

from nsbridge.kernel import libc, netns, sysctl
from nsbridge.kernel.netlink import ROUTE, NetlinkSocket

pytestmark = pytest.mark.netns


def own():
    return os.readlink("/proc/thread-self/ns/net")


def mounts(path):
    with open("/proc/self/mountinfo") as file:
        return [line for line in file if f" {path} " in line]


@pytest.fixture
def path():
    path = f"/run/netns/t{os.getpid()}-{time.monotonic_ns() % 10**9}"
    yield path
    netns.remove(path)


def test_a_made_namespace_is_one_that_ip_knows_with_its_loopback_up(path):
    before = own()
    netns.create(path)
    assert own() == before
    assert os.path.basename(path) in subprocess.check_output(["ip", "netns", "list"], text=True)
    shown = subprocess.check_output(["nsenter", f"--net={path}", "ip", "-o", "link"], text=True)
    assert len(shown.splitlines()) == 1
    assert "lo: <LOOPBACK,UP" in shown
    assert netns.inode(path) == os.stat(path).st_ino != os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(FileExistsError):
        netns.create(path)
    assert netns.inode(path)


def test_removing_leaves_neither_mount_nor_file_and_may_be_repeated(path):
    netns.create(path)
    netns.remove(path)
    assert not os.path.exists(path)
    assert not mounts(path)
    netns.remove(path)
    assert netns.inode(path) == 0


def test_ip_netns_add_in_between_doesnt_hold_ours(path):
    netns.create(path)
    other = path + "-ip"
    subprocess.check_call(["ip", "netns", "add", os.path.basename(other)])
    try:
        netns.remove(path)
        assert not os.path.exists(path)
        assert netns.inode(other)
    finally:
        subprocess.check_call(["ip", "netns", "del", os.path.basename(other)])


def test_a_directory_is_made_when_missing(tmp_path):
    path = str(tmp_path / "deep" / "ns")
    netns.create(path)
    try:
        assert netns.inode(path)
    finally:
        netns.remove(path)


def test_a_namespace_that_cant_be_named_leaves_no_file(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no mount for you")

    os.makedirs("/run/netns", exist_ok=True)
    monkeypatch.setattr(libc, "mount", refuse)
    monkeypatch.setattr(netns, "_share_directory", lambda: None)
    with pytest.raises(PermissionError):
        netns.create(path)
    assert not os.path.exists(path)


def test_inside_works_in_another_thread_and_gives_back_results_and_exceptions(path):
    netns.create(path)
    before = own()
    me = _thread.get_ident()
    there, who = netns.inside(path, lambda: (own(), _thread.get_ident()))
    assert there == f"net:[{netns.inode(path)}]"
    assert who != me
    with pytest.raises(ZeroDivisionError):
        netns.inside(path, lambda: 1 // 0)
    assert own() == before
    with pytest.raises(FileNotFoundError):
        netns.inside(path + "-none", own)
    with pytest.raises(OSError, match="setns"):
        netns.inside("/etc/hostname", own)


def places():
    """The namespaces of all our threads, by the threads' numbers."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            found[int(task)] = os.readlink(f"/proc/self/task/{task}/ns/net")
        except OSError:  # it ended just now
            continue
    return found


@pytest.fixture
def away():
    """Return what tells which threads are elsewhere than we are, and weren't there before the test.

    The threads by which pytest-xdist talks stay in the namespace in which its worker began.
    """
    before = places()

    def look():
        return {task: place for task, place in places().items() if place not in (own(), before.get(task))}

    return look


def test_who_visits_comes_home_and_ends_when_there_is_nothing_more_to_do(path, away):
    netns.create(path)
    for _ in range(3):
        assert netns.inside(path, own) != own()
        assert not away()
        with pytest.raises(OSError, match="setns"):
            netns.inside("/etc/hostname", own)
    first = netns.inside(path, _thread.get_native_id)
    assert first in places()
    assert netns.inside(path, _thread.get_native_id) == first  # one thread, while it has work
    before = time.monotonic()
    while first in places() and time.monotonic() < before + 5:
        time.sleep(0.05)
    assert first not in places()
    assert netns.inside(path, own) == f"net:[{netns.inode(path)}]"


def test_visits_of_many_threads_meet_nobody_elses_namespace(path, away):
    paths = [f"{path}-{number}" for number in range(4)]
    for each in paths:
        netns.create(each)
    wanted = {each: f"net:[{netns.inode(each)}]" for each in paths}
    wrong, ended = [], []

    def work(each):
        for _ in range(50):
            if (found := netns.inside(each, own)) != wanted[each]:
                wrong.append((each, found))
        ended.append(each)

    for each in paths:
        _thread.start_new_thread(work, (each,))
    before = time.monotonic()
    while len(ended) < len(paths) and time.monotonic() < before + 20:
        time.sleep(0.01)
    for each in paths:
        netns.remove(each)
    assert sorted(ended) == paths
    assert not wrong
    assert not away()


def test_a_forked_child_visits_by_a_thread_of_its_own(path):
    netns.create(path)
    assert netns.inside(path, own) != own()
    child = os.fork()
    if not child:
        os._exit(0 if netns.inside(path, own) == f"net:[{netns.inode(path)}]" else 1)
    assert os.waitpid(child, 0)[1] == 0


ALONE = """
import os, signal, sys, time
from nsbridge.kernel import netns, visitor
visitor.IDLE_S = 60
assert netns.inside(sys.argv[1], lambda: 7) == 7
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
os.kill(os.getpid(), signal.SIGCHLD)
time.sleep(0.05)
print(len(os.listdir("/proc/self/task")), signal.sigtimedwait({signal.SIGCHLD}, 0) is not None)
"""


def test_a_visit_takes_no_signal_from_who_waits_for_it(path):
    """The end of a child, say: a thread that doesn't block SIGCHLD takes it and forgets it.

    In a process of its own: that of the tests has threads of others.
    """
    netns.create(path)
    assert subprocess.check_output([sys.executable, "-c", ALONE, path], text=True) == "2 True\n"


def test_a_strangers_function_and_what_it_starts_hear_signals(path):
    def blocked():
        return subprocess.check_output(["sh", "-c", "grep SigBlk /proc/self/status"])

    netns.create(path)
    assert netns.inside(path, blocked, anew=True) == blocked()


def test_visits_inside_visits(path, away):
    netns.create(path)
    netns.create(other := f"{path}-other")
    found = netns.inside(path, lambda: (own(), netns.inside(other, own), own()))
    assert found == (f"net:[{netns.inode(path)}]", f"net:[{netns.inode(other)}]", f"net:[{netns.inode(path)}]")
    netns.remove(other)
    assert not away()


def test_a_socket_belongs_to_the_namespace_of_the_thread_that_opened_it(path):
    from nsbridge.kernel.apply import index_of
    from nsbridge.kernel.rtnetlink import create_link
    from nsbridge.state.things import Link

    netns.create(path)
    sock = netns.inside(path, lambda: NetlinkSocket(ROUTE))
    sock.transact([create_link(Link(path, "inner-br", "bridge"))])
    assert index_of(sock, "inner-br") > 1
    assert "inner-br" in subprocess.check_output(["nsenter", f"--net={path}", "ip", "link"], text=True)
    assert "inner-br" not in subprocess.check_output(["ip", "link"], text=True)
    sock.close()


def test_settings_are_those_of_the_namespace(path):
    netns.create(path)
    key = "net/ipv4/ip_forward"
    here = sysctl.read(key)
    netns.inside(path, lambda: sysctl.write(key, "1"))
    assert netns.inside(path, lambda: sysctl.read(key)) == "1"
    assert sysctl.read(key) == here
    assert sysctl.read("net/ipv4/conf/nolink/forwarding") == ""
    with pytest.raises(FileNotFoundError):
        sysctl.write("net/ipv4/conf/nolink/forwarding", "1")


def test_the_host_has_a_name_and_each_other_namespace_its_own(path):
    netns.create(path)
    names = {netns.host_id(), netns.inside(path, netns.host_id)}
    assert len(names) == 2
    assert netns.inside(path, netns.host_id) == netns.inside(path, netns.host_id)
    assert netns.inside(path, netns.host_id).startswith("ns-")
    try:
        same = os.stat("/proc/1/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
    except PermissionError:
        same = False
    assert (netns.host_id() == "host") == same


def test_libc_by_hand_and_by_package_call_the_same():
    for binder in (libc._bind_by_hand, libc._bind_by_package):
        function, code = binder()("umount2", "zi")
        assert function(b"/no/such/path", 2) == -1
        assert code() == errno.ENOENT
