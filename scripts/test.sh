#!/usr/bin/env bash
# Sets up what is missing and runs every test: form, lints, unit, property and pipeline tests, those on DPDK's virtual
# devices, those from end to end between network namespaces, and a short run of every fuzz target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

usage() {
    cat <<'TEXT'
usage: scripts/test.sh [--quick | --guest] [--help]

Runs every test. --quick shortens the long ones: 5 restarts instead of 100, 5 seconds of iperf3 and of policies instead of
60, 3 examples for each call of the API instead of 12, 3 seconds of fuzzing a target instead of 10. As root it also runs
the end-to-end tests, and those on hugepages, which it reserves for the time being if there are none; whatever cannot run
here is named with its reason. Titles say how many minutes have gone. An end-to-end test that failed is run once more,
alone, and is named if it passes then. A test program that does not end within 15 minutes is ended, named and counted as
failed; so is the whole, in time for a count within 45 minutes.

--guest runs one test only, in a minute: the appliance on virtual functions of an SR-IOV NIC, in a guest of QEMU's.

The last line counts:  N passed, N failed, N skipped.  Exit status: 0 nothing failed, 1 something did.
TEXT
}

export MILLRACE_RESTARTS=100 MILLRACE_IPERF_SECONDS=60 MILLRACE_OPERATED_SECONDS=60 MILLRACE_SCHEMATHESIS_EXAMPLES=12
fuzz_seconds=10 only_guest=false
case "${1:-}" in
    "") ;;
    --quick)
        MILLRACE_RESTARTS=5 MILLRACE_IPERF_SECONDS=5 MILLRACE_OPERATED_SECONDS=5 MILLRACE_SCHEMATHESIS_EXAMPLES=3 fuzz_seconds=3
        ;;
    --guest) only_guest=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

