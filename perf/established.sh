#!/usr/bin/env bash
# Measures what an established session costs beside dpdk-testpmd on the same devices: builds both programs, runs them in
# turn, prints the figures. Needs root, free hugepages (1 GiB, and 3 KiB more for each client) and the package dpdk-dev.
# Arguments go to `millrace-perf established`: --clients N --v6 --rounds N --windows N --core N.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet -p control --features dpdk --bin millrace
cargo build --release --quiet -p millrace-perf
target="${CARGO_TARGET_DIR:-target}/release"
exec "$target/millrace-perf" established --millrace "$target/millrace" "$@"
