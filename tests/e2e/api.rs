//! The API of a running appliance under real traffic: objects changed one by one, over the socket and over TCP with
//! certificates, events followed, giants and strangers turned away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::Value;

/// Where the API listens, in the appliance's namespace.
const LISTEN: &str = "127.0.0.1:8443";

/// A CA, the appliance's certificate, and one for each role, as files.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "lab");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (name, usage) in [
        ("appliance", ExtendedKeyUsagePurpose::ServerAuth),
        ("viewer", ExtendedKeyUsagePurpose::ClientAuth),
        ("admin", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        let file = folder.join(format!("{name}.key"));
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// `edge` with the API over TCP, too.
fn over_tcp(edge: Configuration, folder: &Path) -> Configuration {
    let file = |name: &str| folder.join(name).display().to_string();
    let api = format!(
        "[api]\nlisten = \"{LISTEN}\"\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
         [[api.role]]\nname = \"viewers\"\nrole = \"viewer\"\ncertificates = [\"CN=viewer\"]\n\
         [[api.role]]\nname = \"admins\"\nrole = \"admin\"\ncertificates = [\"CN=admin\"]\n\n[cores]\n",
        file("appliance.pem"),
        file("appliance.key"),
        file("ca.pem")
    );
    edge.replacing("[cores]\n", &api)
}

struct Caller<'l> {
    lab: &'l Lab,
    socket: &'l Path,
}

impl Caller<'_> {
    /// Status and document of a call over the socket.
    fn local(&self, options: &str, path: &str) -> (String, Value) {
        self.curl(&format!("--unix-socket {} {options} http://millrace/api/v1/{path}", self.socket.display()))
    }

    /// The same over TCP, with this one's certificate.
    fn remote(&self, who: &str, options: &str, path: &str) -> (String, Value) {
        let file = |name: &str| self.lab.file(name).display().to_string();
        self.curl(&format!(
            "--cacert {} --cert {} --key {} {options} https://localhost:8443/api/v1/{path}",
            file("ca.pem"),
            file(&format!("{who}.pem")),
            file(&format!("{who}.key"))
        ))
    }

    fn curl(&self, line: &str) -> (String, Value) {
        let done = self
            .lab
            .appliance
            .run_for(90, &format!("curl -sS --max-time 60 --expect100-timeout 60 -w \\n%{{http_code}} {line}"));
        let (document, status) = done.out.rsplit_once('\n').unwrap_or(("", &done.out));
        (status.to_owned(), serde_json::from_str(document).unwrap_or(Value::Null))
    }

    fn body(&self, document: &str) -> String {
        let file = self.lab.file("body.json");
        fs::write(&file, document).expect("the lab's directory takes a file");
        format!("--data-binary @{}", file.display())
    }
}

