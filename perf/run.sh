#!/usr/bin/env bash
# Builds the appliance and the bench, and runs the bench: perf/run.sh [CASE...] [OPTIONS], as `millrace-perf run --help` says.
# Needs root, free hugepages (scripts/hugepages.sh) and dpdk-testpmd (package dpdk-dev).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --package control --features dpdk --bin millrace
cargo build --release --locked --quiet --package millrace-perf
exec "${CARGO_TARGET_DIR:-target}/release/millrace-perf" run "$@"
