"""Sends a request from an address that is not this guest's: spoof.py INTERFACE SOURCE TARGET GATEWAY-MAC REQUEST.

Speaks TCP in raw frames: it answers ARP and neighbour requests for SOURCE, connects, sends the request and prints what came
back within three seconds, {"shaken": bool, "answer": text}.
"""
import inside
import ipaddress
import json
import select
import sys
import time

import frames

interface, request = sys.argv[1], sys.argv[5].encode()
source, target = ipaddress.ip_address(sys.argv[2]), ipaddress.ip_address(sys.argv[3])
gateway = bytes.fromhex(sys.argv[4].replace(":", ""))
wire, mac = frames.wire(interface)
PORTS = (40404, 80)
sequence, expected, shaken, answer = 1000, None, False, b""


def send(acknowledge, flags, payload=b""):
    packet = frames.tcp(source, target, PORTS, sequence, acknowledge, flags, payload)
    wire.send(frames.ethernet(gateway, mac, frames.ip_kind(source), packet))


def is_asked_for(frame):
    packet = frame[14:]
    if source.version == 4 and frame[12:14] == b"\x08\x06":
        return packet[7] == 1 and packet[24:28] == source.packed
    return frame[12:14] == b"\x86\xdd" and packet[6] == 58 and packet[40] == 135 and packet[48:64] == source.packed


def claim(frame):
    packet = frame[14:]
    if source.version == 4:
        payload = frames.arp(2, mac, source, packet[8:14], ipaddress.ip_address(packet[14:18]))
        wire.send(frames.ethernet(frame[6:12], mac, frames.ETH_ARP, payload))
    else:
        payload = frames.neighbour_advertisement(mac, source, ipaddress.ip_address(packet[8:24]), 0x60)
        wire.send(frames.ethernet(frame[6:12], mac, frames.ETH_IPV6, payload))


send(0, frames.SYN)
until = time.monotonic() + 3
while (left := until - time.monotonic()) > 0:
    if not select.select([wire], [], [], left)[0]:
        break
    frame, (_, _, kind, _, _) = wire.recvfrom(70000)
    if kind == 4:
        continue
    if is_asked_for(frame):
        claim(frame)
        continue
    segment = frames.read_tcp(frame)
    if not segment or (segment["source_port"], segment["target_port"]) != PORTS[::-1]:
        continue
    if segment["flags"] & frames.RST:
        break
    if segment["flags"] & frames.SYN:
        if not shaken:
            shaken, expected = True, (segment["sequence"] + 1) & 0xFFFFFFFF
            sequence += 1
            send(expected, frames.ACK | frames.PSH, request)
            sequence += len(request)
        continue
    if shaken and segment["sequence"] == expected:
        answer += segment["payload"]
        expected = (expected + len(segment["payload"])) & 0xFFFFFFFF
        if segment["payload"]:
            send(expected, frames.ACK)
        if segment["flags"] & frames.FIN:
            break
print(json.dumps({"shaken": shaken, "answer": answer.decode("latin-1")}))
