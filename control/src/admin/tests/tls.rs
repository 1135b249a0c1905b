//! The API over TCP: whose certificates are let in, what their roles may do, what is on record, and what strangers cannot do.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use config::policy::{Api, ApiRole, Role};
use log::{Log, Metadata, Record};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// What a caller shows.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn signed(params: &CertificateParams, by: &Authority) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    Identity { chain: vec![certificate.der().clone()], key }
}

/// An appliance whose door is open.
struct Guarded {
    served: Served,
    address: SocketAddr,
    /// Signs the appliance's certificate and those of its callers.
    authority: Authority,
    api: Api,
}

impl Guarded {
    fn new() -> Self {
        let mut served = Served::new();
        let authority = authority("millrace test");
        let file = |name: &str| served.folder.path().join(name);
        let api = Api {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: file("api.pem"),
            key: file("api.key"),
            client_ca: file("clients.pem"),
            roles: [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)]
                .map(|(name, role)| ApiRole {
                    name: name.to_owned(),
                    role,
                    certificates: vec![format!("CN={name}"), format!("DNS:{name}.example")],
                })
                .to_vec(),
        };
        present(&api, &authority);
        fs::write(&api.client_ca, authority.pem()).unwrap();
        let door = Door::open(&api).unwrap();
        let address = door.address().unwrap();
        let appliance = Arc::clone(&served.bench.appliance) as Arc<dyn Appliance>;
        served.server.open(door, appliance, served.runtime.handle()).unwrap();
        Self { served, address, authority, api }
    }

    fn of_role(&self, name: &str) -> Identity {
        signed(&params(name), &self.authority)
    }

    /// One call with what this caller shows, or with nothing.
    fn call(&self, identity: Option<&Identity>, method: &str, path: &str, body: &str) -> io::Result<Answered> {
        self.call_trusting(&self.authority, identity, method, path, body)
    }

    fn call_trusting(
        &self,
        authority: &Authority,
        identity: Option<&Identity>,
        method: &str,
        path: &str,
        body: &str,
    ) -> io::Result<Answered> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let client = match identity {
            None => client.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                client.with_client_auth_cert(chain.clone(), key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::connect(self.address)?);
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-Match: *\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer).unwrap();
        let (head, document) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answered { status, head: head.to_owned(), document: serde_json::from_str(document).unwrap_or(Value::Null) })
    }

    fn looks(&self, identity: Option<&Identity>) -> bool {
        self.call(identity, "GET", "/api/v1/memory", "").is_ok_and(|answer| answer.status == 200)
    }
}

/// Writes a new certificate of the appliance's and its key, each beside the one there is and then in its place.
fn present(api: &Api, authority: &Authority) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "appliance");
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    put(&api.certificate, &params.signed_by(&key, authority).unwrap().pem(), 0o644);
    put(&api.key, &key.serialize_pem(), 0o640);
}

fn put(path: &Path, text: &str, mode: u32) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&fresh, path).unwrap();
}

/// What the log was told, of this test program as a whole.
static LOGGED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    struct Recorder;
    impl Log for Recorder {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            let line = format!("{} {}: {}", record.level(), record.target(), record.args());
            LOGGED.lock().unwrap().push(line);
        }
        fn flush(&self) {}
    }
    log::set_logger(&Recorder).unwrap();
    Mutex::default()
});

/// What the log was told until now.
fn logged() -> Vec<String> {
    LOGGED.lock().unwrap().clone()
}

fn recording() {
    LazyLock::force(&LOGGED);
    log::set_max_level(log::LevelFilter::Info);
}

