"""Opens TCP sockets in the network namespace that it runs in, and hands them to the test over its standard input.

A socket stays in the namespace in which it was created, wherever it is used, so the test sends exactly what a guest
would send. Requests are lines of JSON: {"connect": [address, port], "from": [address, port] or null,
"within": seconds} or {"listen": [address, port]}. Both may have "device", the interface to bind the socket
to; a connection also "freebind", to use a source address that the namespace does not have. Each answer is a line of JSON with the socket
attached, or with an errno in it.
"""
import inside
import errno
import json
import socket


def opened(wanted):
    address = wanted.get("connect") or wanted["listen"]
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    end = socket.socket(family, socket.SOCK_STREAM)
    try:
        if wanted.get("device"):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wanted["device"].encode())
        if "listen" in wanted:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.bind(tuple(address))
            end.listen(64)
        else:
            if wanted.get("freebind"):
                # IP_FREEBIND and IPV6_FREEBIND (linux/in.h, linux/in6.h), which need no privilege.
                end.setsockopt(*((socket.IPPROTO_IPV6, 78) if ":" in address[0] else (socket.IPPROTO_IP, 15)), 1)
            if wanted.get("from"):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                end.bind(tuple(wanted["from"]))
            end.settimeout(wanted["within"])
            end.connect(tuple(address))
            end.settimeout(None)
    except BaseException:
        end.close()
        raise
    return end


test = socket.socket(fileno=0)
for line in test.makefile("r"):
    try:
        end = opened(json.loads(line))
    except OSError as reason:
        number = reason.errno or errno.ETIMEDOUT
        test.sendall(json.dumps({"errno": number}).encode() + b"\n")
        continue
    socket.send_fds(test, [b"{}\n"], [end.fileno()])
    end.close()
