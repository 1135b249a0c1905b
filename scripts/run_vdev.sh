#!/usr/bin/env bash
# Runs the appliance on any Linux, without a NIC: config/examples/edge.toml, or a file of yours, between network namespaces
# with clients on one side and servers on the other, until Ctrl-C.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'TEXT'
usage: scripts/run_vdev.sh [CONFIGURATION]

Builds, makes the namespaces mrlab-client, mrlab-appliance, mrlab-shop-a and so on (scripts/edge_lab.sh draws them), starts
web and name servers and runs `millrace run --config CONFIGURATION` (default config/examples/edge.toml), whose devices
have to be on mr-out0 and mr-in0. Then, in another terminal:

  ip netns exec mrlab-client curl 198.51.100.10
  millrace show sessions

Ctrl-C stops the appliance and takes everything away again. Needs root.
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
configuration=${1:-config/examples/edge.toml}
[ $# -le 1 ] || { usage >&2; exit 2; }
fail() { printf 'run_vdev: %s\n' "$*" >&2; exit 1; }
[ -r "$configuration" ] || fail "$configuration cannot be read"
[ "$(id -u)" = 0 ] || fail "network namespaces need root: run this as root"
[ ! -e /run/netns/mrlab-appliance ] || fail "the namespaces are there already: this script runs elsewhere, or was killed (ip netns delete mrlab-...)"

# shellcheck source=edge_lab.sh
. scripts/edge_lab.sh

scripts/setup.sh
cargo build --release --locked --quiet --package control --features dpdk
millrace=$(realpath "${CARGO_TARGET_DIR:-target}/release/millrace")

trap lab_down EXIT
trap 'exit 130' INT TERM
lab_up mrlab
lab_servers_up
printf 'In another terminal:  ip netns exec mrlab-client curl 198.51.100.10\n                      %s show services\n' "$millrace"
# In the foreground, so that Ctrl-C reaches it; lab_down does the rest.
lab_in appliance "${lab_apart[@]}" "$millrace" run --config "$configuration"
