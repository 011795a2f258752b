"""What a hostile guest can send, and a server that answers with the mark of the connection. Needs only Python 3.

It never runs in the machine's own network: the test passes the name of that namespace, and without it the script ends.
"""
import os
import select
import socket
import struct
import sys
import time

HERE = os.readlink("/proc/self/ns/net")
if not os.environ.get("IMDSD_TEST_NOT_IN") or os.environ["IMDSD_TEST_NOT_IN"] == HERE:
    sys.exit(97)

IPV4, IPV6 = "169.254.169.254", "fd00:ec2::254"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def ip4(text):
    return socket.inet_pton(socket.AF_INET, text)


def ip6(text):
    return socket.inet_pton(socket.AF_INET6, text)


def frame(to, source, ethertype, payload, tags=()):
    """Returns a frame. The tags are (TPID, VLAN), the outer one first."""
    types = b"".join(struct.pack("!HH", tpid, vlan) for tpid, vlan in tags)
    return mac(to) + mac(source) + types + struct.pack("!H", ethertype) + payload


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp(op, sender_mac, sender_ip, target_mac, target_ip, hardware=1):
    head = struct.pack("!HHBBH", hardware, 0x0800, 6, 4, op)
    return head + mac(sender_mac) + ip4(sender_ip) + mac(target_mac) + ip4(target_ip)


def ipv4_packet(source, to, protocol, payload):
    def head(total):
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, total, ip4(source), ip4(to))
    return head(checksum(head(0))) + payload


def udp4(source, to, data=b"x"):
    return ipv4_packet(source, to, 17, struct.pack("!HHHH", 4000, 9, 8 + len(data), 0) + data)


def pseudo6(source, to, protocol, payload):
    return checksum(ip6(source) + ip6(to) + struct.pack("!II", len(payload), protocol) + payload)


def ipv6_packet(source, to, protocol, payload, between=b"", first=None):
    """Returns a packet. `between` are the extension headers, `first` is the type of the first of them."""
    body = between + payload
    return struct.pack("!IHBB", 6 << 28, len(body), protocol if first is None else first, 255) + ip6(source) + ip6(to) + body


def udp6(source, to, data=b"x"):
    head = struct.pack("!HHHH", 4000, 9, 8 + len(data), 0)
    total = pseudo6(source, to, 17, head + data) or 0xFFFF
    return ipv6_packet(source, to, 17, head[:6] + struct.pack("!H", total) + data)


def icmp6(source, to, kind, body, extension=None):
    message = struct.pack("!BBH", kind, 0, 0) + body
    message = struct.pack("!BBH", kind, 0, pseudo6(source, to, 58, message)) + body
    if extension == "options":
        return ipv6_packet(source, to, 58, message, struct.pack("!BB", 58, 0) + b"\x01\x04\0\0\0\0", 60)
    if extension == "many":
        padding = b"\x01\x04\0\0\0\0"
        between = b"".join(struct.pack("!BB", following, 0) + padding for following in (60, 60, 58))
        return ipv6_packet(source, to, 58, message, between, 0)
    if extension == "fragment":
        return ipv6_packet(source, to, 58, message, struct.pack("!BBHI", 58, 0, 0, 7), 44)
    return ipv6_packet(source, to, 58, message)


def option(kind, address):
    return struct.pack("!BB", kind, 1) + mac(address)


def solicited(address):
    return "ff02::1:ff%02x:%02x%02x" % tuple(ip6(address)[13:])


def group_mac(address):
    return "33:33:" + ":".join("%02x" % b for b in ip6(address)[12:])


def send(device, *frames):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((device, 0))
    for one in frames:
        raw.send(one)


