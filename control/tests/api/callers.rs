//! Callers that make mistakes, are slow, or are there when the appliance begins or ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use control::admin::Server;
use control::admin::socket::ControlSocket;
use control::bulletin::Happening;
use control::client::{Client, ClientError};
use control::status::*;

use crate::appliance::{Fake, Served};

#[test]
fn mistakes_are_refused_in_json_with_the_right_status() {
    let served = Served::new();
    let long = vec![b'#'; 65 << 20];
    let cases: [(&str, &[u8], u16); 19] = [
        ("GET /", b"", 404),
        ("GET /api/v1/everything", b"", 404),
        ("POST /api/v1/ports", b"", 405),
        ("GET /api/v1/apply", b"", 405),
        ("GET /api/v2/ports", b"", 404),
        ("GET /api/v1/sessions?limit=many", b"", 400),
        ("GET /api/v1/sessions?colour=blue", b"", 400),
        ("GET /api/v1/sessions?match=colour%3Dblue", b"", 400),
        ("GET /api/v1/sessions?limit=13", b"", 503),
        ("POST /api/v1/apply", b"x", 400),
        ("POST /api/v1/apply?file=a", b"\xff\xfe", 400),
        ("POST /api/v1/apply?file=a&confirm_within_ms=999", b"x", 400),
        ("POST /api/v1/apply?file=a&confirm_within_ms=-1", b"x", 400),
        ("POST /api/v1/diff", b"x", 400),
        ("POST /api/v1/diff?file=a", b"\xff", 400),
        ("POST /api/v1/rollback?generation=first", b"", 400),
        ("POST /api/v1/rollback?generation=13", b"", 404),
        ("POST /api/v1/drain", b"shop", 400),
        ("POST /api/v1/apply?file=a", b"fault", 422),
    ];
    for (head, body, wanted) in cases {
        let (status, document) = served.http(head, body);
        assert_eq!(status, wanted, "{head}: {document}");
        assert_eq!(document["status"], status, "{head}: {document}");
        for member in ["type", "title", "detail", "kind"] {
            assert!(document[member].is_string(), "{head}: {member} of {document}");
        }
    }
    let (status, _) = served.http("POST /api/v1/apply?file=a", &long);
    assert_eq!(status, 413);
    assert!(served.fake.told.lock().unwrap().iter().all(|told| told == "apply a 5" || told == "rollback Some(13)"));
}

#[test]
fn a_fault_in_one_answer_spares_the_next() {
    let served = Served::new();
    let (status, document) = served.http("POST /api/v1/apply?file=a", b"panic");
    assert_eq!((status, document["kind"].as_str()), (500, Some("failed")));
    assert_eq!(served.client().show::<Vec<PortStatus>>("ports").unwrap().len(), 1);
}

