#!/usr/bin/env bash
# Installs what a bare Debian 12 lacks for building, running and testing Millrace, and only that. Run it as often as you
# like: where nothing is missing it changes nothing and asks nothing.
set -euo pipefail
# Where Debian keeps an administrator's programs and rustup its toolchain: not every shell has them on its path.
export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

usage() {
    cat <<'TEXT'
usage: scripts/setup.sh [--build | --guest] [--help]

Installs, through apt-get and only where missing:
  to build   gcc, clang and libclang, pkg-config, DPDK 22.11 or newer, a Rust toolchain of 1.88 or newer
  to run     iproute2, ethtool, kmod
  to pack    dpkg-dev and lintian
  to check   promtool (in Debian's package prometheus), tshark and nfdump, where they can be had
  to show    curl, iperf3, nginx, dig, ping, tracepath, traceroute, netcat, hping3, nft, jq, dnsmasq, tcpdump, python3-venv
             (scripts/demo.sh and the tests)
  --build    only what building takes
  --guest    also QEMU 8 or newer, from backports where this Debian has an older one: for the test on virtual functions
             of an SR-IOV NIC. Where it cannot be had, that is said, and nothing fails.

Needs root only when something is missing. Exit status: 0 everything is there, 1 something could not be installed.
TEXT
}

guest=false only_build=false
case "${1:-}" in
    "") ;;
    --build) only_build=true ;;
    --guest) guest=true ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# The package installed is also the proof that it is there: a library has no command to look for.
packages=(gcc g++ libc6-dev clang libclang-dev pkg-config libdpdk-dev ca-certificates)
if ! $only_build; then
    packages+=(
        iproute2 ethtool kmod procps util-linux dpkg-dev lintian
        lua5.4 python3 python3-venv
        curl iperf3 nginx-light bind9-dnsutils dnsmasq-base iputils-ping iputils-tracepath traceroute netcat-openbsd hping3 nftables jq tcpdump
    )
fi

# Some programs come in several packages; whichever is there will do.
have() {
    case "$1" in
        gcc | g++ | clang | ethtool | curl | hping3 | iperf3 | tcpdump | jq) command -v "$1" >/dev/null ;;
        lua5.4) command -v luac5.4 >/dev/null ;;
        python3) command -v python3 >/dev/null ;;
        kmod) command -v modprobe >/dev/null ;;
        nginx-light) command -v nginx >/dev/null ;;
        prometheus) command -v promtool >/dev/null ;;
        tshark) command -v tshark >/dev/null ;;
        nfdump) command -v nfcapd >/dev/null ;;
        nftables) command -v nft >/dev/null ;;
        dnsmasq-base) command -v dnsmasq >/dev/null ;;
        bind9-dnsutils) command -v dig >/dev/null ;;
        iproute2) command -v ip >/dev/null ;;
        iputils-ping) command -v ping >/dev/null ;;
        iputils-tracepath) command -v tracepath >/dev/null ;;
        traceroute) command -v traceroute >/dev/null ;;
        netcat-openbsd) command -v nc >/dev/null ;;
        pkg-config) command -v pkg-config >/dev/null ;;
        libdpdk-dev) command -v pkg-config >/dev/null && pkg-config --exists 'libdpdk >= 22.11' ;;
        *) dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^.i' ;;
    esac
}

missing_of() {
    local package
    for package in "$@"; do
        have "$package" || printf '%s\n' "$package"
    done
}

# Debian starts a web server as soon as it is installed. Nobody asked for one here: the demo and the tests start their
# own, in namespaces of their own.
policy=/usr/sbin/policy-rc.d
policy_is_ours=false
cleanup() { if $policy_is_ours; then rm -f "$policy"; fi; }
trap cleanup EXIT
hold_services() {
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        policy_is_ours=true
    fi
}

