"""Datagrams that the kernel hands over many at a time (UDP_SEGMENT), checked one by one where they arrive.

segmented.py receive PORT COUNT: "ready", then once COUNT came or five seconds are over, how many there were of each length.
segmented.py send ADDRESS PORT SIZE: a hundred calls of ten datagrams of SIZE bytes and one of half of that.
"""

import collections
import socket
import sys
import time

UDP_SEGMENT = 103
# Past net.core.rmem_max: a receiver that is not scheduled for a moment must lose nothing, or the test would judge the scheduler.
SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 16 << 20

role, *arguments = sys.argv[1:]
channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if role == "receive":
    port, count = map(int, arguments)
    channel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    channel.bind(("0.0.0.0", port))
    channel.settimeout(5)
    print("ready", flush=True)
    lengths = collections.Counter()
    try:
        while lengths.total() < count:
            data = channel.recv(65535)
            # Each is its length's last byte, repeated.
            assert data == bytes([len(data) & 255]) * len(data), "a datagram is not as it was sent"
            lengths[len(data)] += 1
    except socket.timeout:
        pass
    print(" ".join(f"{length}:{lengths[length]}" for length in sorted(lengths)), flush=True)
else:
    address, port, size = arguments[0], int(arguments[1]), int(arguments[2])
    channel.setsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, UDP_SEGMENT, size)
    half = size // 2
    for _ in range(100):
        channel.sendto(bytes([size & 255]) * (10 * size) + bytes([half & 255]) * half, (address, port))
        time.sleep(0.002)
