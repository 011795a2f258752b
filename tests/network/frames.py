"""Writes and reads Ethernet frames: a guest can send them regardless of what its own kernel would allow."""
import ipaddress
import socket
import struct

ETH_ARP, ETH_IPV4, ETH_IPV6 = 0x0806, 0x0800, 0x86DD
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
BROADCAST = b"\xff" * 6
ALL_NODES = ipaddress.ip_address("ff02::1")


def wire(interface):
    """Returns a raw socket on an interface, and the MAC address of the interface."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    end.bind((interface, 3))
    return end, end.getsockname()[4]


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source, target, protocol, payload):
    """Returns an IP packet of the family of the addresses."""
    if source.version == 6:
        head = struct.pack("!IHBB", 0x60000000, len(payload), protocol, 255 if protocol == 58 else 64)
        return head + source.packed + target.packed + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0x4000, 64, protocol, 0) + source.packed + target.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def over_ip(source, target, protocol, segment, at):
    """Returns a TCP segment or ICMPv6 message with its checksum, which covers the addresses, at the given offset."""
    if source.version == 6:
        pseudo = source.packed + target.packed + struct.pack("!IxxxB", len(segment), protocol)
    else:
        pseudo = source.packed + target.packed + struct.pack("!xBH", protocol, len(segment))
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment)) + segment[at + 2 :]


def ethernet(target_mac, source_mac, kind, payload):
    return target_mac + source_mac + struct.pack("!H", kind) + payload


def ip_kind(address):
    return ETH_IPV6 if address.version == 6 else ETH_IPV4


def arp(operation, mac, address, target_mac, target):
    return struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, operation) + mac + address.packed + target_mac + target.packed


def neighbour_advertisement(mac, address, target, flags):
    """Returns a neighbour advertisement. The flags are solicited (0x40) and override (0x20)."""
    message = struct.pack("!BBHBxxx", 136, 0, 0, flags) + address.packed + b"\x02\x01" + mac
    return ip(address, target, 58, over_ip(address, target, 58, message, 2))


def tcp(source, target, ports, sequence, acknowledge, flags, payload=b""):
    segment = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledge, 5 << 4, flags, 64240, 0, 0) + payload
    return ip(source, target, 6, over_ip(source, target, 6, segment, 16))


def read_tcp(frame):
    """Returns the fields of a frame with a TCP segment; None for any other frame."""
    kind = struct.unpack("!H", frame[12:14])[0]
    packet = frame[14:]
    if kind == ETH_IPV4 and packet[9] == 6:
        head, total = (packet[0] & 15) * 4, struct.unpack("!H", packet[2:4])[0]
        hops, source, target = packet[8], packet[12:16], packet[16:20]
    elif kind == ETH_IPV6 and packet[6] == 6:
        head, total = 40, 40 + struct.unpack("!H", packet[4:6])[0]
        hops, source, target = packet[7], packet[8:24], packet[24:40]
    else:
        return None
    segment = packet[head:total]
    source_port, target_port, sequence, acknowledge, offset, flags = struct.unpack("!HHIIBB", segment[:14])
    return {
        "source": str(ipaddress.ip_address(source)),
        "target": str(ipaddress.ip_address(target)),
        "source_port": source_port,
        "target_port": target_port,
        "sequence": sequence,
        "acknowledge": acknowledge,
        "hops": hops,
        "flags": flags,
        "payload": segment[(offset >> 4) * 4 :],
    }