def attack(name, device, me, victim_mac, victim4, victim6, victim_link, host4, host6, host_mac, my_link):
    """Sends one or a few frames in which `me` poses as the victim."""
    tag0, tag2 = [(0x8100, 0)], [(0x8100, 0), (0x8100, 0)]
    tag_ad = [(0x88A8, 0), (0x8100, 0)]
    request = arp(1, me, victim4, "00:00:00:00:00:00", host4)
    reply = arp(2, me, victim4, host_mac, host4)

    def advert(tags=(), extension=None, claimed=victim6, to="ff02::1", to_mac="33:33:00:00:00:01"):
        body = struct.pack("!I", 0x20000000) + ip6(claimed) + option(2, me)
        return frame(to_mac, me, 0x86DD, icmp6(my_link, to, 136, body, extension), tags)

    def solicit(tags=(), extension=None, source=victim6):
        body = struct.pack("!I", 0) + ip6(host6) + option(1, me)
        return frame(group_mac(solicited(host6)), me, 0x86DD, icmp6(source, solicited(host6), 135, body, extension), tags)

    frames = {
        "arp-request": [frame(BROADCAST, me, 0x0806, request)],
        "arp-reply": [frame(host_mac, me, 0x0806, reply)],
        "arp-gratuitous": [frame(BROADCAST, me, 0x0806, arp(2, me, victim4, BROADCAST, victim4))],
        "arp-announcement": [frame(BROADCAST, me, 0x0806, arp(1, me, victim4, "00:00:00:00:00:00", victim4))],
        "arp-hardware-6": [frame(host_mac, me, 0x0806, arp(2, me, victim4, host_mac, host4, hardware=6))],
        "arp-from-the-victims-mac": [frame(host_mac, victim_mac, 0x0806, reply)],
        "arp-tagged-0": [frame(host_mac, me, 0x0806, reply, tag0)],
        "arp-tagged-0-0": [frame(host_mac, me, 0x0806, reply, tag2)],
        "arp-tagged-0-0-0": [frame(host_mac, me, 0x0806, reply, tag2 + tag0)],
        "arp-tagged-ad-0": [frame(host_mac, me, 0x0806, reply, tag_ad)],
        "ns": [solicit()],
        "ns-options": [solicit(extension="options")],
        "ns-tagged-0": [solicit(tags=tag0)],
        "ns-tagged-0-0": [solicit(tags=tag2)],
        "ns-link-local": [solicit(source=victim_link)],
        "na": [advert()],
        "na-unicast": [advert(to=host6, to_mac=host_mac)],
        "na-options": [advert(extension="options")],
        "na-many-headers": [advert(extension="many")],
        "na-tagged-0": [advert(tags=tag0)],
        "na-tagged-0-0": [advert(tags=tag2)],
        "na-link-local": [advert(claimed=victim_link)],
        "na-fragment": [advert(extension="fragment")],
        "rs": [frame("33:33:00:00:00:02", me, 0x86DD,
                     icmp6(victim_link, "ff02::2", 133, struct.pack("!I", 0) + option(1, me)))],
        "ra": [frame("33:33:00:00:00:01", me, 0x86DD,
                     icmp6(victim_link, "ff02::1", 134, struct.pack("!BBHII", 64, 0, 0, 0, 0) + option(1, me)))],
        # The host has a route to fd99:: through the attacker.
        "redirect": [frame(host_mac, me, 0x86DD, icmp6(my_link, host6, 137, struct.pack("!I", 0) + ip6(victim_link)
                                                       + ip6("fd99::1") + option(2, me)))],
        "source-mac": [frame(BROADCAST, victim_mac, 0x88B5, b"\0" * 46)],
        # Frames to the bridge's own group addresses pass no prerouting hook, and the bridge learns from them.
        "source-mac-to-the-bridges": [frame("01:80:c2:00:00:03", victim_mac, 0x888E, b"\0" * 46)],
        "source-mac-to-the-bridges-tagged": [frame("01:80:c2:00:00:03", victim_mac, 0x888E, b"\0" * 46, tag0)],
        "source-mac-lldp": [frame("01:80:c2:00:00:0e", victim_mac, 0x88CC, b"\0" * 46)],
        "source-mac-tagged": [frame(BROADCAST, victim_mac, 0x88B5, b"\0" * 46, tag0)],
    }[name]
    send(device, *frames)