#[test]
fn bytes_that_are_not_http_harm_nobody() {
    let served = Served::new();
    for bytes in [&b"\0\0\0\0"[..], b"GET", b"POST /api/v1/apply?file=a HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"] {
        let mut stream = UnixStream::connect(served.path()).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert_eq!(served.client().show::<Vec<WorkerStatus>>("workers").unwrap().len(), 1);
    assert!(served.fake.told.lock().unwrap().is_empty());
}

/// FLD-13: callers that stay silent, and callers that take their time over a question, keep nobody out.
#[test]
fn slow_callers_keep_nobody_out() {
    let served = Served::new();
    let mut patient = UnixStream::connect(served.path()).unwrap();
    let ask = |stream: &mut UnixStream| {
        stream.write_all(b"GET /api/v1/top HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        // The rest of it: what has no length of its own does not come here.
        let mut rest = [0; 4_096];
        let _ = stream.read(&mut rest).unwrap();
    };
    let mut held = Vec::new();
    for number in 0..600 {
        let mut slow = UnixStream::connect(served.path()).unwrap();
        if number % 2 == 0 {
            slow.write_all(b"GET /api/v1/po").unwrap();
        }
        held.push(slow);
        if number % 50 == 0 {
            assert_eq!(served.client().show::<Vec<PortStatus>>("ports").unwrap().len(), 1);
            ask(&mut patient);
        }
    }
    assert_eq!(served.client().show::<Vec<PortStatus>>("ports").unwrap().len(), 1);
    // The first to come were the first to go.
    let mut gone = [0; 1];
    assert_eq!(held[1].read(&mut gone).unwrap_or(0), 0);
}

/// API-03: what callers send is kept whole until it is understood, so large bodies of a call come one at a time. A body that
/// nobody asks for yet has its "100 Continue" still to come.
#[test]
fn large_bodies_come_one_at_a_time() {
    const LONG: usize = 2 << 20;
    let served = Served::new();
    let call = |expected: &str| {
        let mut stream = UnixStream::connect(served.path()).unwrap();
        let head = "POST /api/v1/diff?file=x.toml HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue";
        write!(stream, "{head}\r\n{expected}\r\n\r\n").unwrap();
        stream
    };
    let is_asked = |stream: &mut UnixStream| {
        let mut said = [0; 25];
        stream.read_exact(&mut said).is_ok_and(|()| said == *b"HTTP/1.1 100 Continue\r\n\r\n")
    };
    let long = format!("Content-Length: {LONG}");
    let mut first = call(&long);
    assert!(is_asked(&mut first));
    let mut other = call(&long);
    other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!is_asked(&mut other), "it waits");
    drop(other);
    assert!(is_asked(&mut call("Transfer-Encoding: chunked")), "no more of it is read than of a small one");
    let mut next = call(&long);
    assert_eq!(served.http("GET /api/v1/ports", b"").0, 200);
    assert_eq!(served.http("POST /api/v1/diff?file=x.toml", b"# short\n").0, 200);
    // Nobody waits for what is too long anyway.
    let mut giant = call(&format!("Content-Length: {}", 100 << 20));
    let mut refusal = String::new();
    giant.read_to_string(&mut refusal).unwrap();
    assert!(refusal.starts_with("HTTP/1.1 413") && refusal.contains("longer than 64 MiB"), "{refusal}");
    first.write_all(&[b'\n'; LONG]).unwrap();
    first.read_to_end(&mut Vec::new()).unwrap();
    assert!(is_asked(&mut next), "its turn");
}

/// Both ways of printing, and the end when the appliance stops.
#[test]
fn events_are_followed_until_there_are_no_more() {
    for (line, wanted) in [("events", "port outside has no carrier\n"), ("events --json", "\"link\":\"down\"}\n")] {
        let served = Served::new();
        let fake = Arc::clone(&served.fake);
        let said = std::thread::scope(|scope| {
            let follower = scope.spawn(|| served.millrace(line));
            while fake.bulletin.listeners() == 0 {
                std::thread::yield_now();
            }
            fake.bulletin.tell(Happening::Port { port: "outside".into(), link: Link::Down });
            fake.bulletin.close();
            follower.join().unwrap()
        });
        assert_eq!((said.0, said.2.as_str()), (0, ""), "{said:?}");
        assert!(said.1.contains(wanted), "{said:?}");
    }
}

#[test]
fn stopping_removes_the_socket_and_lets_another_start() {
    for _ in 0..100 {
        let mut served = Served::new();
        let path = served.path();
        served.client().show::<Vec<PortStatus>>("ports").unwrap();
        let server = served.server.take().unwrap();
        served.runtime.block_on(server.stop(Duration::from_secs(60)));
        assert!(!path.exists());
        assert!(matches!(
            served.client().show::<Vec<PortStatus>>("ports").unwrap_err(),
            ClientError::NotRunning { .. }
        ));
    }
}

#[test]
fn no_caller_holds_up_the_stop() {
    let mut served = Served::new();
    // One that never ends its question, and one that never reads its answer, which is longer than what the kernel keeps.
    let mut slow = UnixStream::connect(served.path()).unwrap();
    slow.write_all(b"GET /api/v1/po").unwrap();
    let mut deaf = UnixStream::connect(served.path()).unwrap();
    for _ in 0..64 {
        deaf.write_all(b"GET /api/v1/sessions?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    let mut first = [0; 12];
    deaf.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let (server, path) = (served.server.take().unwrap(), served.path());
    served.runtime.block_on(server.stop(Duration::from_millis(20)));
    assert!(!path.exists());
    assert!(matches!(served.client().show::<Vec<PortStatus>>("ports").unwrap_err(), ClientError::NotRunning { .. }));
    // What is left of them ends with the runtime.
    served.runtime.shutdown_timeout(Duration::from_secs(60));
    drop((slow, deaf));
}

#[test]
fn calls_made_while_the_appliance_starts_are_answered_when_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let bound = ControlSocket::bind(&path).unwrap();
    let early = {
        let path = path.clone();
        std::thread::spawn(move || Client::new(&path).unwrap().show::<Vec<PortStatus>>("ports").unwrap().len())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _server = Server::answer(bound, Arc::new(Fake::default()), runtime.handle()).unwrap();
    assert_eq!(early.join().unwrap(), 1);
}
