"""Sends COUNT router advertisements from a guest: advertise.py INTERFACE COUNT. Prints a line when done.

Each advertisement has another prefix lifetime, so that the kernel of a host that receives it reports a changed
address.
"""
import inside
import ipaddress
import struct
import sys

import frames

wire, mac = frames.wire(sys.argv[1])
SOURCE = ipaddress.ip_address("fe80::dead")
PREFIX = ipaddress.ip_address("2001:db8:1::")
ALL_NODES_MAC = b"\x33\x33\0\0\0\x01"


def advertisement(lifetime):
    head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0)
    prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 2 * lifetime, lifetime, 0, PREFIX.packed)
    message = frames.over_ip(SOURCE, frames.ALL_NODES, 58, head + prefix, 2)
    return frames.ethernet(ALL_NODES_MAC, mac, frames.ETH_IPV6, frames.ip(SOURCE, frames.ALL_NODES, 58, message))


advertisements = [advertisement(7200 + 60 * number) for number in range(64)]
for number in range(int(sys.argv[2])):
    wire.send(advertisements[number % len(advertisements)])
print("sent", flush=True)
