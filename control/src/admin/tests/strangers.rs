//! What those make of the API who do not know it, or mean no good.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use config::forms;

use super::*;

#[test]
fn every_call_and_every_kind_is_described() {
    let served = Served::new();
    let document = served.get("openapi.json").document;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for path in ["ports", "sessions", "apply", "flush", "transaction", "openapi.json", "config/firewall.rule/{name}"] {
        assert!(paths.contains_key(&format!("/api/v1/{path}")), "{path}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for kind in forms().keys().filter(|kind| !kind.is_empty()) {
        assert!(schemas.contains_key(kind), "{kind}");
        let alone = served.get(&format!("schemas/{kind}"));
        assert_eq!((alone.status, &alone.document["type"]), (200, &json!("object")), "{kind}");
    }
    assert_eq!(served.get("schemas/colour").status, 404);
    // No reference leads nowhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{reference}");
    }
    // Each call that looks and takes nothing answers with what it is described to.
    for (path, methods) in paths.iter().filter(|(path, _)| !path.contains('{')) {
        let Some(look) = methods.get("get") else { continue };
        // One that does not end is not waited for.
        if look.get("parameters").is_none() && !path.ends_with("/events") {
            let status = served.get(path.strip_prefix("/api/v1/").unwrap()).status;
            assert!(look["responses"].get(status.to_string()).is_some(), "{path}: {status}");
        }
    }
}

/// API-07: another version of the API is refused as such.
#[test]
fn another_version_is_refused_by_its_number() {
    let served = Served::new();
    for version in ["v0", "v2", "v18446744073709551616"] {
        let refused =
            served.raw(format!("GET /api/{version}/ports HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(refused.status, 404);
        assert!(refused.document["detail"].as_str().unwrap().contains("speaks version 1"), "{refused:?}");
    }
    for body in [json!({"changes": [], "priority": 1}), json!({"operations": []}), json!([]), json!(null)] {
        assert_eq!(served.send("POST", "transaction", "", &body).status, 400, "{body}");
    }
    assert_eq!(served.send("POST", "drain", "", &json!({"kind": "tenant", "name": "a"})).status, 400);
}

/// API-06: names and numbers as nobody sane would write them are answered cleanly.
#[test]
fn strange_names_and_numbers_are_answered_cleanly() {
    let served = Served::new();
    let strange = [
        "-1",
        "0",
        "2147483648",
        "9223372036854775808",
        "18446744073709551616",
        "..",
        "%2e%2e%2f",
        "%00",
        "a%00b",
        "%ff",
        "%F0%9F%A6%80",
        "%E2%80%AE",
        "'",
        "%22",
        "%5C",
        "%0d%0aX:%20y",
        "*",
        "%20",
        "a%2Fb",
        "%25",
        "[0]",
        "%7B%7D",
        "#2",
    ];
    for name in strange.into_iter().map(str::to_owned).chain([format!("{:a<4000}", "")]) {
        for path in [
            format!("config/firewall.rule/{name}"),
            format!("config/virtual_service.backend/{name}/{name}"),
            format!("config/{name}"),
            format!("schemas/{name}"),
            format!("sessions?limit={name}"),
            format!("sessions?match=owner%3D{name}"),
        ] {
            for (method, body) in [("GET", ""), ("PUT", "{}"), ("PATCH", "{}"), ("DELETE", "")] {
                let answer = served.call(method, &path, "If-Match: *\r\n", body);
                assert!((200..500).contains(&answer.status), "{method} {path}: {answer:?}");
            }
        }
        assert!(served.call("POST", &format!("rollback?generation={name}"), "", "").status < 500);
        let target = json!({"kind": "backend", "name": name});
        assert_eq!(served.send("POST", "flush", "", &target).status, 404, "{name}");
    }
    assert_eq!(served.get("policy").document["generation"].as_u64(), Some(1), "nothing of it changed anything");
}

/// Names of files stand in the log and on terminals: they have no line of their own to write there.
#[test]
fn names_of_files_are_one_line_of_text() {
    let served = Served::new();
    for file in ["", "x%0a2026-11-22%20INFO%20audit:%20CN=bob", "%1b%5b2J", "a%00b", "%c2%85", &"a".repeat(4_096)] {
        for call in ["apply", "diff", "staged"] {
            let refused = served.call("POST", &format!("{call}?file={file}"), "", "");
            assert_eq!(refused.status, 400, "{call} {file}: {refused:?}");
        }
    }
    let text = served.text();
    assert_eq!(served.call("POST", "diff?file=%2Fetc%2Fs%C3%A9jour%201.toml", "", &text).status, 200);
}

/// API-03: what is too large, too deep or too much is refused; what says that it is too large, before it comes.
#[test]
fn giants_are_refused_early() {
    let served = Served::new();
    let head = |path: &str, length: usize| {
        format!("POST /api/v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
    };
    for path in ["apply?file=a", "transaction", "config/firewall.rule", "drain"] {
        assert_eq!(served.raw(head(path, 100 << 20).as_bytes()).status, 413, "{path}");
    }
    // One that does not say how long it is gets no further than any other body.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 18, "#".repeat(1 << 18));
    let head = "POST /api/v1/config/firewall.rule HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(served.raw(format!("{head}{}0\r\n\r\n", chunk.repeat(5)).as_bytes()).status, 413);
    let deep = "[".repeat(10_000);
    let keys = (0..80_000).map(|key| format!("\"{key:x}\":0")).collect::<Vec<_>>().join(",");
    let long = format!("{{\"name\":\"{}\"}}", "a".repeat(1 << 19));
    for body in [deep.clone(), format!("{{\"object\":{deep}"), format!("{{{keys}}}"), long] {
        assert!([400, 422].contains(&served.call("POST", "config/firewall.rule", "", &body).status));
        assert_eq!(served.call("POST", "transaction", "", &body).status, 400);
    }
    assert_eq!(served.call("POST", "apply?file=a", "", &format!("a = {deep}")).status, 422);
    assert_eq!(served.get("policy").document["generation"].as_u64(), Some(1));
}

/// API-04: whoever begins a large body and does not end it holds up nobody but those who make the same call.
#[test]
fn a_large_body_that_does_not_come_holds_up_no_other_call() {
    let served = Served::new();
    let begun = |head: &str| {
        let mut stream = UnixStream::connect(served.path()).unwrap();
        stream.write_all(format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n").as_bytes()).unwrap();
        stream
    };
    let mut compared = begun("POST /api/v1/diff?file=a");
    compared.write_all(b"Content-Length: 3000000\r\n\r\n#").unwrap();
    // A call that takes no body does not wait for the end of what comes all the same.
    let mut looked = begun("GET /api/v1/memory");
    looked.write_all(b"Transfer-Encoding: chunked\r\n\r\n1\r\n#").unwrap();
    let mut answer = [0; 12];
    looked.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let large = format!("{}#{}\n", served.text(), " ".repeat(3_000_000));
    assert_eq!(served.call("POST", "apply?file=a", "", &large).status, 200);
    drop(compared);
}

/// A list of more packets than are judged at once is refused at the first that is too many.
#[test]
fn more_packets_than_are_judged_at_once_are_not_kept() {
    let served = Served::new();
    let refused = served.call("POST", "trace/packets", "", &format!("[{}{{}}]", "{},".repeat(1_000_000)));
    assert_eq!(refused.status, 400);
    let why = refused.document["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("1000 packets at most") && why.contains("line 1 column 300"), "{why}");
}

/// Passes what comes on a TCP port on to a socket, until the process ends.
fn bridge(socket: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let Ok(answers) = UnixStream::connect(&socket) else { return };
            let pass =
                |mut from: Box<dyn Read + Send>, mut to: Box<dyn Write + Send>, end: Box<dyn FnOnce() + Send>| {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        end();
                    });
                };
            let (caller_again, answers_again): (TcpStream, UnixStream) =
                (caller.try_clone().unwrap(), answers.try_clone().unwrap());
            let (caller_end, answers_end) = (caller.try_clone().unwrap(), answers.try_clone().unwrap());
            let both = std::net::Shutdown::Both;
            pass(Box::new(caller), Box::new(answers), Box::new(move || drop(answers_end.shutdown(both))));
            pass(Box::new(answers_again), Box::new(caller_again), Box::new(move || drop(caller_end.shutdown(both))));
        }
    });
    port
}

