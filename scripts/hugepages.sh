#!/usr/bin/env bash
# Reserves hugepages for `[dpdk] hugepages = true` and mounts hugetlbfs, or gives both back.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/hugepages.sh [--size 2M|1G] [--node N] MEGABYTES
       scripts/hugepages.sh --status
       scripts/hugepages.sh --release

Reserves at least MEGABYTES of hugepages (2 MiB pages unless --size says otherwise; on NUMA node N or wherever the kernel
puts them) and mounts hugetlbfs on /dev/hugepages if it is mounted nowhere. Never takes away pages that are reserved
already. --release gives every unused page back. Needs root, except --status.

A reservation lasts until the next start of the machine. To make it last, put it on the kernel's command line, which is
also the only sure way to get pages of 1 GiB:  default_hugepagesz=1G hugepagesz=1G hugepages=4
TEXT
}

fail() { printf 'hugepages: %s\n' "$*" >&2; exit 1; }

size_kb=2048 node="" action=reserve megabytes=""
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --status) action=status ;;
        --release) action=release ;;
        --size)
            case "${2:-}" in
                2M) size_kb=2048 ;;
                1G) size_kb=1048576 ;;
                *) usage >&2; exit 2 ;;
            esac
            shift
            ;;
        --node) node=${2:-}; [[ $node =~ ^[0-9]+$ ]] || { usage >&2; exit 2; }; shift ;;
        [1-9]*) megabytes=$1; [[ $megabytes =~ ^[0-9]+$ ]] || { usage >&2; exit 2; } ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

pages=/sys/kernel/mm/hugepages
[ -d "$pages" ] || fail "this kernel has no hugepages: use [dpdk] hugepages = false"

status() {
    local directory kb
    for directory in "$pages"/hugepages-*; do
        kb=${directory##*-}; kb=${kb%kB}
        printf '%5d MiB pages: %d reserved, %d free\n' $((kb / 1024)) "$(<"$directory/nr_hugepages")" "$(<"$directory/free_hugepages")"
    done
    awk '$3 == "hugetlbfs" { print "hugetlbfs on " $2 }' /proc/mounts
}

if [ "$action" = status ]; then
    status
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "run this as root"

if [ "$action" = release ]; then
    # The kernel keeps pages in use, whatever is written here.
    for directory in "$pages"/hugepages-*; do echo 0 >"$directory/nr_hugepages"; done
    status
    exit 0
fi

[ -n "$megabytes" ] || { usage >&2; exit 2; }
directory=$pages/hugepages-${size_kb}kB
[ -z "$node" ] || directory=/sys/devices/system/node/node$node/hugepages/hugepages-${size_kb}kB
[ -d "$directory" ] || fail "this machine has no pages of $((size_kb / 1024)) MiB${node:+ on node $node}"

wanted=$(((megabytes * 1024 + size_kb - 1) / size_kb))
if [ "$(<"$directory/nr_hugepages")" -lt "$wanted" ]; then
    echo "$wanted" >"$directory/nr_hugepages"
    if [ "$(<"$directory/nr_hugepages")" -lt "$wanted" ]; then
        # Memory is in pieces: ask the kernel to put it together, then once more.
        echo 1 >/proc/sys/vm/compact_memory 2>/dev/null || true
        echo "$wanted" >"$directory/nr_hugepages"
    fi
    got=$(<"$directory/nr_hugepages")
    [ "$got" -ge "$wanted" ] || fail "only $got of $wanted pages could be had: reserve them on the kernel's command line (--help)"
fi

mount_point=/dev/hugepages
if [ "$size_kb" != 2048 ]; then mount_point=/dev/hugepages1G; fi
if ! awk -v size="$((size_kb / 1024))M" '$3 == "hugetlbfs" && ($4 ~ "pagesize=" size || (size == "2M" && $4 !~ "pagesize=") || (size == "1024M" && $4 ~ "pagesize=1(G|024M)")) { found = 1 } END { exit !found }' /proc/mounts; then
    mkdir -p "$mount_point"
    mount -t hugetlbfs -o "pagesize=$((size_kb / 1024))M" hugetlbfs "$mount_point"
fi
status
