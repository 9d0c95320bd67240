"""Send frames into a router from all its sides, and tell what came out of it for each.

Usage: kernel.py PORT... <CASES >OUTCOMES
The first line of CASES is a JSON object: for each port a marker, a frame (hex) that the router carries from there to the
port named in its key "exit"; its last four bytes are a number of ours. Then a line a case: [[PORT, FRAME], ...]. For each
case the frames are sent, behind them the marker, and what the router sent before the marker came out is the outcome:
[[PORT, FRAME], ...]. Nobody sleeps, and everything runs on one processor, where a router's queues keep the order.
"""
import json
import os
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
PACKET_OUTGOING = 4
# A marker that is not back by then is lost.
PATIENCE = 5.0

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
ports = sys.argv[1:]
wires = {}
poll = select.epoll()
for port in ports:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    wire.bind((port, 0))
    wire.setblocking(False)
    wires[wire.fileno()] = (port, wire)
    poll.register(wire, select.EPOLLIN)
by_name = {port: wire for port, wire in wires.values()}

header = json.loads(sys.stdin.readline())
way_out = header.pop("exit")
markers = {port: bytes.fromhex(frame)[:-4] for port, frame in header.items()}
number = 0


def received():
    """What came since it was last asked for, by port, in the order in which each port saw it."""
    for port, wire in wires.values():
        while True:
            try:
                frame, address = wire.recvfrom(65536)
            except BlockingIOError:
                break
            if address[2] != PACKET_OUTGOING:
                yield port, frame


for line in sys.stdin:
    frames = json.loads(line)
    number += 1
    tag = struct.pack("!I", number)
    for port, frame in frames:
        by_name[port].send(bytes.fromhex(frame))
    last = frames[-1][0]
    by_name[last].send(markers[last] + tag)
    outcome = []
    end = time.monotonic() + PATIENCE
    done = False
    while not done:
        if time.monotonic() > end:
            sys.exit(f"case {number}: the marker behind it did not come out of the router")
        poll.poll(0.1)
        for port, frame in received():
            if port == way_out and frame.endswith(tag) and b"ORACLE" in frame:
                done = True
            else:
                outcome.append([port, frame.hex()])
    print(json.dumps(outcome), flush=False)