/// API-02, API-03, API-12: roles over TCP, giants, and another user at the socket; all of it under traffic that does not notice.
#[test]
fn objects_are_changed_over_the_socket_and_over_tcp_under_traffic() {
    let test = "objects_are_changed_over_the_socket_and_over_tcp_under_traffic";
    let programs = [Claims::PROGRAMS, &["setpriv", "stat"]].concat();
    let Some(lab) = Lab::wired(test, &programs) else { return };
    let claims = Claims::serve(&lab);
    certificates(lab.directory());
    lab.appliance.raise("lo");
    let configuration = over_tcp(lab.edge(), lab.directory());
    let appliance = Appliance::start(&lab, &configuration);
    let caller = Caller { lab: &lab, socket: configuration.socket() };
    let events = lab.file("events.log");
    let head = lab.file("events.head");
    let follower = format!(
        "curl -sSN -D {} --unix-socket {} http://millrace/api/v1/events",
        head.display(),
        configuration.socket().display()
    );
    let mut follower = lab.appliance.start(&follower, &events);
    // Only what happens from then on is told.
    eventually(10, "events are followed", || {
        fs::read_to_string(&head).is_ok_and(|head| head.starts_with("HTTP/1.1 200"))
    });
    let mut downloads =
        [("198.51.100.10", 0), ("[2001:db8:51::10]", 1)].map(|(address, number)| claims.download(address, number));
    eventually(5, "the downloads have begun", || claims.downloaded(0) > 0 && claims.downloaded(1) > 0);

    let rule = caller.body(r#"{"name": "no-telnet", "action": "deny", "protocol": "tcp", "destination_port": ["23"]}"#);
    let (status, _) = caller.remote("viewer", &rule, "config/firewall.rule");
    assert_eq!(status, "403");
    let (status, made) = caller.remote("admin", &rule, "config/firewall.rule?before=clients-to-shop");
    assert_eq!((status.as_str(), made["generation"].as_u64()), ("201", Some(2)), "{made}");
    let (_, firewall) = caller.remote("viewer", "", "firewall");
    assert_eq!(firewall["rules"][0]["name"], "no-telnet");
    let weight = caller.body(r#"{"weight": 3}"#);
    let place = "config/virtual_service.backend/shop/shop-a";
    assert_eq!(caller.local(&format!("-X PATCH {weight}"), place).0, "428");
    assert_eq!(caller.local(&format!("-X PATCH -H If-Match:* {weight}"), place).0, "200");
    let shop = appliance.show("services")[0]["backends"][0].clone();
    assert_eq!((shop["name"].as_str(), shop["weight"].as_u64()), (Some("shop-a"), Some(3)));
    assert_eq!(caller.local("-X DELETE -H If-Match:*", "config/firewall.rule/no-telnet").0, "200");

    let before = appliance.resident();
    let giant = lab.file("giant");
    fs::File::create(&giant).and_then(|file| file.set_len(100 << 20)).expect("the lab's directory takes a file");
    let giant = format!("-H Expect: --data-binary @{}", giant.display());
    // Who sends all the same may be cut off before it reads why.
    for status in [caller.local(&giant, "apply?file=giant").0, caller.remote("admin", &giant, "transaction").0] {
        assert!(["413", "000"].contains(&status.as_str()), "{status}");
    }
    assert_eq!(caller.local(&giant.replace("-H Expect: ", ""), "apply?file=giant").0, "413");
    let grown = appliance.resident().saturating_sub(before);
    assert!(grown <= 32 << 20, "{} MiB", grown >> 20);
    assert_eq!(
        caller.curl(&format!("--cacert {} https://localhost:8443/api/v1/ports", lab.file("ca.pem").display())).0,
        "000"
    );
    // Who may come to the socket and see it is kept out by nothing but its mode.
    fs::set_permissions(lab.directory(), fs::Permissions::from_mode(0o711)).expect("it is the lab's own");
    let socket = configuration.socket().display();
    let stranger =
        |line: &str| lab.appliance.run(&format!("setpriv --reuid=65534 --regid=65534 --clear-groups {line}"));
    let seen = stranger(&format!("stat -c %a {socket}"));
    assert!(seen.success && seen.out.trim() == "660", "{}{}", seen.out, seen.err);
    let stranger = stranger(&format!("curl -sS --unix-socket {socket} http://millrace/api/v1/ports"));
    assert!(!stranger.success && stranger.err.contains("(7)"), "{}{}", stranger.out, stranger.err);

    let policy = appliance.show("policy");
    assert_eq!((policy["how"].as_str(), policy["generation"].as_u64()), (Some("amend"), Some(4)));
    let audit = appliance.output();
    assert!(audit.contains("CN=viewer (viewer) was refused POST /api/v1/config/firewall.rule"), "{audit}");
    let made = "CN=admin (admin): POST /api/v1/config/firewall.rule?before=clients-to-shop: 201 (\"no-telnet\")";
    assert!(audit.contains(made), "{audit}");
    eventually(10, "the events are heard", || {
        let heard = fs::read_to_string(&events).unwrap_or_default();
        (2..=4).all(|number| heard.contains(&format!("\"event\":\"generation\",\"generation\":{number},")))
    });
    follower.kill();
    eventually(60, "the downloads have ended", || downloads.iter_mut().all(|download| !download.running()));
    assert_eq!([claims.downloaded(0), claims.downloaded(1)], [millrace_tests::net::Web::SLOW; 2], "none was cut");
    claims.clients_reach_the_shop();
    appliance.stop();
}

/// A staged rule that would keep everybody out: counted, and nobody is kept out.
#[test]
fn staged_rules_are_counted_and_nobody_notices() {
    let Some(lab) = Lab::wired("staged_rules_are_counted_and_nobody_notices", Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let edge = lab.edge();
    let appliance = Appliance::start(&lab, &edge);
    let deny = edge.clone().with_first_rule("name = \"nobody\"\naction = \"deny\"\nfrom = [\"wan\"]");
    let file = lab.file("staged.toml");
    fs::write(&file, deny.text()).expect("the lab's directory takes a file");
    let staged = appliance.ask(&format!("apply --staged {}", file.display()));
    assert!(staged.success && staged.out.contains("nobody"), "{}{}", staged.out, staged.err);
    claims.clients_reach_the_shop();
    let shown = appliance.ask("show firewall --staged --json");
    let shown: Value = serde_json::from_str(&shown.out).expect("--json is JSON");
    let nobody = &shown["rules"][0];
    assert_eq!((nobody["name"].as_str(), nobody["staged"].as_bool()), (Some("nobody"), Some(true)));
    assert!(nobody["would_refuse"].as_u64() > Some(0), "{shown}");
    assert_eq!(appliance.show("policy")["generation"].as_u64(), Some(1));
    assert!(appliance.ask("unstage").out.contains("nothing is staged"));
    claims.clients_reach_the_shop();
    appliance.stop();
}