def claim(name, device, me, my_link, other4, other6, other_mac):
    """Sends one frame to another guest, in which `me` poses as the metadata service."""
    advert = struct.pack("!I", 0x20000000) + ip6(IPV6) + option(2, me)
    solicit = struct.pack("!I", 0) + ip6(other6) + option(1, me)
    reply = arp(2, me, IPV4, other_mac, other4)
    tag2 = [(0x8100, 0), (0x8100, 0)]
    send(device, {
        "arp-reply": frame(other_mac, me, 0x0806, reply),
        "arp-request": frame(BROADCAST, me, 0x0806, arp(1, me, IPV4, "00:00:00:00:00:00", other4)),
        "arp-gratuitous": frame(BROADCAST, me, 0x0806, arp(2, me, IPV4, BROADCAST, IPV4)),
        "arp-tagged-0": frame(other_mac, me, 0x0806, reply, [(0x8100, 0)]),
        "arp-tagged-0-0": frame(other_mac, me, 0x0806, reply, tag2),
        "arp-tagged-ad-0-0": frame(other_mac, me, 0x0806, reply, [(0x88A8, 0), (0x8100, 0)]),
        "arp-tagged-0-ad-0": frame(other_mac, me, 0x0806, reply, [(0x8100, 0xE000), (0x88A8, 0)]),
        "na": frame("33:33:00:00:00:01", me, 0x86DD, icmp6(my_link, "ff02::1", 136, advert)),
        "na-options": frame("33:33:00:00:00:01", me, 0x86DD, icmp6(my_link, "ff02::1", 136, advert, "options")),
        "na-tagged-0-0": frame("33:33:00:00:00:01", me, 0x86DD, icmp6(my_link, "ff02::1", 136, advert), tag2),
        "ns": frame(other_mac, me, 0x86DD, icmp6(IPV6, other6, 135, solicit)),
        "source-ipv4": frame(other_mac, me, 0x0800, udp4(IPV4, other4)),
        "source-ipv6": frame(other_mac, me, 0x86DD, udp6(IPV6, other6)),
    }[name])


def packets(device, me, source, to_mac, tags, count="1"):
    """Sends datagrams to the metadata address. `tags` is for example `0` or `0.0`; `-` means none."""
    tags = [] if tags == "-" else [(0x8100, int(vlan)) for vlan in tags.split(".")]
    packet, kind = (udp6(source, IPV6), 0x86DD) if ":" in source else (udp4(source, IPV4), 0x0800)
    send(device, *[frame(to_mac, me, kind, packet, tags)] * int(count))


MARKER = b"that was all"


def marker(device, me, to_mac):
    """Sends the last frame, which no rule drops: a guest that receives it has received all frames before."""
    send(device, frame(to_mac, me, 0x88B5, MARKER.ljust(46)))


def hear(device):
    """Counts the datagrams and segments from the metadata addresses until the marker arrives, or for 20 seconds.

    Other packets do not count: a bridge joins the group of multicast snoopers, and the host reports that by IGMP after a
    random delay of up to a second, from its first address, which may be the metadata address.
    """
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    raw.bind((device, 0))
    index = socket.if_nametoindex(device)
    raw.setsockopt(263, 1, struct.pack("iHH8s", index, 1, 0, b""))  # SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous
    print("ready", flush=True)
    until, count = time.monotonic() + 20, 0
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([raw], [], [], left)[0]:
            break
        data, address = raw.recvfrom(2048)
        if MARKER in data:
            break
        outgoing = address[2] == 4
        is4 = data[12:14] == b"\x08\0" and data[26:30] == ip4(IPV4) and data[23] in (6, 17)
        is6 = data[12:14] == b"\x86\xdd" and data[22:38] == ip6(IPV6) and data[20] in (6, 17)
        count += (is4 or is6) and not outgoing
    print(count, flush=True)


def ask(family, source="-"):
    """Sends a request and prints the answer of the service: the mark that it saw."""
    kind = socket.AF_INET6 if family == "6" else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as client:
        client.settimeout(3.0)
        try:
            if source != "-":
                client.setsockopt(socket.SOL_SOCKET, 15, 1)  # SO_REUSEPORT
                client.bind((source, 0) if family != "6" else socket.getaddrinfo(source, 0, socket.AF_INET6)[0][4])
            client.connect((IPV6 if family == "6" else IPV4, 80))
            print(client.recv(100).decode() or "nothing")
        except OSError as reason:
            print("refused" if isinstance(reason, ConnectionRefusedError) else "nothing")


def serve(device):
    """Answers each connection with the mark of its socket."""
    listeners = []
    for family, address in [(socket.AF_INET, IPV4), (socket.AF_INET6, IPV6)]:
        listener = socket.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, 25, device.encode())  # SO_BINDTODEVICE
        listener.bind((address, 80))
        listener.listen(100)
        listeners.append(listener)
    print("ready", flush=True)
    while True:
        for listener in select.select(listeners, [], [])[0]:
            with listener.accept()[0] as client:
                mark = client.getsockopt(socket.SOL_SOCKET, 36)  # SO_MARK
                try:
                    client.send(b"mark %d" % mark)
                except OSError:
                    pass


globals()[sys.argv[1]](*sys.argv[2:])
