"""A hypervisor's part of a virtual wire: a tap on the host, another in the guest, and every frame carried across.

tap_wire.py TAP GUEST makes the tap TAP where it runs and `eth0` in the network namespace GUEST. Both vanish when it ends.
"""
import inside
import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 0x0002, 0x1000, 0x40000000


def tap(name):
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return end


host = tap(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
with open(f"/run/netns/{sys.argv[2]}") as namespace:
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
if os.readlink("/proc/thread-self/ns/net") == inside.OUTSIDE:
    sys.exit(97)
guest = tap("eth0")
print("ready", flush=True)
across = {host: guest, guest: host}
while True:
    for end in select.select([host, guest], [], [])[0]:
        try:
            os.write(across[end], os.read(end, 70000))
        except OSError:
            # One side is down: the frame is lost, as on any wire.
            pass
