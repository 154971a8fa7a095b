"""An authoritative name server over UDP (RFC 1035), for every name there is.

The table is a file that the test may replace at any moment: {NAME: {"generation": N, "steps": [STEP, …]}}, names in lower case,
without the dot at the end. The first query of a type gets the first step, the next one the next, and the last one remains;
another generation begins again. A STEP is {"kind": "addresses", "addresses": […]}, {"kind": "nonexistent"} or {"kind": "silence"}.
What is not in the table does not exist. Every query is in the record before it is answered, whatever it is for.

usage: names.py ADDRESS RECORD TABLE
"""

import collections
import ipaddress
import json
import socket
import struct
import sys

A, AAAA = 1, 28
NXDOMAIN = 3


def question(packet):
    """The name as it was asked, the type, and the bytes of the question."""
    labels, at = [], 12
    while length := packet[at]:
        labels.append(packet[at + 1:at + 1 + length].decode("latin-1"))
        at += 1 + length
    kind, = struct.unpack_from("!H", packet, at + 1)
    return ".".join(labels), kind, packet[12:at + 5]


def reply(packet, asked, status, addresses):
    # Authoritative, and of the query only whether recursion was wished for, as RFC 1035 has it repeated.
    flags = 0x8400 | struct.unpack_from("!H", packet, 2)[0] & 0x0100 | status
    answer = packet[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0) + asked
    for address in addresses:
        kind = A if address.version == 4 else AAAA
        # The name is a pointer to the question's; nobody may keep the answer, so that each query is seen.
        answer += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(address.packed)) + address.packed
    return answer


def main(own, record, table):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((own, 53))
    turns = collections.Counter()
    with open(record, "a", encoding="utf-8") as log:
        log.flush()
        while True:
            packet, client = server.recvfrom(4096)
            try:
                name, kind, asked = question(packet)
            except (IndexError, struct.error):
                continue
            log.write(json.dumps({"name": name, "type": {A: "A", AAAA: "AAAA"}.get(kind, str(kind))}) + "\n")
            log.flush()
            with open(table, encoding="utf-8") as file:
                entry = json.load(file).get(name.lower())
            if entry is None:
                server.sendto(reply(packet, asked, NXDOMAIN, []), client)
                continue
            turn = (name.lower(), entry["generation"], kind)
            step = entry["steps"][min(turns[turn], len(entry["steps"]) - 1)]
            turns[turn] += 1
            if step["kind"] == "silence":
                continue
            addresses = [ipaddress.ip_address(text) for text in step.get("addresses", [])]
            wanted = [address for address in addresses if (A if address.version == 4 else AAAA) == kind]
            status = NXDOMAIN if step["kind"] == "nonexistent" else 0
            server.sendto(reply(packet, asked, status, wanted), client)


main(*sys.argv[1:])