# A mirror that gives no answer once may give one the next time.
apt() { apt-get -qq -o Acquire::Retries=5 "$@"; }
apt_ready=false
install() {
    command -v apt-get >/dev/null || fail "these are missing and this is not a Debian: $*"
    [ "$(id -u)" = 0 ] || fail "these packages are missing; run scripts/setup.sh as root: $*"
    if ! $apt_ready; then
        say "reading the package lists"
        apt update || fail "apt-get update failed; the lines above say why"
        apt_ready=true
    fi
    say "installing $*"
    hold_services
    DEBIAN_FRONTEND=noninteractive apt install --yes --no-install-recommends "$@" >/dev/null
}

mapfile -t missing < <(missing_of "${packages[@]}")
if [ "${#missing[@]}" -gt 0 ]; then
    had_nginx=true
    have nginx-light || had_nginx=false
    install "${missing[@]}" || fail "apt-get could not install: ${missing[*]}"
    if ! $had_nginx && [ -d /run/systemd/system ]; then
        systemctl disable --quiet nginx.service 2>/dev/null || true
    fi
    mapfile -t missing < <(missing_of "${packages[@]}")
    [ "${#missing[@]}" -eq 0 ] || fail "still missing after installation: ${missing[*]}"
fi

# The emulated NIC with virtual functions came with QEMU 8; Debian 12 has that among its backports only.
has_nic() { qemu-system-x86_64 -device help 2>/dev/null | grep -c '^name "igb"' >/dev/null; }
# with_backports COMMAND...: runs apt-get with this Debian's backports besides its other sources, which stay as they are.
with_backports() {
    local lists place keys=/usr/share/keyrings/debian-archive-keyring.gpg
    place=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $release" | head --lines=1)
    [ -n "$place" ] && [ -e "$keys" ] || return
    lists=$(mktemp --directory)
    cp --recursive /etc/apt/sources.list.d/. "$lists/"
    printf 'deb [signed-by=%s] %s %s-backports main\n' "$keys" "$place" "$release" >"$lists/backports.list"
    apt -o "Dir::Etc::sourceparts=$lists" "$@" || { rm -rf "$lists"; return 1; }
    rm -rf "$lists"
}
guest_programs() {
    local release
    [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] && [ "$(id -u)" = 0 ] || return
    release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    hold_services
    export DEBIAN_FRONTEND=noninteractive
    apt update && apt install --yes --no-install-recommends qemu-system-x86 xz-utils >/dev/null || return
    if has_nic; then return; fi
    with_backports update && with_backports install --yes --no-install-recommends --target-release "$release-backports" qemu-system-x86 >/dev/null
    apt update
    has_nic
}
if $guest && ! has_nic; then
    say "installing QEMU"
    guest_programs || say "QEMU 8 or newer cannot be had here: tests that need a guest will be skipped"
fi

# Only some tests need these, and they say so where one is missing.
if ! $only_build; then
    had_prometheus=true
    have prometheus || had_prometheus=false
    for optional in prometheus tshark nfdump; do
        # In a shell of its own: that it cannot be had ends nothing.
        have "$optional" || (trap cleanup EXIT && install "$optional") || say "$optional is not to be had: the tests that need it will be skipped"
    done
    # What watches this machine already stays as it is.
    if ! $had_prometheus && [ -d /run/systemd/system ]; then
        systemctl disable --quiet prometheus.service 2>/dev/null || true
    fi
fi

# Rust: 1.88 is the oldest that builds the workspace (edition 2024 and its let chains).
wanted=1.88
new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | awk '{print $2}') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n%s\n' "$wanted" "$version" | sort --version-sort | head -n 1)" = "$wanted" ]
}
if ! command -v cargo >/dev/null; then
    # Debian 12 carries a recent toolchain beside its old one, for its browsers.
    install cargo-web rustc-web || true
fi
if command -v cargo >/dev/null && ! cargo fmt --version >/dev/null 2>&1 && dpkg-query --show rustc-web >/dev/null 2>&1; then
    install rustfmt-web || true
fi
if ! new_enough cargo || ! new_enough rustc; then
    fail "Rust $wanted or newer is needed and this machine has $(cargo --version 2>/dev/null || echo none): install the stable toolchain with rustup, then run this again."
fi

what=everything
if $only_build; then what="what building takes"; fi
say "$what is here: $(cargo --version | awk '{print "cargo " $2}'), DPDK $(pkg-config --modversion libdpdk)"
