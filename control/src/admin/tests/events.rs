//! What is heard of what happens.

use std::time::Duration;

use super::*;
use crate::bulletin::Told;
use crate::client::{Client, ClientError};

#[test]
fn generations_and_backends_are_told_to_everybody_who_listens() {
    let served = Served::new();
    let listening: Vec<_> = (0..3)
        .map(|_| {
            let path = served.path();
            std::thread::spawn(move || {
                let mut heard: Vec<Told> = Vec::new();
                let mut hear = |told| {
                    heard.push(told);
                    Ok(())
                };
                Client::new(&path).unwrap().events(&mut hear).unwrap();
                heard
            })
        })
        .collect();
    let bulletin = served.bench.appliance.bulletin();
    while bulletin.listeners() < 3 {
        std::thread::yield_now();
    }
    let rule = json!({"name": "dns", "action": "allow"});
    assert_eq!(served.send("POST", "config/firewall.rule", "", &rule).status, 201);
    served.bench.fail_a_backend();
    served.call("POST", "rollback", "", "");
    bulletin.close();
    for heard in listening {
        let heard: Vec<_> = heard.join().unwrap().into_iter().map(|told| serde_json::to_value(told).unwrap()).collect();
        let words: Vec<_> = heard.iter().map(|it| it["event"].as_str().unwrap()).collect();
        assert_eq!(words, ["generation", "backend", "generation"]);
        assert_eq!((&heard[0]["generation"], &heard[0]["how"]), (&json!(2), &json!("amend")));
        assert_eq!((&heard[1]["backend"], &heard[1]["health"]), (&json!("shop-a"), &json!("failed")));
        assert_eq!(heard[2]["how"], "rollback");
    }
}

/// A listener whose own reader has gone (`| head`) ends.
#[test]
fn a_listener_that_nobody_reads_ends() {
    let served = Served::new();
    let path = served.path();
    let listening = std::thread::spawn(move || {
        Client::new(&path).unwrap().events(&mut |_| Err(std::io::ErrorKind::BrokenPipe.into())).unwrap_err()
    });
    while served.bench.appliance.bulletin().listeners() == 0 {
        std::thread::yield_now();
    }
    served.bench.fail_a_backend();
    assert!(matches!(listening.join().unwrap(), ClientError::File(_)));
}

/// Whoever goes without a word is not kept in mind.
#[test]
fn a_listener_that_goes_is_forgotten() {
    let served = Served::new();
    let bulletin = served.bench.appliance.bulletin();
    let mut stream = UnixStream::connect(served.path()).unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    while bulletin.listeners() == 0 {
        std::thread::yield_now();
    }
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(stream);
    while bulletin.listeners() > 0 {
        std::thread::yield_now();
    }
}
