# shellcheck shell=bash
# The little world that config/examples/edge.toml speaks of, made of network namespaces: clients outside, the appliance,
# and servers inside behind a switch. Sourced by demo.sh and run_vdev.sh; it does nothing by itself.
#
#      client                      appliance                  switch            shop-a   10.0.0.11
#   198.51.100.20-29  veth  mr-out0  (millrace)  mr-in0  veth  bridge  veth     shop-b   10.0.0.12
#   2001:db8:51::20-29      198.51.100.1         10.0.0.1                       shop6-a  2001:db8:10::11
#                           2001:db8:51::1       2001:db8:10::1                 resolver-a, -b  10.0.0.53, .54
#
# Everything made here carries the lab's name, and lab_down takes away exactly that.

export PATH="$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

lab=""            # the name: what namespaces are called begins with it
lab_dir=""        # logs, generated configurations, sockets
lab_state=""      # the folder for an appliance's state, if it was not there before
# An appliance begun by this has a folder of its own there, which goes with it: that of this machine's appliance stays as it is.
# shellcheck disable=SC2016,SC2034 # the inner shell expands it, and whoever sources this uses it
lab_apart=(sh -c 'mount -t tmpfs millrace-lab /var/lib/millrace && exec "$@"' sh)
declare -A lab_pids=()

# lab_in HOST COMMAND...: runs a command on one of the lab's hosts.
lab_in() {
    local host=$1
    shift
    ip netns exec "$lab-$host" "$@"
}

# lab_start NAME HOST COMMAND...: starts a process on a host; its output goes to NAME.log. It dies with this shell.
# Call it from the main shell only: in a subshell the process would die with that.
lab_start() {
    local name=$1 host=$2
    shift 2
    ip netns exec "$lab-$host" setpriv --pdeathsig KILL "$@" >>"$lab_dir/$name.log" 2>&1 &
    lab_pids[$name]=$!
}

lab_running() { [ -n "${lab_pids[$1]:-}" ] && kill -0 "${lab_pids[$1]}" 2>/dev/null; }

# lab_stop NAME [SECONDS]: SIGTERM, and SIGKILL when it has not ended by then. Returns the exit status of the process.
lab_stop() {
    local pid=${lab_pids[$1]:-} tenths=$((${2:-5} * 10)) status=0
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ "$tenths" -gt 0 ]; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || status=$?
    unset "lab_pids[$1]"
    return "$status"
}

# lab_wait SECONDS COMMAND...: until the command succeeds; fails when the time is up.
lab_wait() {
    local tenths=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 2))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.2
    done
}

# A host: a namespace with its loopback up and the duplicate address detection of IPv6 off, so that addresses work at once.
lab_host() {
    ip netns add "$lab-$1"
    ip -n "$lab-$1" link set lo up
    lab_in "$1" sysctl --quiet --write net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.disable_ipv6=0
}

# lab_wire HOST INTERFACE HOST INTERFACE: a veth pair. A packet that leaves through it must be whole: no checksum and no
# segment is left to hardware that is not there.
lab_wire() {
    ip -n "$lab-$1" link add "$2" type veth peer name "$4" netns "$lab-$3"
    local host=$1 interface=$2
    for _ in 1 2; do
        lab_in "$host" ethtool -K "$interface" tx off tso off gso off gro off >/dev/null 2>&1
        ip -n "$lab-$host" link set "$interface" up
        host=$3 interface=$4
    done
}

