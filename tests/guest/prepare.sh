#!/usr/bin/env bash
# Fetches what a guest is started from: Debian's kernel with its modules, unpacked beside each other and not installed, and
# an initramfs that finds its way to this machine's own root file system. Nothing happens where it is there already.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

usage() {
    cat <<'TEXT'
usage: tests/guest/prepare.sh FOLDER

Puts vmlinuz, initramfs and lib/modules into FOLDER (about 400 MB). The packages come through apt-get.
TEXT
}

fail() { printf 'prepare: %s\n' "$*" >&2; exit 1; }

case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    "" | -*) usage >&2; exit 2 ;;
esac
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
mkdir -p "$1"
folder=$(realpath "$1")
exec 9>"$folder/lock"
flock 9
# An init that has changed since makes a new initramfs.
if [ -e "$folder/initramfs" ] && [ "$folder/initramfs" -nt "$here/init" ]; then exit 0; fi

if [ ! -d "$folder/lib/modules" ]; then
    command -v apt-get >/dev/null || fail "the guest's kernel is fetched with apt-get, which is not here"
    kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }')
    [ -n "$kernel" ] || fail "apt-get knows no linux-image-amd64: run apt-get update"
    rm -rf "$folder/packages" "$folder/unpacked"
    mkdir -p "$folder/packages"
    (cd "$folder/packages" && apt-get -qq download "$kernel" busybox-static) || fail "apt-get could not download $kernel and busybox-static"
    for package in "$folder"/packages/*.deb; do dpkg-deb --extract "$package" "$folder/unpacked"; done
    # Where packages put these moved under /usr with Debian 13.
    install -m 755 "$(find "$folder/unpacked" -type f -path '*bin/busybox')" "$folder/busybox"
    cp "$(find "$folder/unpacked/boot" -name 'vmlinuz-*')" "$folder/vmlinuz"
    mkdir -p "$folder/lib"
    modules=$(dirname "$(find "$folder/unpacked" -type d -path '*lib/modules/*' -prune)")
    mv "$modules" "$folder/lib/modules"
    rm -rf "$folder/packages" "$folder/unpacked"
    depmod --basedir "$folder" "$(ls "$folder/lib/modules")"
fi

# What the guest needs before it sees this machine's files; everything else it loads from there.
root=$folder/initramfs.root
rm -rf "$root"
mkdir -p "$root/bin" "$root/modules"
cp "$folder/busybox" "$root/bin/"
install -m 755 "$here/init" "$root/init"
for module in virtio_pci 9p 9pnet_virtio overlay virtio_console; do
    modprobe --dirname "$folder" --set-version "$(ls "$folder/lib/modules")" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$folder/order"
while read -r path; do
    # Kernels compress their modules, or do not.
    name=$(basename "$path")
    case "$path" in
        *.xz) name=${name%.xz}; xz --decompress --stdout "$path" >"$root/modules/$name" ;;
        *.zst) name=${name%.zst}; zstd --decompress --quiet --stdout "$path" >"$root/modules/$name" ;;
        *) cp "$path" "$root/modules/" ;;
    esac
    printf '%s\n' "$name"
done <"$folder/order" >"$root/modules/order"
(cd "$root" && find . | "$folder/busybox" cpio -o -H newc 2>/dev/null | gzip --fast) >"$folder/initramfs.new"
mv "$folder/initramfs.new" "$folder/initramfs"
rm -rf "$root" "$folder/order"
