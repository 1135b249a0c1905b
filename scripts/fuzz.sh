#!/usr/bin/env bash
# Runs the fuzz targets of tests/fuzz for a while each: with the stable toolchain and nothing but cargo, the compiler's
# coverage counters feeding libFuzzer. A finding stays in tests/fuzz/artifacts and fails the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

usage() {
    cat <<'TEXT'
usage: scripts/fuzz.sh [--seconds N] [--smoke] [--list] [TARGET...]

Fuzzes each TARGET (all of tests/fuzz/fuzz_targets when none is named) for N seconds (default 10), starting from the
seeds in tests/fuzz/seeds/TARGET and the corpus of earlier runs, as many targets at a time as there are processors. --smoke
is for a short look at all of them: built sooner, running slower, and asking the same each time. To repeat a finding, give
it to the binary that the last line names. Exit status: 0 nothing found, 1 a finding or a target that does not build.
TEXT
}

seconds=10 smoke=false list=false
targets=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --seconds) seconds=${2:-}; [[ $seconds =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }; shift ;;
        --smoke) smoke=true ;;
        --list) list=true ;;
        -*) usage >&2; exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done

if [ "${#targets[@]}" -eq 0 ]; then
    for source in tests/fuzz/fuzz_targets/*.rs; do
        if [ -e "$source" ]; then targets+=("$(basename "$source" .rs)"); fi
    done
fi
if $list; then
    printf '%s\n' ${targets[@]+"${targets[@]}"}
    exit 0
fi

# What cargo-fuzz passes, but for the sanitizer, which stable does not have; overflow and bounds are checked all the same.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
-Clink-dead-code -Cdebug-assertions"
# With --target the flags stay away from build scripts and procedural macros.
triple=$(rustc --version --verbose | awk '/^host:/ { print $2 }')
target_dir=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}/fuzz")
# Chance, unless the same is to be asked each time.
seed=0 units=1
if $smoke; then
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0
    # Crates in pieces, for all processors.
    seed=1 units=4
fi
RUSTFLAGS+=" -Ccodegen-units=$units"
cargo build --release --quiet --manifest-path tests/fuzz/Cargo.toml --target "$triple" --target-dir "$target_dir"

# fuzz_one TARGET: prints what came of it.
fuzz_one() {
    local target=$1 binary=$target_dir/$triple/release/$1 corpus=tests/fuzz/corpus/$1 artifacts=tests/fuzz/artifacts/$1
    local folders=("$corpus") output runs
    mkdir -p "$corpus" "$artifacts"
    if [ -d "tests/fuzz/seeds/$target" ]; then folders+=("tests/fuzz/seeds/$target"); fi
    if output=$("$binary" -max_total_time="$seconds" -seed="$seed" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$artifacts/" "${folders[@]}" 2>&1); then
        runs=$(awk '/stat::number_of_executed_units/ { print $2 }' <<<"$output")
        printf 'fuzz %s ... ok, %s runs\n' "$target" "${runs:-0}"
    else
        printf '%s\nfuzz %s ... FAILED; %s %s/<finding> repeats it\n' "$(tail -n 40 <<<"$output")" "$target" "$binary" "$artifacts"
        return 1
    fi
}

status=0 running=0
for target in ${targets[@]+"${targets[@]}"}; do
    if [ "$running" -ge "$(nproc)" ]; then
        wait -n || status=1
        running=$((running - 1))
    fi
    fuzz_one "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || status=1
    running=$((running - 1))
done
exit "$status"
