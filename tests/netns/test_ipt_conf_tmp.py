import pytest, sys
sys.path[:0]=["/work/wt-ipt/tests/netns","/work/wt-ipt/tests/pure"]
from contextlib import contextmanager
import test_linux_kernel as t
from conformance import KernelConformance
from nsbridge.kernel.linux import LinuxKernel
pytestmark = pytest.mark.netns
def of(name):
    @contextmanager
    def fresh():
        with t.fresh():
            yield LinuxKernel(lambda: name)
    return staticmethod(fresh)
class TestNft(KernelConformance):
    fresh=of("iptables-nft"); examples=3
class TestLegacy(KernelConformance):
    fresh=of("iptables-legacy"); examples=3
