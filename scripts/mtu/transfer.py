"""One TCP transfer whose bytes are checked and whose pauses are measured, with nothing but Python: it runs in a user-mode kernel, too.

transfer.py receive ADDRESS PORT SECONDS: "listening", then ten times a second how many bytes came so far, and at last a line of JSON:
  bytes, their sha256, whether the sender said that this is all of it, the longest pause between two bytes in seconds, counted from
  the first byte of the connection (its SYN was answered) to the end or to the moment when SECONDS were over.
transfer.py send ADDRESS PORT SECONDS BYTES [GATE]: no two chunks are alike; a line of JSON: the bytes, their sha256.
  With a GATE, a file's name: slowly and without an end until there is such a file, then BYTES more.
"""

import hashlib
import json
import os
import random
import socket
import struct
import sys
import time

SAMPLE_SECONDS = 0.1
CHUNK = 64 << 10
SLOW_BYTES_A_SECOND = 4 << 20

role, address, port, seconds, *arguments = sys.argv[1:]
place = (address, int(port))
end = time.monotonic() + float(seconds)


def left() -> float:
    return max(0.001, end - time.monotonic())


def receive() -> dict:
    listener = socket.create_server(place)
    print("listening", flush=True)
    digest = hashlib.sha256()
    count, whole, pause = 0, False, 0.0
    listener.settimeout(left())
    try:
        connection, _ = listener.accept()
    except socket.timeout:
        return {"bytes": 0, "sha256": digest.hexdigest(), "whole": False, "pause": float(seconds)}
    last = sample = time.monotonic()
    while time.monotonic() < end:
        connection.settimeout(min(SAMPLE_SECONDS, left()))
        try:
            data = connection.recv(CHUNK)
        except socket.timeout:
            data = None
        except ConnectionError:
            break
        now = time.monotonic()
        if data:
            digest.update(data)
            count += len(data)
        if data is not None:
            pause = max(pause, now - last)
            last = now
        if data == b"":
            whole = True
            break
        if now - sample >= SAMPLE_SECONDS:
            print(count, flush=True)
            sample = now
    # What never went on is a pause as well.
    pause = max(pause, time.monotonic() - last)
    return {"bytes": count, "sha256": digest.hexdigest(), "whole": whole, "pause": round(pause, 3)}


def send(total: int, gate: str | None) -> dict:
    digest = hashlib.sha256()
    noise = random.Random(total)
    count, more = 0, total
    try:
        with socket.create_connection(place, timeout=left()) as connection:
            while more > 0 and time.monotonic() < end:
                slow = gate is not None and not os.path.exists(gate)
                data = noise.randbytes(min(CHUNK, more))
                connection.settimeout(left())
                connection.sendall(data)
                digest.update(data)
                count += len(data)
                if slow:
                    time.sleep(len(data) / SLOW_BYTES_A_SECOND)
                else:
                    more -= len(data)
            if more > 0:
                # A reset, so that nobody takes a part for the whole.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    return {"bytes": count, "sha256": digest.hexdigest()}


if role == "receive":
    result = receive()
else:
    result = send(int(arguments[0]), arguments[1] if len(arguments) > 1 else None)
print(json.dumps(result), flush=True)
