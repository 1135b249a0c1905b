"""TRex, stateless: UDP from many clients through the appliance of appliance.toml, one direction.

    ./t-rex-64 -i --cfg trex_cfg.yaml            # one terminal
    ./trex-console                               # another
    start -f trex_established.py -p 0 -m 1mpps -t --sessions 1000000 --size 64

Sizes are with the check sequence; --size 0 is simple IMIX (7:4:1 of 64, 594 and 1518 bytes). What came back is `ipackets`
of port 1: the no-drop rate is the highest -m at which it keeps up with `opackets` of port 0.
"""

import argparse

from trex_stl_lib.api import *

SERVICE = "198.18.1.10"
FIRST_CLIENT = 0x10000001  # 16.0.0.1
PORT_MIN, PORT_MAX = 1024, 61023
FCS = 4
IMIX = [(64, 7), (594, 4), (1518, 1)]


def address(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


class Established:
    def stream(self, sessions, size, share):
        hosts = -(-sessions // (PORT_MAX - PORT_MIN + 1))
        packet = Ether() / IP(src=address(FIRST_CLIENT), dst=SERVICE) / UDP(sport=PORT_MIN, dport=53)
        padding = max(0, size - FCS - len(packet)) * "\x00"
        engine = STLScVmRaw(
            [
                STLVmTupleGen(
                    name="client",
                    ip_min=address(FIRST_CLIENT),
                    ip_max=address(FIRST_CLIENT + hosts - 1),
                    port_min=PORT_MIN,
                    port_max=PORT_MAX,
                    limit_flows=sessions,
                ),
                STLVmWrFlowVar(fv_name="client.ip", pkt_offset="IP.src"),
                STLVmWrFlowVar(fv_name="client.port", pkt_offset="UDP.sport"),
                # The appliance verifies checksums: both must be right.
                STLVmFixChecksumHw(l3_offset="IP", l4_offset="UDP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_UDP),
            ]
        )
        return STLStream(packet=STLPktBuilder(pkt=packet / padding, vm=engine), mode=STLTXCont(pps=share))

    def get_streams(self, direction, tunables, **kwargs):
        parser = argparse.ArgumentParser()
        parser.add_argument("--sessions", type=int, default=1_000_000)
        parser.add_argument("--size", type=int, default=64)
        asked = parser.parse_args(tunables)
        sizes = [(asked.size, 1)] if asked.size else IMIX
        return [self.stream(asked.sessions, size, share) for size, share in sizes]


def register():
    return Established()
