"""Write what a device carries to a pcap file until ended. Usage: capture.py DEVICE FILE

Where tcpdump cannot capture: as root of a user namespace, which may not give up its groups.
"""
import socket
import struct
import sys
import time

device, path = sys.argv[1:]
ETH_P_ALL = 3
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire, open(path, "wb", 0) as out:
    wire.bind((device, 0))
    out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
    print("listening on", device, flush=True)
    while True:
        frame = wire.recv(65536)
        now = time.time()
        out.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame)) + frame)
