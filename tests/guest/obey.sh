#!/bin/bash
# What the guest does: a line that comes through the port named `orders` is a command, run in the project's folder. Its output
# goes back, and a last line with its exit status. Started by init, as the guest's first process; ends with the guest.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
ip link set lo up
for port in /sys/class/virtio-ports/*; do
    if [ "$(<"$port/name")" = orders ]; then exec <>"/dev/${port##*/}" >&0; fi
done
echo "guest: status 0"
while read -r order; do
    timeout 120 bash -c "$order" </dev/null >/run/answer 2>&1
    status=$?
    cat /run/answer
    printf '\nguest: status %d\n' "$status"
done
