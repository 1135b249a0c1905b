#!/usr/bin/env bash
# Boots a guest with SR-IOV NICs behind an IOMMU, in the network namespace it is called in, and stays until the guest ends.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/guest/boot.sh FILES FOLDER WIRE=MAC...

FILES is what tests/guest/prepare.sh made. FOLDER gets console.log, and the sockets `orders` (see tests/guest/obey.sh) and
`monitor` (QEMU's QMP). Each WIRE is a TAP device that is made here and a NIC of the guest's, an Intel 82576 (seven virtual
functions) whose own address is MAC. The guest sees this machine's files; what it writes is gone with it.

Emulated entirely: KVM is left alone, since where it is nested it often cannot run a guest with an IOMMU.
TEXT
}

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
esac
[ $# -ge 3 ] || { usage >&2; exit 2; }
files=$(realpath "$1")
cd "$2"
shift 2
project=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")

nics=()
number=0
for nic in "$@"; do
    number=$((number + 1))
    wire=${nic%%=*}
    nics+=(
        -netdev "tap,id=tap-$wire,ifname=$wire,script=no,downscript=no"
        # SR-IOV needs a PCI Express slot of its own.
        -device "pcie-root-port,id=slot$number,chassis=$number,slot=$number"
        -device "igb,id=$wire,netdev=tap-$wire,bus=slot$number,mac=${nic#*=}"
    )
done

# no_timer_check: on a busy machine the emulated timer is late, and the kernel would take it for broken.
options="console=ttyS0 quiet panic=-1 no_timer_check intel_iommu=on iommu=pt mitigations=off"
exec qemu-system-x86_64 \
    -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
    -nodefaults -nographic -no-reboot \
    -device intel-iommu,intremap=on \
    -kernel "$files/vmlinuz" -initrd "$files/initramfs" \
    -append "$options project=$project modules=$files/lib/modules" \
    -serial file:console.log -monitor none -qmp unix:monitor,server=on,wait=off \
    -fsdev local,id=host,path=/,security_model=none,multidevs=remap,readonly=on -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -device virtio-serial-pci -chardev socket,id=orders,path=orders,server=on,wait=off \
    -device virtserialport,chardev=orders,name=orders \
    "${nics[@]}"