# lab_server HOST ADDRESS/LENGTH GATEWAY...: a host behind the switch.
lab_server() {
    local host=$1
    lab_host "$host"
    lab_wire "$host" eth0 switch "to-$host"
    ip -n "$lab-switch" link set "to-$host" master lan
    shift
    while [ $# -gt 0 ]; do
        ip -n "$lab-$host" address add "$1" dev eth0
        ip -n "$lab-$host" route add default via "$2"
        shift 2
    done
}

# lab_up NAME: hosts and wires.
lab_up() {
    lab=$1
    lab_dir=$(mktemp --directory "/tmp/$lab.XXXXXX")
    if [ ! -e /var/lib/millrace ]; then
        lab_state=/var/lib/millrace
        mkdir "$lab_state"
    fi
    local number
    for host in client appliance switch; do lab_host "$host"; done
    lab_wire appliance mr-out0 client eth0
    for number in 20 21 22 23 24 25 26 27 28 29; do
        ip -n "$lab-client" address add "198.51.100.$number/24" dev eth0
        ip -n "$lab-client" address add "2001:db8:51::$number/64" dev eth0
    done
    ip -n "$lab-client" route add default via 198.51.100.1
    ip -n "$lab-client" route add default via 2001:db8:51::1

    ip -n "$lab-switch" link add lan type bridge
    ip -n "$lab-switch" link set lan up
    lab_wire appliance mr-in0 switch to-appliance
    ip -n "$lab-switch" link set to-appliance master lan
    lab_server shop-a 10.0.0.11/24 10.0.0.1
    lab_server shop-b 10.0.0.12/24 10.0.0.1
    lab_server shop6-a 2001:db8:10::11/64 2001:db8:10::1
    lab_server resolver-a 10.0.0.53/24 10.0.0.1
    lab_server resolver-b 10.0.0.54/24 10.0.0.1
}

# lab_web NAME HOST LISTEN...: an nginx that says who it is and whom it sees, and answers health probes.
lab_web() {
    local name=$1 host=$2 listen lines=""
    shift 2
    for listen in "$@"; do lines+="listen $listen; "; done
    mkdir -p "$lab_dir/$name"
    cat >"$lab_dir/$name/nginx.conf" <<CONF
daemon off;
master_process off;
pid $lab_dir/$name/pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $lab_dir/$name/body;
    proxy_temp_path $lab_dir/$name/proxy;
    fastcgi_temp_path $lab_dir/$name/fastcgi;
    uwsgi_temp_path $lab_dir/$name/uwsgi;
    scgi_temp_path $lab_dir/$name/scgi;
    default_type text/plain;
    server {
        $lines
        location = /healthz { return 200 "ok\n"; }
        location / { return 200 "$name \$remote_addr\n"; }
    }
}
CONF
    lab_start "$name" "$host" nginx -e stderr -c "$lab_dir/$name/nginx.conf"
}

# lab_resolver NAME ADDRESS: a DNS server on the host of that name, which knows the shop and itself and logs who asks.
lab_resolver() {
    lab_start "$1" "$1" dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
        --listen-address="$2" --user=root --pid-file= --log-queries --log-facility=- \
        --address=/shop.example/198.51.100.10 --address=/shop.example/2001:db8:51::10 --txt-record=whoami.example,"$1"
}

lab_servers_up() {
    lab_web shop-a shop-a 10.0.0.11:8080
    lab_web shop-b shop-b 10.0.0.12:8080
    lab_web shop6-a shop6-a '[2001:db8:10::11]:8080'
    lab_web internet client 198.51.100.29:80 '[2001:db8:51::29]:80'
    lab_resolver resolver-a 10.0.0.53
    lab_resolver resolver-b 10.0.0.54
}

lab_down() {
    local name host
    if lab_running millrace; then lab_stop millrace 10 || true; fi
    for name in "${!lab_pids[@]}"; do lab_stop "$name" 2 || true; done
    if [ -n "$lab" ]; then
        for host in client appliance switch shop-a shop-b shop6-a resolver-a resolver-b; do
            if [ -e "/run/netns/$lab-$host" ]; then ip netns delete "$lab-$host"; fi
        done
    fi
    if [ -n "$lab_dir" ]; then rm -rf "$lab_dir"; fi
    if [ -n "$lab_state" ]; then rmdir --ignore-fail-on-non-empty "$lab_state" || true; fi
}