/// API-01: all but revocation.
#[test]
fn bad_certificates_get_no_further_than_the_handshake() {
    let guarded = Guarded::new();
    let good = guarded.of_role("viewer");
    assert!(guarded.looks(Some(&good)), "{:?}", guarded.call(Some(&good), "GET", "/api/v1/memory", ""));
    let by_alternative_name = {
        let mut params = params("somebody");
        params.subject_alt_names = vec![SanType::DnsName("viewer.example".try_into().unwrap())];
        signed(&params, &guarded.authority)
    };
    assert!(guarded.looks(Some(&by_alternative_name)));

    assert!(!guarded.looks(None), "none");
    let key = KeyPair::generate().unwrap();
    let itself = params("viewer").self_signed(&key).unwrap();
    assert!(!guarded.looks(Some(&Identity { chain: vec![itself.der().clone()], key })), "self-signed");
    let of_other_times = |first: (i32, u8), last: (i32, u8)| {
        let mut params = params("viewer");
        params.not_before = date_time_ymd(first.0, first.1, 1);
        params.not_after = date_time_ymd(last.0, last.1, 1);
        signed(&params, &guarded.authority)
    };
    assert!(!guarded.looks(Some(&of_other_times((2001, 1), (2001, 2)))), "expired");
    assert!(!guarded.looks(Some(&of_other_times((2998, 1), (2999, 1)))), "not yet valid");
    assert!(!guarded.looks(Some(&signed(&params("viewer"), &authority("millrace test")))), "wrong CA of the same name");
    let mut for_servers = params("viewer");
    for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert!(!guarded.looks(Some(&signed(&for_servers, &guarded.authority))), "wrong use");
    for name in ["mallory", "Viewer", "viewer ", "viewer\0.example", ""] {
        assert!(!guarded.looks(Some(&signed(&params(name), &guarded.authority))), "wrong name {name:?}");
    }
    // One that signs others is not made by everyone who was signed.
    let not_an_authority = {
        let key = KeyPair::generate().unwrap();
        let certificate = params("operator").signed_by(&key, &guarded.authority).unwrap();
        let issuer = rcgen::Issuer::new(params("operator"), key);
        let own = KeyPair::generate().unwrap();
        let below = params("viewer").signed_by(&own, &issuer).unwrap();
        Identity { chain: vec![below.der().clone(), certificate.der().clone()], key: own }
    };
    assert!(!guarded.looks(Some(&not_an_authority)), "signed by one who may not");
    let mut chain: Vec<Authority> = Vec::new();
    for number in 0..20 {
        let params = authority_params(&format!("link {number}"));
        let by = chain.last().unwrap_or(&guarded.authority);
        let next = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), by).unwrap();
        chain.push(next);
    }
    let mut far = signed(&params("viewer"), chain.last().unwrap());
    far.chain.extend(chain.iter().rev().map(|link| link.der().clone()));
    assert!(!guarded.looks(Some(&far)), "long chain");
    assert!(guarded.looks(Some(&good)));
}

/// API-02: each call with each role; each refusal is on record, and so is each change.
#[test]
fn every_call_takes_its_role_and_refusals_are_on_record() {
    recording();
    let guarded = Guarded::new();
    let described = guarded.served.get("openapi.json").document;
    let (mut calls, mut refusals) = (0, 0);
    for (role, rank) in [("viewer", 0), ("operator", 1), ("admin", 2)] {
        let identity = guarded.of_role(role);
        for (path, methods) in described["paths"].as_object().unwrap() {
            // Each kind has the same calls: one of them will do.
            if path.ends_with("/events") || (path.contains("/config/") && !path.contains("/firewall.set")) {
                continue;
            }
            for (method, call) in methods.as_object().unwrap() {
                let least = ["viewer", "operator", "admin"].iter().position(|it| call["x-least-role"] == *it).unwrap();
                let (path, method) =
                    (path.replace("{name}", "nobody").replace("{kind}", "port"), method.to_uppercase());
                let answer = guarded.call(Some(&identity), &method, &path, "{}").unwrap();
                assert_eq!(answer.status == 403, rank < least, "{role} {method} {path}: {answer:?}");
                calls += 1;
                if answer.status == 403 {
                    refusals += 1;
                    assert_eq!(answer.document["kind"], "forbidden");
                    let line = format!("CN={role} ({role}) was refused {method} {path}: ");
                    assert!(logged().iter().any(|it| it.contains(&line)), "{line}");
                }
            }
        }
    }
    assert!(calls > 60 && refusals > 15, "{refusals} of {calls}");
    let set = json!({"name": "offices", "addresses": ["192.0.2.0/24"]}).to_string();
    let admin = guarded.of_role("admin");
    let done = guarded.call(Some(&admin), "POST", "/api/v1/config/firewall.set", &set).unwrap();
    assert_eq!(done.status, 201, "{done:?}");
    assert_eq!(guarded.served.get("policy").document["who"], "CN=admin");
    let changes = json!({"changes": [{"do": "delete", "kind": "a\nb", "name": "x\u{1b}"}]}).to_string();
    guarded.call(Some(&admin), "POST", "/api/v1/transaction", &changes).unwrap();
    let drained = json!({"kind": "service", "name": "shop", "undo": true}).to_string();
    guarded.call(Some(&guarded.of_role("operator")), "POST", "/api/v1/drain", &drained).unwrap();
    guarded.call(Some(&admin), "POST", "/api/v1/rollback?generation=77", "").unwrap();
    guarded.call(Some(&admin), "GET", "/api/v1/capture?port=x", "").unwrap();
    for line in [
        "INFO audit: CN=admin (admin): POST /api/v1/config/firewall.set: 201 (\"offices\")",
        "INFO audit: CN=admin (admin): POST /api/v1/transaction: 404 (delete a\\nb \"x\\u{1b}\")",
        "INFO audit: CN=operator (operator): POST /api/v1/drain: 200 (undo, service \"shop\")",
        "INFO audit: CN=admin (admin): POST /api/v1/rollback?generation=77: 404",
        "INFO audit: CN=admin (admin): GET /api/v1/capture?port=x: ",
    ] {
        let logged = logged();
        assert!(logged.iter().any(|it| it.starts_with(line)), "{line}: {logged:#?}");
    }
}