/// Every call is as it is described, whatever it is asked. `MILLRACE_SCHEMATHESIS` names the program, which
/// `scripts/test.sh` installs.
#[test]
fn schemathesis_finds_the_description_true() {
    let Some(program) = std::env::var_os("MILLRACE_SCHEMATHESIS") else {
        let line = "schemathesis_finds_the_description_true: schemathesis is not installed (scripts/test.sh does it)\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(path) = std::env::var_os("MILLRACE_SKIPS") {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            opened.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
        }
        return;
    };
    let served = Served::new();
    let port = bridge(&served.path());
    // A state that is not the one meant is refused, too, before anybody looks at what would become of it.
    let settings = "[checks.negative_data_rejection]\nexpected-statuses = [400, 404, 405, 409, 412, 413, 422, 428]\n";
    std::fs::write(served.folder.path().join("schemathesis.toml"), settings).unwrap();
    let examples = std::env::var("MILLRACE_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "5".to_owned());
    // The same cases each time; another number draws others.
    let seed = std::env::var("MILLRACE_SCHEMATHESIS_SEED").unwrap_or_else(|_| "1".to_owned());
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                  unsupported_method,negative_data_rejection";
    let run = Command::new("timeout")
        .arg("600")
        .arg(program)
        .current_dir(served.folder.path())
        .args(["run", &format!("http://127.0.0.1:{port}/api/v1/openapi.json"), "--checks", checks])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", &examples, "--workers", "1"])
        .args(["--exclude-path", "/api/v1/events"])
        .args(["--generation-database", "none", "--no-color", "--suppress-health-check", "all", "--seed", &seed])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
}
