"""The README's transcript, over any two gateways: transcript.py HOST:PORT HOST:PORT.

Only the standard library: a WebSocket client that can do just this.
"""

import base64
import os
import socket
import struct
import sys

JOIN = '["1", "1", "topics:matrix", "phx_join", {}]'
PUBLISH = '["1", "1", "topics:matrix", "publish", ["event", { "message": "red pill or blue pill?"}]]'
OK = '["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]'
EVENT = '["1",null,"topics:matrix","event",{"message":"red pill or blue pill?"}]'


class Client:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\n"
            f"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the gateway hung up"
            data += more
        return data

    def send(self, text):
        data = text.encode()
        assert len(data) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.socket.sendall(struct.pack("!BB", 0x81, 0x80 | len(data)) + mask + masked)

    def expect(self, text):
        opcode, length = self.exactly(2)
        assert opcode == 0x81 and length < 126, (opcode, length)
        got = self.exactly(length).decode()
        assert got == text, f"expected {text}\n     got {got}"


def main():
    first, second = (Client(address) for address in sys.argv[1:3])
    for client in (first, second):
        client.send(JOIN)
        client.expect(OK)
    second.send(PUBLISH)
    second.expect(OK)
    second.expect(EVENT)
    first.expect(EVENT)
    print("transcript: as in the README")


main()
