"""On a kernel's path: nothing beyond this machine can be reached, as in a lecture hall without a network."""

import socket

_connect = socket.socket.connect
_look_up = socket.getaddrinfo
HERE = ("127.0.0.1", "::1", "localhost")


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in HERE:
        raise OSError(f"offline: {address[0]} was asked for")
    return _connect(self, address)


def look_up(host, *rest, **named):
    if host not in (*HERE, None, ""):
        raise OSError(f"offline: {host} was looked up")
    return _look_up(host, *rest, **named)


socket.socket.connect = connect
socket.getaddrinfo = look_up
