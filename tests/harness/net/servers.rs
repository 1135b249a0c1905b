//! Real servers in namespaces: nginx and dnsmasq, each saying who it is and whom it sees.

use std::fmt::Write as _;
use std::fs;

use super::{Lab, Namespace, Process, eventually};

/// Bytes of the page `/big`.
const BIG: usize = 20_000_000;

/// An nginx. `/` answers with the server's name and the client's address, `/healthz` with 200, `/big` with 20 MB, and
/// `/slow` with a body that takes about eight seconds, `/slower` with the same in more than six minutes; no connection serves a second request.
#[derive(Debug)]
pub struct Web {
    process: Process,
}

impl Web {
    /// Bytes of `/slow`.
    pub const SLOW: usize = 80_000;

    /// Starts one named `name` on `host`, and waits until it listens.
    #[must_use]
    pub fn start(lab: &Lab, host: &Namespace, name: &str, listen: &[&str]) -> Self {
        Self::listening(lab, host, name, listen, "", "$remote_addr")
    }

    /// One that expects the PROXY protocol's header, and answers with the client's address and port as that tells them, and with
    /// who has connected.
    #[must_use]
    pub fn introduced(lab: &Lab, host: &Namespace, name: &str, listen: &[&str]) -> Self {
        let seen = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $remote_addr";
        Self::listening(lab, host, name, listen, "proxy_protocol", seen)
    }

    fn listening(lab: &Lab, host: &Namespace, name: &str, listen: &[&str], how: &str, seen: &str) -> Self {
        let folder = lab.file(name);
        fs::create_dir_all(folder.join("pages")).expect("the lab's directory takes another");
        let big = lab.file("big");
        if !big.exists() {
            fs::write(&big, vec![b'm'; BIG]).expect("the lab's directory takes a file");
        }
        fs::write(folder.join("pages/slow"), vec![b's'; Self::SLOW]).expect("the lab's directory takes a file");
        let listens = listen.iter().fold(String::new(), |mut all, address| {
            let _ = write!(all, "listen {address} {how} backlog=4096; ");
            all
        });
        let (at, big) = (folder.display(), big.display());
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr warn; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_timeout 0; default_type text/plain; root {at}/pages;
    client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4;
    scgi_temp_path {at}/t5;
    server {{
        {listens}
        location = / {{ return 200 \"{name} {seen}\\n\"; }}
        location = /healthz {{ return 200 \"ok\\n\"; }}
        location = /big {{ alias {big}; }}
        location = /slow {{ limit_rate 10000; }}
        location = /slower {{ limit_rate 200; alias {at}/pages/slow; }}
        location / {{ }}
    }}
}}
"
        );
        fs::write(folder.join("nginx.conf"), configuration).expect("the lab's directory takes a file");
        let process = host.start(&format!("nginx -e stderr -c {at}/nginx.conf"), &folder.join("log"));
        let mut web = Self { process };
        eventually(10, "nginx listens", || {
            assert!(web.process.running(), "nginx ended: {}", web.process.output());
            listen.iter().all(|address| host.listens("tcp", address))
        });
        web
    }

    /// Ends it as a crash would: the kernel resets its connections.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it where it is: it still accepts connections, in the kernel's queue, and answers none.
    pub fn hang(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }
}

/// A dnsmasq that knows `shop.example` and, as the text of `whoami.example`, its own name.
#[derive(Debug)]
pub struct Resolver {
    process: Process,
}

impl Resolver {
    /// Starts one named `name` on `host` at `address`, and waits until it listens.
    #[must_use]
    pub fn start(lab: &Lab, host: &Namespace, name: &str, address: &str) -> Self {
        let line = format!(
            "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --user=root \
             --listen-address={address} --pid-file= --log-queries --log-facility=- --address=/shop.example/198.51.100.10 \
             --address=/shop.example/2001:db8:51::10 --txt-record=whoami.example,{name}"
        );
        let mut process = host.start(&line, &lab.file(&format!("{name}.log")));
        let at = if address.contains(':') { format!("[{address}]:53") } else { format!("{address}:53") };
        eventually(10, "dnsmasq listens", || {
            assert!(process.running(), "dnsmasq ended: {}", process.output());
            host.listens("udp", &at)
        });
        Self { process }
    }

    /// The lines that say who asked what.
    #[must_use]
    pub fn queries(&self) -> Vec<String> {
        self.process.output().lines().filter(|line| line.contains("query[")).map(str::to_owned).collect()
    }
}
