#!/usr/bin/env bash
# Shows Millrace's main job on real traffic between network namespaces of this machine: sets up what is missing, builds,
# starts config/examples/edge.toml as it is written, shows each claim and verifies it, and cleans up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'TEXT'
usage: scripts/demo.sh [--seconds N] [--help]

Shows curl, dig, ping and iperf3 clients reaching servers through a stateful firewall and an L4 balancer, IPv4 and IPv6;
a denied client being denied; a stopped backend being left out. --seconds is how long each iperf3 run lasts (default 3).
Needs root, for the namespaces. Touches no interface of this machine; everything it makes, it removes.

Exit status: 0 everything was seen, 1 something was not.
TEXT
}

seconds=3
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --seconds) seconds=${2:-}; [[ $seconds =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }; shift ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' grey=$'\e[90m' plain=$'\e[0m'; else bold="" green="" red="" grey="" plain=""; fi

failures=()
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
command_line() { printf '  %s$ %s%s\n' "$grey" "$*" "$plain"; }
indented() { sed 's/^/    /'; }
seen() { printf '  %sok%s      %s\n' "$green" "$plain" "$*"; }
not_seen() { printf '  %sFAILED%s  %s\n' "$red" "$plain" "$*"; failures+=("$*"); }
# claim SENTENCE COMMAND...: the command's success is the proof of the sentence.
claim() {
    local sentence=$1
    shift
    if "$@" >/dev/null 2>&1; then seen "$sentence"; else not_seen "$sentence"; fi
}
stop_here() { printf 'demo: %s\n' "$*" >&2; exit 1; }

if [ "$(id -u)" != 0 ]; then stop_here "network namespaces need root: run scripts/demo.sh as root"; fi

# shellcheck source=edge_lab.sh
. scripts/edge_lab.sh

title "Setting up and building"
scripts/setup.sh
command_line cargo build --release --package control --features dpdk
# --locked: what was tested is what is shown.
cargo build --release --locked --quiet --package control --features dpdk
millrace=${CARGO_TARGET_DIR:-target}/release/millrace
millrace=$(realpath "$millrace")
socket=/run/millrace/control.sock
if "$millrace" --socket "$socket" show ports >/dev/null 2>&1; then
    stop_here "an appliance is running on this machine already (it answers on $socket); stop it first"
fi

finish() {
    local status=$?
    if [ "$status" != 0 ] && [ -s "$lab_dir/millrace.log" ]; then
        printf '\nThe last words of the appliance:\n'
        tail -n 25 "$lab_dir/millrace.log" | indented
    fi
    lab_down
}
trap finish EXIT
trap 'exit 130' INT TERM
lab_up "millrace-demo-$$"
lab_servers_up

show() { "$millrace" --socket "$socket" show "$@"; }
# told WHAT FILTER: what `show WHAT --json` says, through a jq filter.
told() { show "$1" --json 2>/dev/null | jq --raw-output "$2"; }
health_of() { told services ".[].backends[] | select(.name == \"$1\") | .health"; }
health_is() { [ "$(health_of "$1")" = "$2" ]; }
all_up() { [ "$(told services '[.[].backends[].health == "up"] | all')" = true ]; }
drops() { told drops "$1"; }
# web ADDRESS FROM: one request from one client address.
web() { lab_in client curl --globoff --silent --show-error --fail --max-time 20 --interface "$2" "$1/"; }
# web_many ADDRESS FROM-PREFIX COUNT: requests in turn from ten client addresses, one line each.
web_many() {
    local number
    for ((number = 0; number < $3; number++)); do web "$1" "$2$((20 + number % 10))" 2>&1 || echo "lost"; done
}
answered() { awk -v who="$1" '$1 ~ who { count++ } END { print count + 0 }'; }

title "Starting the appliance"
command_line millrace run --config config/examples/edge.toml
lab_start millrace appliance "${lab_apart[@]}" "$millrace" run --config config/examples/edge.toml
ready() { lab_running millrace && show ports; }
lab_wait 60 ready || stop_here "the appliance did not become ready"
seen "it runs, on $(told workers length) worker and $(told ports length) ports"
claim "its health probes find every backend up" lab_wait 30 all_up
command_line millrace show ports
show ports | indented
command_line millrace show services
show services | indented

title "Web clients reach a pool of servers through one address"
for family in 4 6; do
    if [ "$family" = 4 ]; then address=198.51.100.10 from=198.51.100. pool="shop-a shop-b"; else address='[2001:db8:51::10]' from=2001:db8:51:: pool=shop6-a; fi
    command_line "curl $address    (30 times, from ${from}20 to ${from}29)"
    answers=$(web_many "$address" "$from" 30)
    total=0 parts="" each=true
    for server in $pool; do
        count=$(answered "^$server\$" <<<"$answers")
        total=$((total + count)) parts+="${parts:+, }$count by $server"
        [ "$count" -gt 0 ] || each=false
    done
    claim "IPv$family: $total of 30 answered, $parts" test "$total$each" = 30true
done
claim "the servers see the clients' own addresses (mode nat)" grep -q "^shop-. 198.51.100.2[0-9]$" <<<"$(web 198.51.100.10 198.51.100.23)"

title "Names are resolved through a virtual service, the client hidden from the resolver"
command_line dig @198.51.100.53 shop.example AAAA
name=$(lab_in client dig +short +time=5 +tries=3 @198.51.100.53 shop.example AAAA || true)
claim "answer: $name" test "$name" = 2001:db8:51::10
hidden() { cat "$lab_dir"/resolver-?.log | grep -q 'query\[AAAA\] shop.example from 10.0.0.1$'; }
claim "the resolver was asked by 10.0.0.1 (mode full-nat)" lab_wait 20 hidden

title "What no rule allows is denied"
denied_before=$(drops .firewall_denied)
command_line nc -z -w 2 198.51.100.10 22
denied() { ! "$@"; }
claim "port 22 of the shop's address does not answer" denied lab_in client nc -z -w 2 198.51.100.10 22
command_line "curl 10.0.0.11:8080    (a server itself, past the virtual service)"
claim "a server cannot be reached from outside, IPv4" denied lab_in client curl --silent --max-time 2 10.0.0.11:8080/
claim "a server cannot be reached from outside, IPv6" denied lab_in client curl --globoff --silent --max-time 2 '[2001:db8:10::11]:8080/'
denied_after=$(drops .firewall_denied)
claim "counted under firewall_denied: $((denied_after - denied_before)) packets" test "$((denied_after - denied_before))" -ge 3

title "Ping"
for target in 198.51.100.1 198.51.100.10 10.0.0.11 2001:db8:51::1 2001:db8:51::10 2001:db8:10::11; do
    claim "$target answers" lab_in client ping -c 3 -i 0.2 -W 2 "$target"
done

title "Servers reach the world through source NAT"
command_line "curl 198.51.100.29    (from shop-a)"
out=$(lab_in shop-a curl --silent --max-time 20 198.51.100.29/ || true)
claim "the world sees 198.51.100.1 instead of 10.0.0.11" test "$out" = "internet 198.51.100.1"
out=$(lab_in shop6-a curl --globoff --silent --max-time 20 '[2001:db8:51::29]/' || true)
claim "over IPv6 it sees the server itself: ${out#internet }" test "$out" = "internet 2001:db8:10::11"
command_line "iperf3 -c 198.51.100.20 -t $seconds    (from shop-a)"

# iperf FROM-HOST SERVER-HOST SERVER-PROCESS CLIENT-ARGUMENTS...: one run; prints Gbit/s at the receiver.
# A server that is still busy with whom it had before is asked again.
iperf() {
    local host=$1 attempt
    shift
    for attempt in 1 2 3 4 5; do
        lab_in "$host" timeout $((seconds + 60)) iperf3 --json --connect-timeout 5000 --time "$seconds" "$@" >"$lab_dir/iperf.json" 2>/dev/null && break
        [ "$attempt" -lt 5 ] || return 1
        sleep 1
    done
    jq --exit-status --raw-output '.end.sum_received.bits_per_second / 1e9 * 100 | round / 100 | select(. > 0)' "$lab_dir/iperf.json"
}
listening() { lab_in "$1" ss --no-header --numeric --listening --tcp | grep ':5201 '; }
lab_start iperf-world client iperf3 --server
lab_wait 20 listening client || true
if rate=$(iperf shop-a --client 198.51.100.20); then seen "$seconds seconds of TCP through firewall and source NAT: $rate Gbit/s"; else not_seen "iperf3 through firewall and source NAT"; fi
lab_stop iperf-world || true

title "A new policy is applied to the running appliance"
command_line millrace apply config/examples/demo.toml
if "$millrace" --socket "$socket" apply config/examples/demo.toml | indented; then seen "two virtual services for iperf3 were added"; else not_seen "apply"; fi
for server in shop-a shop-b shop6-a; do
    lab_start "iperf-$server" "$server" iperf3 --server
    lab_wait 20 listening "$server" || true
done
lab_wait 30 all_up || true
for address in 198.51.100.10 2001:db8:51::10; do
    command_line "iperf3 -c $address -p 8000 -t $seconds"
    if rate=$(iperf client --client "$address" --port 8000); then seen "$seconds seconds of TCP through firewall and balancer: $rate Gbit/s"; else not_seen "iperf3 through the balancer at $address"; fi
done

title "A backend stops"
command_line "kill \$(pidof nginx)    (on shop-a)"
lab_stop shop-a || true
stopped=$SECONDS
claim "its probes fail, and it is left out" lab_wait 30 health_is shop-a failed
printf '          after %d seconds; health of shop-a: %s, of shop-b: %s\n' $((SECONDS - stopped)) "$(health_of shop-a)" "$(health_of shop-b)"
answers=$(web_many 198.51.100.10 198.51.100. 30)
claim "clients notice nothing more: $(answered '^shop-b$' <<<"$answers") of 30 answered by shop-b" test "$(answered '^shop-b$' <<<"$answers")" = 30
lab_web shop-a shop-a 10.0.0.11:8080
claim "started again, it is taken back" lab_wait 30 health_is shop-a up
answers=$(web_many 198.51.100.10 198.51.100. 30)
claim "and gets its share: $(answered '^shop-a$' <<<"$answers") of 30" test "$(answered '^shop-a$' <<<"$answers")" -gt 0

title "The tables"
for table in services firewall neighbors drops memory; do
    command_line millrace show "$table"
    show "$table" | indented
done
command_line "millrace show sessions --limit 5"
show sessions --limit 5 | indented
accounted() { [ "$(told workers '(map(.rx_packets + .from_kernel) | add) == (map(.forwarded + .consumed + .punted + .dropped + .held) | add)')" = true ]; }
claim "every packet received is accounted for: forwarded, consumed, punted or dropped by name" lab_wait 20 accounted

title "Stopping"
command_line "kill -TERM \$(pidof millrace)"
status=0
dpdk_files=/var/run/dpdk/millrace-${lab_pids[millrace]}
lab_stop millrace 10 || status=$?
claim "it stops cleanly (exit status $status)" test "$status" = 0
left=$(lab_in appliance ip -oneline link show | awk -F': ' '{ sub(/@.*/, "", $2); print $2 }' | grep -vx -e lo -e mr-out0 -e mr-in0 || true)
claim "it leaves no interface, no socket and no DPDK files behind" test -z "$left" -a ! -e "$socket" -a ! -e "$dpdk_files"

if [ "${#failures[@]}" -gt 0 ]; then
    printf '\n%s%d of the claims were not seen:%s\n' "$red" "${#failures[@]}" "$plain"
    printf '  %s\n' "${failures[@]}"
    exit 1
fi
printf '\n%sEverything was seen.%s\n' "$green" "$plain"