scratch=$(mktemp --directory /tmp/millrace-test.XXXXXX)
# The end-to-end tests write a line here for each of them that this machine cannot run.
export MILLRACE_SKIPS=$scratch/skips
: >"$MILLRACE_SKIPS"
reserved=false mounted=false
cleanup() {
    if $reserved; then echo 0 >/proc/sys/vm/nr_hugepages || true; fi
    if $mounted; then umount /dev/hugepages || true; fi
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

passed=0 failed=0
skipped=()
title() { printf '\n== %s (%d min)\n' "$*" $((SECONDS / 60)); }
skip() { printf 'skipped: %s\n' "$*"; skipped+=("$*"); }
# check NAME COMMAND...: one check, one count.
check() {
    local name=$1
    shift
    title "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$name"
    fi
}

target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
title "What is missing"
if $only_guest; then
    scripts/setup.sh --guest
    cargo build --locked --quiet --release --package control --features dpdk
    cargo test --locked --package millrace-tests --test virtual_functions -- --nocapture
    if [ -s "$MILLRACE_SKIPS" ]; then exit 1; fi
    exit 0
fi

scripts/setup.sh --build

# All that building does not take comes over the network while the processors compile: the programs that tests use, what their
# guest boots, and a tester of the API, in a folder of its own.
tester=$target/schemathesis
fetch_rest() {
    scripts/setup.sh --guest || return
    # Where these two cannot be had, their tests are skipped and say why.
    if qemu-system-x86_64 -device help 2>/dev/null | grep -c '^name "igb"' >/dev/null; then
        tests/guest/prepare.sh "$target/guest" || true
    fi
    if [ ! -x "$tester/bin/schemathesis" ]; then
        { python3 -m venv "$tester" && "$tester/bin/pip" install --quiet --retries 5 --timeout 30 schemathesis==4.32.5; } || rm -rf "$tester"
    fi
}
fetch_rest >"$scratch/fetched" 2>&1 &
fetching=$!
is_fetched() {
    local status=0
    wait "$fetching" || status=$?
    cat "$scratch/fetched"
    return "$status"
}

if cargo fmt --version >/dev/null 2>&1; then
    check "Form: cargo fmt" cargo fmt --all --check
else
    skip "cargo fmt: rustfmt is not installed"
fi
if cargo clippy --version >/dev/null 2>&1; then
    check "Lints: cargo clippy" cargo clippy --locked --quiet --workspace --all-targets --all-features -- -D warnings
else
    skip "cargo clippy: clippy is not installed"
fi

# The only two whose features differ without it, and what they are made of.
check "Without DPDK: cargo check" cargo check --locked --quiet --package control --package millrace-tests --all-targets

# The end-to-end tests run the appliance as an operator does.
check "Build: cargo build --release" cargo build --locked --quiet --release --package control --features dpdk
export MILLRACE_BIN=$target/release/millrace

check "What else was missing" is_fetched
if [ -x "$tester/bin/schemathesis" ]; then export MILLRACE_SCHEMATHESIS=$tester/bin/schemathesis; fi

if [ "$(id -u)" != 0 ]; then
    printf 'Not root: the end-to-end tests and those on hugepages will be skipped.\n'
elif [ "$(awk '/^HugePages_Total:/ { print $2 }' /proc/meminfo)" = 0 ]; then
    # Only where memory is plenty; whoever has no hugepages loses one test, by name.
    if [ "$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)" -gt 3072 ]; then
        hugetlbfs() { grep -q ' hugetlbfs ' /proc/mounts; }
        hugetlbfs || mounted=true
        if scripts/hugepages.sh 640 >/dev/null 2>&1; then reserved=true; fi
        hugetlbfs || mounted=false
    fi
fi

# Chance finds what nobody thought of, but not in whoever's change comes next.
export PROPTEST_RNG_SEED=1
# Nobody waits for a test program that waits for ever.
host=$(rustc --version --verbose | sed -n 's/^host: //p' | tr a-z- A-Z_)
export "CARGO_TARGET_${host}_RUNNER=timeout --foreground --verbose --kill-after=10 900"
# within MINUTE COMMAND...: ends it in this minute of the run, should it take so long; it has a minute in any case.
within() {
    local left=$(($1 * 60 - SECONDS))
    shift
    timeout --verbose --kill-after=10 $((left > 60 ? left : 60)) "$@"
}

# run_tests NAME COMMAND...: a run of cargo test; its counts are added up.
run_tests() {
    local name=$1 log=$scratch/log status=0 run run_passed run_failed died
    shift
    title "$name"
    "$@" 2>&1 | tee "$log" || status=$?
    read -r run run_passed run_failed < <(awk '
        /^test result: / { run++; passed += $4; failed += $6 }
        END { print run + 0, passed + 0, failed + 0 }' "$log")
    passed=$((passed + run_passed)) failed=$((failed + run_failed))
    # A program that died, or was ended, has counted nothing.
    died=$(grep --count "process didn't exit successfully" "$log" || true)
    failed=$((failed + died)) run_failed=$((run_failed + died))
    # Nothing failed, and yet the run did: a test did not build, or time was up.
    if [ "$status" != 0 ] && [ "$run_failed" = 0 ]; then
        printf 'FAILED: %s ended with status %d after %d test programs\n' "$name" "$status" "$run"
        failed=$((failed + 1))
    fi
    while read -r line; do skipped+=("$line"); done < <(sed -n 's/^test \(.*\) \.\.\. ignored\(, \(.*\)\)\?$/\1: \3/p' "$log")
}
run_tests "Tests: cargo test" within 40 cargo test --locked --workspace --all-features --no-fail-fast
title "The slowest test programs, in seconds"
awk '$1 == "Running" { name = $NF; gsub(/^\(.*\/|\)$/, "", name); sub(/-[0-9a-f]*$/, "", name) }
    / finished in / { print $NF + 0, name }' "$scratch/log" | sort --numeric-sort --reverse | sed 10q

# The tests between namespaces share the processors with the appliances they run and all their hosts, and wait for the clock of
# the kernel. One that failed is run once more, alone. What passes then is not failed, but named; many are no accident.
unsteady=()
mapfile -t again < <(awk '
    $1 == "Running" { program = $2 ~ /^e2e\// ? $3 : ""; gsub(/[()]/, "", program) }
    /^test .* \.\.\. FAILED$/ && program != "" { print program, $2 }' "$scratch/log")
if [ "${#again[@]}" -gt 0 ] && [ "${#again[@]}" -le 3 ]; then
    title "Once more, alone: what failed end to end"
    for line in "${again[@]}"; do
        program=$(realpath "${line% *}") name=${line#* }
        (cd tests && within 42 "$program" --exact "$name") 2>&1 | tee "$scratch/alone" || true
        if grep -q '^test result: ok\. 1 passed;' "$scratch/alone"; then
            passed=$((passed + 1)) failed=$((failed - 1))
            unsteady+=("$name")
        fi
    done
fi

# A test that this machine cannot run passes as far as cargo knows.
while read -r line; do
    passed=$((passed - 1))
    skipped+=("$line")
done <"$MILLRACE_SKIPS"

title "Fuzzing"
if [ -z "$(scripts/fuzz.sh --list)" ]; then
    skip "fuzzing: there is no target"
else
    fuzz_log=$scratch/fuzz
    fuzz_status=0
    within 44 scripts/fuzz.sh --smoke --seconds "$fuzz_seconds" 2>&1 | tee "$fuzz_log" || fuzz_status=$?
    ok=$(grep -c '^fuzz .* ok' "$fuzz_log" || true)
    bad=$(grep -c '^fuzz .* FAILED' "$fuzz_log" || true)
    if [ "$fuzz_status" = 124 ] && [ "$bad" = 0 ] && [ "$ok" != 0 ]; then
        while read -r target; do
            grep -q "^fuzz $target \.\.\. ok" "$fuzz_log" || skip "fuzz $target: there was no time left"
        done < <(scripts/fuzz.sh --list)
    elif [ "$fuzz_status" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
fi

if [ "${#unsteady[@]}" -gt 0 ]; then
    title "Failed at first, passed alone"
    printf '%s\n' "${unsteady[@]}"
fi
if [ "${#skipped[@]}" -gt 0 ]; then
    title "Skipped"
    printf '%s\n' "${skipped[@]}"
fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "${#skipped[@]}"
[ "$failed" = 0 ]
