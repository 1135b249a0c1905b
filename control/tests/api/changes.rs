//! What is changed: policies, rules, blocklists, backends.

use control::client::ClientError;
use control::status::*;
use serde_json::Value;

use crate::appliance::Served;

#[test]
fn a_policy_is_applied_or_refused_with_every_fault() {
    let served = Served::new();
    let client = served.client();
    assert_eq!(client.apply("[appliance]", "my edge.toml", None).unwrap().generation, 3);
    let Err(ClientError::Refused(refusal)) = client.apply("fault", "edge.toml", None) else {
        panic!("was not refused")
    };
    assert_eq!((refusal.kind, refusal.faults.len()), (RefusalKind::PolicyInvalid, 2));
    assert_eq!(*served.fake.told.lock().unwrap(), ["apply my edge.toml 11", "apply edge.toml 5"]);
}

#[test]
fn rules_are_staged_shown_and_unstaged() {
    let served = Served::new();
    let file = served.folder.path().join("new.toml");
    std::fs::write(&file, include_str!("../../../config/examples/edge.toml")).unwrap();
    let (status, said, complaints) = served.millrace(&format!("apply --staged {}", file.display()));
    assert_eq!((status, complaints.as_str()), (0, ""));
    let row = |said: &str| said.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(row(&said), "telnet deny yes 5 0 2");
    assert_eq!(row(&served.millrace("show firewall --staged").1), "telnet deny yes 5 0 2");
    assert_eq!(served.millrace("unstage").1, "nothing is staged\n");
    assert_eq!(*served.fake.told.lock().unwrap(), [format!("stage {}", file.display()), "unstage".into()]);
}

#[test]
fn a_blocklist_is_read_again_by_name() {
    let served = Served::new();
    let (status, answers, _) = served.millrace("reload blocklist scanners");
    assert_eq!((status, answers.trim()), (0, "generation 9: 1 prefixes, 8 bytes"));
    assert_eq!(served.http("POST /api/v1/reload", br#"{"kind":"blocklist","name":"scanners"}"#).0, 200);
    assert_eq!(served.http("POST /api/v1/reload", br#"{"kind":"service","name":"shop"}"#).0, 400);
}

#[test]
fn a_policy_is_compared_confirmed_and_taken_back() {
    let served = Served::new();
    let file = served.folder.path().join("edge.toml");
    std::fs::write(&file, "# nothing").unwrap();
    let file = file.display();
    let (status, answers, _) = served.millrace(&format!("diff {file}"));
    assert_eq!(status, 0);
    assert!(answers.contains("nothing changes") && answers.contains("[cores]"), "{answers}");
    let (_, answers, _) = served.millrace(&format!("diff {file} --json"));
    assert_eq!(serde_json::from_str::<Value>(&answers).unwrap()["restart"][0], "[cores]");
    let (status, answers, _) = served.millrace(&format!("apply {file} --confirm-within 1m"));
    assert_eq!(status, 0);
    assert!(answers.contains("generation 3 is in force for 60 s; `millrace confirm` keeps it"), "{answers}");
    let said = |line: &str| served.millrace(line).1;
    assert_eq!(said("confirm"), "generation 2 is confirmed\n");
    assert_eq!(said("rollback"), "generation 4 is in force\n");
    assert_eq!(serde_json::from_str::<Value>(&said("rollback 7 --json")).unwrap()["generation"], 4);
    assert_eq!(served.millrace("rollback 13"), (1, String::new(), "generation 13 is not kept\n".to_owned()));
    let lines = said("show policy");
    assert!(lines.contains("in force, 42 s left to confirm it") && lines.contains("rollback of 0"), "{lines}");
    let told = served.fake.told.lock().unwrap();
    assert_eq!(told[3..], ["confirm", "rollback None", "rollback Some(7)", "rollback Some(13)"]);
}

#[test]
fn backends_are_drained_and_flushed_by_name() {
    let served = Served::new();
    let client = served.client();
    assert_eq!(client.drain(&Target::Service("shop".into())).unwrap(), Changed { backends: 2, sessions: 7 });
    let error = client.drain(&Target::Backend("shop/x".into())).unwrap_err();
    assert!(matches!(error, ClientError::Refused(Refusal { kind: RefusalKind::NotFound, .. })));
    client.flush(&Target::Backend("shop/shop-a".into())).unwrap();
    assert_eq!(served.http("POST /api/v1/drain", br#"{"kind":"service","name":"shop"}"#).0, 200);
    assert_eq!(served.http("POST /api/v1/drain", br#"{"kind":"service","name":"shop","undo":false}"#).0, 200);
}

#[test]
fn what_was_drained_is_put_back_through_the_same_call() {
    let served = Served::new();
    assert_eq!(served.http("POST /api/v1/drain", br#"{"kind":"service","name":"shop","undo":true}"#).0, 200);
    served.client().undrain(&Target::Backend("shop/shop-a".into())).unwrap();
    let (status, answers, _) = served.millrace("drain backend shop-b --undo");
    assert_eq!((status, answers.as_str()), (0, "1 backend is no longer drained; 3 sessions go on\n"));
    let told = served.fake.told.lock().unwrap();
    let undone = [r#"undrain Service("shop")"#, r#"undrain Backend("shop/shop-a")"#, r#"undrain Backend("shop-b")"#];
    assert_eq!(*told, undone);
}
