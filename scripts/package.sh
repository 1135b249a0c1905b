#!/usr/bin/env bash
# Builds the Debian package: the program, its unit, manual pages, completions, examples, and the scripts that prepare a machine.
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'TEXT'
usage: scripts/package.sh [--binary FILE] [FOLDER]

Writes millrace_VERSION_ARCHITECTURE.deb into FOLDER (default: target/package) and prints its name. --binary packs a
millrace that is built already; otherwise it is built for release. Needs dpkg-deb and dpkg-shlibdeps (package dpkg-dev).
TEXT
}

fail() { printf 'package: %s\n' "$*" >&2; exit 1; }
# A path as the caller meant it.
absolute() { case "$1" in /* | "") printf '%s\n' "$1" ;; *) printf '%s\n' "$here/$1" ;; esac; }

binary="" folder=""
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --binary) binary=$(absolute "${2:-}"); [ -f "$binary" ] || fail "there is no file ${binary:-(none named)}"; shift ;;
        -*) usage >&2; exit 2 ;;
        *) [ -z "$folder" ] || { usage >&2; exit 2; }; folder=$(absolute "$1") ;;
    esac
    shift
done
for program in dpkg-deb dpkg-shlibdeps strip; do
    command -v "$program" >/dev/null || fail "$program is not here: apt-get install dpkg-dev binutils"
done
target=${CARGO_TARGET_DIR:-target}
if [ -z "$binary" ]; then
    cargo build --release --locked --quiet --package control --features dpdk
    binary=$target/release/millrace
fi
folder=${folder:-$target/package}
mkdir -p "$folder"

work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
# put MODE FROM TO: a file of the package.
put() { install -D --mode="$1" "$2" "$work/root$3"; }

version=$("$binary" --version | cut --delimiter=' ' --fields=2)

put 755 "$binary" /usr/bin/millrace
strip --strip-unneeded "$work/root/usr/bin/millrace"
put 644 scripts/packaging/millrace.service /lib/systemd/system/millrace.service
put 644 scripts/packaging/millrace.default /etc/default/millrace
mkdir -p "$work/root/etc/millrace"
for script in hugepages create_vfs bind_nic; do put 755 "scripts/$script.sh" "/usr/lib/millrace/$script.sh"; done

documents=/usr/share/doc/millrace
put 644 scripts/packaging/copyright "$documents/copyright"
put 644 README.md "$documents/README.md"
put 644 CHANGELOG.md "$documents/CHANGELOG.md"
maintainer=$(sed --quiet 's/^Maintainer: //p' scripts/packaging/control)
printf 'millrace (%s) unstable; urgency=medium\n\n  * CHANGELOG.md beside this file has what changed.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date --rfc-email --utc --reference=CHANGELOG.md)" >"$work/changelog"
put 644 "$work/changelog" "$documents/changelog"
gzip --best --no-name "$work/root$documents/changelog" "$work/root$documents/CHANGELOG.md"
for example in config/examples/*.toml; do
    if grep --quiet '^# Not built yet' "$example"; then continue; fi
    put 644 "$example" "$documents/examples/$(basename "$example")"
done

mkdir -p "$work/root/usr/share/man/man1"
"$binary" manual "$work/root/usr/share/man/man1"
find "$work/root/usr/share/man" -name '*.1' -exec chmod 644 {} + -exec gzip --best --no-name {} +
for shell in bash zsh fish; do "$binary" completions "$shell" >"$work/$shell"; done
put 644 "$work/bash" /usr/share/bash-completion/completions/millrace
put 644 "$work/zsh" /usr/share/zsh/vendor-completions/_millrace
put 644 "$work/fish" /usr/share/fish/vendor_completions.d/millrace.fish

# The libraries it is linked with, by the packages that have them.
mkdir -p "$work/debian" "$work/root/DEBIAN"
printf 'Source: millrace\n\nPackage: millrace\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/millrace 2>"$work/complaints") || fail "$(<"$work/complaints")"
architecture=$(dpkg --print-architecture)
size=$(du --summarize --apparent-size --block-size=1024 "$work/root" | cut --fields=1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
    -e "s/@DEPENDS@/${depends#shlibs:Depends=}/" scripts/packaging/control >"$work/root/DEBIAN/control"
for script in postinst prerm postrm; do install --mode=755 "scripts/packaging/$script" "$work/root/DEBIAN/$script"; done
(cd "$work/root" && find etc -type f -printf '/%p\n') >"$work/root/DEBIAN/conffiles"
(cd "$work/root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort --zero-terminated | xargs --null md5sum) >"$work/root/DEBIAN/md5sums"

find "$work/root" -type d -exec chmod 755 {} +
package=$folder/millrace_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$work/root" "$package" >/dev/null
realpath "$package"
