"""Reads the instance-id COUNT times, each on a connection of its own: reads.py ADDRESS COUNT.

Prints the times in µs as JSON. Ends with an error if an answer differs from the first one.
"""
import inside
import json
import socket
import sys
import time

address, count = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
REQUEST = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: imds\r\n\r\n"
first, times = None, []
for _ in range(count):
    before = time.perf_counter()
    with socket.socket(family, socket.SOCK_STREAM) as end:
        end.settimeout(5)
        end.connect((address, 80))
        end.sendall(REQUEST)
        answer = b""
        while piece := end.recv(65536):
            answer += piece
    times.append((time.perf_counter() - before) * 1e6)
    body = answer.split(b"\r\n\r\n", 1)[1]
    first = first or body
    if not answer.startswith(b"HTTP/1.1 200") or body != first:
        sys.exit(f"{answer!r}")
print(json.dumps({"body": first.decode(), "times": times}))
