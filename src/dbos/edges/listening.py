"""Opens the port of a server, with the standard library alone: a launch does that."""

from __future__ import annotations

import os
import socket

_BACKLOG = 64


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address.

    Args:
        host: An address of this machine, or a name of it.
        port: 0 for any free one.

    Raises:
        OSError: It cannot.
    """
    # As bytes, as the codec for names of other alphabets takes longer to load than all the rest of this.
    name = host.encode() if host.isascii() else host
    family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            # A port that was just freed may be taken again. (Elsewhere this would take one that is in use.)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
