"""Prints every TCP segment that comes in or goes out on an interface, a line of JSON each, until it is stopped.

`hops` is the TTL or hop limit that the packet carries there; `payload` has one character for each byte. `direction` is `in` for
frames to this interface's own MAC address, `out` for its own frames, and `past` for frames to another address.
"""
import inside
import json
import sys

import frames

DIRECTIONS = {0: "in", 4: "out"}
wire, _ = frames.wire(sys.argv[1])
print("{}", flush=True)
while True:
    frame, (_, _, kind, _, _) = wire.recvfrom(70000)
    segment = frames.read_tcp(frame)
    if segment:
        segment["direction"] = DIRECTIONS.get(kind, "past")
        segment["payload"] = segment["payload"].decode("latin-1")
        print(json.dumps(segment), flush=True)