/// What was begun is done and on record, whether or not its caller waits for the answer.
#[test]
fn a_change_is_on_record_though_its_caller_hangs_up() {
    recording();
    let served = Served::new();
    let turn = served.bench.turn();
    let text = format!("{}# another\n", served.text());
    let head = "POST /api/v1/apply?file=hung-up.toml HTTP/1.1\r\nHost: x\r\n";
    let mut caller = UnixStream::connect(served.path()).unwrap();
    caller.write_all(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).unwrap();
    while served.bench.appliance.progress().is_none() {
        std::thread::yield_now();
    }
    caller.shutdown(std::net::Shutdown::Write).unwrap();
    // The appliance has seen it when it ends the connection, too.
    assert_eq!(caller.read_to_end(&mut Vec::new()).unwrap(), 0);
    drop(turn);
    while served.bench.appliance.policy().current.source != "hung-up.toml" {
        std::thread::yield_now();
    }
    let line = "POST /api/v1/apply?file=hung-up.toml: 200";
    let begun = std::time::Instant::now();
    while !logged().iter().any(|it| it.contains(line)) {
        assert!(begun.elapsed().as_secs() < 30, "{:?}", logged());
        std::thread::yield_now();
    }
}

/// A browser that holds a certificate shows it for whichever page it is on.
#[test]
fn what_a_web_page_has_sent_changes_nothing() {
    let served = Served::new();
    let change = |headers: &str| served.call("POST", "drain", headers, r#"{"kind": "service", "name": "shop"}"#).status;
    for foreign in [
        "Origin: https://elsewhere.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://x\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(change(foreign), 403, "{foreign}");
    }
    for own in ["", "Sec-Fetch-Site: none\r\n", "Origin: http://x\r\nSec-Fetch-Site: same-origin\r\n"] {
        assert_eq!(change(own), 200, "{own}");
    }
}

/// A hello of an old version (RFC 5246 section 7.4.1.2), with suites that were common, the weak ones among them.
fn old_hello(version: [u8; 2]) -> Vec<u8> {
    let suites = [0xc02f_u16, 0xc030, 0xc013, 0xc014, 0x009c, 0x002f, 0x0035, 0x000a, 0x0005, 0x0004, 0x0001, 0x0000];
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(suites.len() * 2).unwrap().to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1], &length[1..], &body[..]].concat();
    let length = u16::try_from(handshake.len()).unwrap().to_be_bytes();
    [&[22, 3, 1], &length[..], &handshake[..]].concat()
}

