#!/usr/bin/env bash
# Gives a NIC or an SR-IOV VF to vfio-pci, from where DPDK takes it, or back to its kernel driver.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/bind_nic.sh PCI-ADDRESS...            bind to vfio-pci
       scripts/bind_nic.sh --unbind PCI-ADDRESS...   back to the kernel's own driver
       scripts/bind_nic.sh --status [PCI-ADDRESS...]

PCI-ADDRESS is as in the configuration's `device`: 0000:3b:02.0 or 3b:02.0. Binding asks for an IOMMU, or for a vfio that is told
to do without (enable_unsafe_noiommu_mode, for virtual machines), and refuses a device whose interface is up or carries an address, so that nobody cuts the connection they came
in by. Nothing happens to a device that is bound as asked already. Needs root, except --status.
TEXT
}

fail() { printf 'bind_nic: %s\n' "$*" >&2; exit 1; }

action=bind
addresses=()
for argument in "$@"; do
    case "$argument" in
        -h | --help) usage; exit 0 ;;
        --unbind) action=unbind ;;
        --status) action=status ;;
        *)
            [[ $argument =~ ^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$ ]] || { usage >&2; exit 2; }
            argument=${argument,,}
            [[ $argument =~ ^[0-9a-f]{4}: ]] || argument=0000:$argument
            addresses+=("$argument")
            ;;
    esac
done

bus=/sys/bus/pci
driver_of() { if [ -e "$bus/devices/$1/driver" ]; then basename "$(readlink "$bus/devices/$1/driver")"; else echo none; fi; }
group_of() { if [ -e "$bus/devices/$1/iommu_group" ]; then basename "$(readlink "$bus/devices/$1/iommu_group")"; else echo none; fi; }
# An interface need not be the device's own child: a virtio device stands between the two.
interfaces_of() {
    local device interface
    device=$(readlink -f "$bus/devices/$1")
    for interface in /sys/class/net/*; do
        case "$(readlink -f "$interface/device")/" in "$device"/*) basename "$interface" ;; esac
    done
}
does_without_iommu() { [ "$(cat /sys/module/vfio/parameters/enable_unsafe_noiommu_mode 2>/dev/null)" = Y ]; }

show() {
    local interfaces
    interfaces=$(interfaces_of "$1" | tr '\n' ' ')
    printf '%s  driver %s  iommu group %s%s\n' "$1" "$(driver_of "$1")" "$(group_of "$1")" "${interfaces:+  interface ${interfaces% }}"
}

if [ "$action" = status ]; then
    if [ "${#addresses[@]}" -eq 0 ]; then
        for device in "$bus"/devices/*; do
            # Class 02 is a network controller.
            if [ -e "$device/class" ] && [[ $(<"$device/class") == 0x02* ]]; then addresses+=("$(basename "$device")"); fi
        done
    fi
    for address in ${addresses[@]+"${addresses[@]}"}; do
        [ -d "$bus/devices/$address" ] || fail "there is no PCI device $address"
        show "$address"
    done
    exit 0
fi

[ "${#addresses[@]}" -gt 0 ] || { usage >&2; exit 2; }
[ "$(id -u)" = 0 ] || fail "run this as root"
command -v ip >/dev/null || fail "ip is not here, which tells whether a device is in use: apt-get install iproute2"

for address in "${addresses[@]}"; do
    device=$bus/devices/$address
    [ -d "$device" ] || fail "there is no PCI device $address (scripts/bind_nic.sh --status lists the network devices)"
    driver=$(driver_of "$address")
    if [ "$action" = bind ]; then
        if [ "$driver" = vfio-pci ]; then show "$address"; continue; fi
        [ "$(group_of "$address")" != none ] || does_without_iommu ||
            fail "$address has no IOMMU group: switch VT-d or AMD-Vi on in the firmware and start the kernel with intel_iommu=on iommu=pt (AMD: iommu=pt); in a virtual machine without one: modprobe vfio; echo Y >/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
        for interface in $(interfaces_of "$address"); do
            if [ -n "$(ip -oneline address show dev "$interface" scope global)" ] || ip -oneline link show dev "$interface" up | grep -q .; then
                fail "$interface on $address is in use: if it is not what you came in by, ip link set $interface down, then run this again"
            fi
        done
        [ -d "$bus/drivers/vfio-pci" ] || modprobe vfio-pci || fail "the kernel module vfio-pci cannot be loaded"
        echo vfio-pci >"$device/driver_override"
    else
        if [ "$driver" != vfio-pci ] && [ "$driver" != none ]; then show "$address"; continue; fi
        # An empty line takes the override away.
        echo >"$device/driver_override"
    fi
    if [ "$driver" != none ]; then echo "$address" >"$device/driver/unbind"; fi
    echo "$address" >"$bus/drivers_probe"
    if [ "$action" = bind ] && [ "$(driver_of "$address")" != vfio-pci ]; then
        fail "the kernel did not bind $address to vfio-pci: dmesg says why (often another device of IOMMU group $(group_of "$address") has a driver)"
    fi
    show "$address"
done
