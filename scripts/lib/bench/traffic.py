"""Bytes between the nodes of a cluster, as the system counts them for each TCP connection.

Leaves out: bytes of headers of TCP and IP, and systems other than Linux.
"""

import socket
import struct

from clusters import Failed

SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO = 2
ESTABLISHED = 1
HEADER = struct.Struct("=IHHII")
DIAG_BYTES = 72
BYTES_RECEIVED_AT = 128  # in struct tcp_info


def received(ports):
    """Bytes that each end of the connections from and to these ports of this machine has received, by (port here, port
    there): as both ends are here, all that went either way."""
    return {
        (source, target): struct.unpack_from("=Q", info, BYTES_RECEIVED_AT)[0]
        for source, target, info in connections()
        if (source in ports or target in ports) and len(info) >= BYTES_RECEIVED_AT + 8
    }


def connections():
    """(port here, port there, struct tcp_info) of every IPv4 connection that stands."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as diag:  # 4: NETLINK_SOCK_DIAG
        diag.settimeout(10)
        asked = struct.pack("=BBBxI48x", socket.AF_INET, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 1 << ESTABLISHED)
        diag.send(HEADER.pack(HEADER.size + len(asked), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + asked)
        while True:
            answer = diag.recv(1 << 16)
            at = 0
            while at < len(answer):
                length, kind, *_ = HEADER.unpack_from(answer, at)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise Failed("the system does not tell its connections (sock_diag)")
                yield connection(answer[at + HEADER.size : at + length])
                at += (length + 3) & ~3


def connection(message):
    source, target = struct.unpack_from("!HH", message, 4)
    at = DIAG_BYTES
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == INET_DIAG_INFO:
            return source, target, message[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    return source, target, b""
