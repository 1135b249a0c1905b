"""TRex, advanced stateful: TCP connections with handshake, request, response and close through the appliance of
appliance.toml. Port 0 is the clients, port 1 the backend.

    ./t-rex-64 --astf -i --cfg trex_cfg.yaml     # one terminal
    ./trex-console                               # another
    start -f trex_connections.py -m 100000 -d 60 -t --bytes 64

-m is connections a second. `tcp_drops`, `err_*` and retransmissions in the console's `stats -a` must stay at nothing.
"""

import argparse

from trex.astf.api import *

SERVICE = "198.18.1.10"


class Connections:
    def get_profile(self, tunables, **kwargs):
        parser = argparse.ArgumentParser()
        parser.add_argument("--bytes", type=int, default=64, help="of a response")
        asked = parser.parse_args(tunables)
        request, response = b"x" * 64, b"y" * asked.bytes

        client = ASTFProgram()
        client.send(request)
        client.recv(len(response))
        server = ASTFProgram()
        server.recv(len(request))
        server.send(response)

        addresses = ASTFIPGen(
            glob=ASTFIPGenGlobal(ip_offset="0.0.0.0"),
            dist_client=ASTFIPGenDist(ip_range=["16.0.0.1", "16.0.15.254"], distribution="seq"),
            dist_server=ASTFIPGenDist(ip_range=[SERVICE, SERVICE], distribution="seq"),
        )
        template = ASTFTemplate(
            client_template=ASTFTCPClientTemplate(program=client, ip_gen=addresses, port=80, cps=1),
            server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=80)),
        )
        return ASTFProfile(default_ip_gen=addresses, templates=template)


def register():
    return Connections()