/// API-11.
#[test]
fn older_versions_of_tls_are_refused() {
    let guarded = Guarded::new();
    for version in [[3, 0], [3, 1], [3, 2], [3, 3]] {
        let mut stream = TcpStream::connect(guarded.address).unwrap();
        stream.write_all(&old_hello(version)).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // An alert, fatal: no hello of the server's (RFC 8446 section 6).
        assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "{version:?}: {answer:?}");
    }
    let mut plain = TcpStream::connect(guarded.address).unwrap();
    plain.write_all(b"GET /api/v1/ports HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

/// FLD-13 and API-04: neither connections that never begin a handshake, nor callers who never end their question, keep one
/// who is let in from his answer.
#[test]
fn a_flood_of_connections_keeps_nobody_out_who_is_let_in() {
    let guarded = Guarded::new();
    let viewer = guarded.of_role("viewer");
    let mut held = Vec::new();
    for number in 0..300_u32 {
        let mut stream = TcpStream::connect(guarded.address).unwrap();
        match number % 3 {
            0 => {}
            1 => drop(stream.write_all(&old_hello([3, 3])[..20])),
            _ => drop(stream.write_all(b"\x16\x03\x01\xff\xff")),
        }
        held.push(stream);
        if number % 50 == 49 {
            assert!(guarded.looks(Some(&viewer)), "after {number}");
        }
    }
    assert!(guarded.looks(Some(&viewer)));
}

/// CFG-08, and what else is wrong with files: told by the key that names them.
#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let guarded = Guarded::new();
    let refused = |change: &dyn Fn(&mut Api)| {
        let mut api = guarded.api.clone();
        change(&mut api);
        Door::open(&api).unwrap_err().to_string()
    };
    fs::set_permissions(&guarded.api.key, fs::Permissions::from_mode(0o644)).unwrap();
    let loose = refused(&|_| {});
    assert!(loose.contains("every user of the machine may read") && loose.contains("chmod o="), "{loose}");
    fs::set_permissions(&guarded.api.key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&|api| api.key = "/nowhere".into()).contains("names it in `key`"));
    assert!(refused(&|api| api.certificate = "/dev/null".into()).contains("names it in `certificate`"));
    assert!(refused(&|api| api.client_ca = api.key.clone()).contains("names it in `client_ca`"));
    let other = guarded.served.folder.path().join("other.key");
    fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&|api| api.key = other.clone()).contains("cannot be used"));
    let taken = refused(&|api| api.listen = guarded.address);
    assert!(taken.contains("`listen` under [api]"), "{taken}");
}

/// A certificate that was renewed is shown from the next call on; one that is damaged changes nothing.
#[test]
fn certificates_are_renewed_while_it_runs() {
    let guarded = Guarded::new();
    let viewer = guarded.of_role("viewer");
    let successor = authority("the next one");
    present(&guarded.api, &successor);
    assert!(guarded.call(Some(&viewer), "GET", "/api/v1/memory", "").is_err());
    let trusting = || guarded.call_trusting(&successor, Some(&viewer), "GET", "/api/v1/memory", "");
    assert_eq!(trusting().unwrap().status, 200);
    fs::write(&guarded.api.certificate, "no certificate").unwrap();
    assert_eq!(trusting().unwrap().status, 200);
}

/// A new key that everybody may read is not used, and is as soon as the operator has done what the log says.
#[test]
fn a_key_that_was_closed_is_in_use_from_the_next_call_on() {
    recording();
    let guarded = Guarded::new();
    let viewer = guarded.of_role("viewer");
    let successor = authority("the next one");
    present(&guarded.api, &successor);
    fs::set_permissions(&guarded.api.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(guarded.looks(Some(&viewer)), "with the certificate before");
    let advice = format!("run: chmod o= {}", guarded.api.key.display());
    assert!(logged().iter().any(|line| line.contains(&advice)));
    fs::set_permissions(&guarded.api.key, fs::Permissions::from_mode(0o640)).unwrap();
    let renewed = guarded.call_trusting(&successor, Some(&viewer), "GET", "/api/v1/memory", "");
    assert_eq!(renewed.unwrap().status, 200);
}

/// API-09: the private key is nowhere but in its file.
#[test]
fn nothing_that_is_told_has_the_key() {
    recording();
    let guarded = Guarded::new();
    let key = fs::read_to_string(&guarded.api.key).unwrap();
    let secrets: Vec<&str> =
        key.lines().filter(|line| !line.starts_with('-')).map(|line| &line[..line.len().min(24)]).collect();
    assert!(!secrets.is_empty());
    let mut told = format!("{:?}", Door::open(&guarded.api).unwrap());
    let described = guarded.served.get("openapi.json").document;
    for path in described["paths"].as_object().unwrap().keys().filter(|path| !path.ends_with("/events")) {
        let place = path.strip_prefix("/api/v1/").unwrap().replace("{name}", "shop").replace("{kind}", "port");
        told.push_str(&format!("{:?}", guarded.served.get(&place)));
    }
    let mut damaged = guarded.api.clone();
    damaged.key = guarded.served.folder.path().join("damaged.key");
    let cut: String = key.chars().take(key.len() * 2 / 3).collect();
    fs::write(&damaged.key, cut + "\n-----END PRIVATE KEY-----\n").unwrap();
    fs::set_permissions(&damaged.key, fs::Permissions::from_mode(0o600)).unwrap();
    told.push_str(&Door::open(&damaged).unwrap_err().to_string());
    told.push_str(&logged().join("\n"));
    told.push_str(&fs::read_to_string("/proc/self/cmdline").unwrap());
    assert!(told.len() > 10_000);
    for secret in secrets {
        assert!(!told.contains(secret));
    }
}
