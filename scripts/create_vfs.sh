#!/usr/bin/env bash
# Creates SR-IOV virtual functions on a NIC and prints their PCI addresses, for the `device` lines of a configuration.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/create_vfs.sh INTERFACE COUNT [--mac-prefix 02:00:00:00:00]
       scripts/create_vfs.sh INTERFACE --status

Creates COUNT virtual functions on the NIC behind INTERFACE (0 removes them), leaves them without a kernel driver, and
prints one PCI address a line, VF 0 first. With --mac-prefix each gets a MAC address that stays the same (prefix, then its
number; 256 of them at most).
Nothing happens when that many are there already. The kernel cannot change one number of VFs into another directly, so
VFs in use are never taken away: remove them with COUNT 0 first. INTERFACE is set up, because VFs have no link while it is
down. Needs root, except --status.

Next: scripts/bind_nic.sh PCI-ADDRESS...
TEXT
}

fail() { printf 'create_vfs: %s\n' "$*" >&2; exit 1; }

interface="" count="" prefix="" action=create
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --status) action=status ;;
        --mac-prefix) prefix=${2:-}; [[ $prefix =~ ^([0-9a-fA-F]{2}:){4}[0-9a-fA-F]{2}$ ]] || { usage >&2; exit 2; }; shift ;;
        -*) usage >&2; exit 2 ;;
        *) if [ -z "$interface" ]; then interface=$1; elif [ -z "$count" ]; then count=$1; else usage >&2; exit 2; fi ;;
    esac
    shift
done
[ -n "$interface" ] || { usage >&2; exit 2; }
if [ "$action" = create ]; then [[ $count =~ ^[0-9]+$ ]] || { usage >&2; exit 2; }; fi

device=/sys/class/net/$interface/device
[ -d "/sys/class/net/$interface" ] || fail "there is no interface $interface"
[ -e "$device/sriov_totalvfs" ] || fail "$interface cannot do SR-IOV: not the NIC, or switched off in the firmware"

# By number: the PCI addresses, which are hexadecimal, need not be in that order.
addresses() {
    local number
    for ((number = 0; ; number++)); do
        [ -e "$device/virtfn$number" ] || return 0
        basename "$(readlink "$device/virtfn$number")"
    done
}

if [ "$action" = status ]; then
    printf '%s: %d of %d virtual functions\n' "$interface" "$(<"$device/sriov_numvfs")" "$(<"$device/sriov_totalvfs")"
    addresses
    exit 0
fi
[ -z "$prefix" ] || [ "$count" -le 256 ] || fail "a --mac-prefix has addresses for 256 virtual functions"
[ "$(id -u)" = 0 ] || fail "run this as root"
[ "$count" -le "$(<"$device/sriov_totalvfs")" ] || fail "$interface has at most $(<"$device/sriov_totalvfs") virtual functions"

now=$(<"$device/sriov_numvfs")
if [ "$now" != "$count" ]; then
    if [ "$now" != 0 ] && [ "$count" != 0 ]; then
        fail "$interface has $now virtual functions: remove them first (scripts/create_vfs.sh $interface 0)"
    fi
    # DPDK takes them from vfio-pci; the kernel's own VF driver would only be in the way. The switch is put back, so that
    # `bind_nic.sh --unbind` finds that driver again.
    probe=1
    if [ -e "$device/sriov_drivers_autoprobe" ]; then
        probe=$(<"$device/sriov_drivers_autoprobe")
        echo 0 >"$device/sriov_drivers_autoprobe"
    fi
    refused=false
    echo "$count" >"$device/sriov_numvfs" || refused=true
    if [ -e "$device/sriov_drivers_autoprobe" ]; then echo "$probe" >"$device/sriov_drivers_autoprobe"; fi
    if $refused; then fail "the driver of $interface refused $count virtual functions: dmesg says why"; fi
fi
if [ "$count" != 0 ]; then ip link set dev "$interface" up; fi
if [ -n "$prefix" ]; then
    for ((number = 0; number < count; number++)); do
        ip link set dev "$interface" vf "$number" mac "$(printf '%s:%02x' "$prefix" "$number")"
    done
fi
addresses
