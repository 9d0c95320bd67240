"""Many flows of UDP, and who answers each packet of each.

  flows.py serve ADDRESS NAME     answer each datagram with it and NAME, until ended
  flows.py send ADDRESS COUNT     a packet of each of COUNT flows in a round, and the round's time as a line, until ended; then one
                                  line of JSON: for each flow the names that answered, in the order in which the packets
                                  were sent, null for none
"""
import json
import select
import signal
import socket
import sys
import time

PORT = 7000
ROUND = 0.04
# Answers may come so late after the last packet, on a busy machine.
LAST = 5
# A round is so much longer at most while answers to it are missing: a busy machine is not sent more than its queues hold.
WAIT = 0.2

role, address, third = sys.argv[1:]
ended = False


def end(*_):
    global ended
    ended = True


def serve(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        print("ready", flush=True)
        while True:
            data, client = server.recvfrom(2048)
            server.sendto(data + b" " + name.encode(), client)


def collect(flows, sent, until, is_enough=lambda: False):
    while (left := until - time.monotonic()) > 0 and not is_enough():
        for flow in select.select(flows, [], [], left)[0]:
            try:
                number, name = flow.recv(2048).split()
            except OSError:
                continue  # an ICMP error: the packet counts as unanswered
            sent[flow][int(number)] = name.decode()


def send(count):
    flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    sent = {flow: [] for flow in flows}
    for flow in flows:
        flow.connect((address, PORT))

    def is_answered():
        return all(answers[-1] for answers in sent.values())

    signal.signal(signal.SIGTERM, end)
    while not ended:
        print(time.time(), flush=True)
        due = time.monotonic() + ROUND
        for flow in flows:
            sent[flow].append(None)
            try:
                flow.send(str(len(sent[flow]) - 1).encode())
            except OSError:
                pass  # the error of a packet before
        collect(flows, sent, due)
        collect(flows, sent, due + WAIT, is_answered)
    collect(flows, sent, time.monotonic() + LAST, is_answered)
    print(json.dumps(list(sent.values())), flush=True)


serve(third) if role == "serve" else send(int(third))
