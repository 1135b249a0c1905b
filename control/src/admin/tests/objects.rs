//! Objects of the policy over HTTP.

use super::*;

const RULE: &str = "config/firewall.rule/clients-to-shop";

fn rule(name: &str) -> Value {
    json!({"name": name, "action": "allow", "protocol": "udp", "destination_port": ["53"]})
}

#[test]
fn objects_are_listed_read_added_changed_and_removed() {
    let served = Served::new();
    let listed = served.get("config/firewall.rule");
    assert_eq!((listed.status, served.get("config/port").header("etag")), (200, listed.header("etag")));
    let before = listed.document.as_array().unwrap().len();
    let created = served.send("POST", "config/firewall.rule?before=clients-to-shop", "", &rule("dns"));
    assert_eq!((created.status, created.document["generation"].as_u64()), (201, Some(2)), "{created:?}");
    assert_eq!(created.header("location"), Some("/api/v1/config/firewall.rule/dns"));
    let there = served.get("config/firewall.rule/dns");
    assert_eq!((there.status, &there.document), (200, &rule("dns")));
    assert_eq!(there.header("etag"), created.header("etag"));
    let names = served.get("config/firewall.rule").document;
    let names: Vec<_> = names.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    let place = |name: &str| names.iter().position(|it| *it == name).unwrap();
    assert_eq!((names.len(), place("dns") + 1), (before + 1, place("clients-to-shop")));

    let meant = format!("If-Match: {}\r\n", there.header("etag").unwrap());
    let changed = served.send("PATCH", "config/firewall.rule/dns", &meant, &json!({"log": true, "protocol": "tcp"}));
    assert_eq!((changed.status, &changed.document["objects"][0]["object"]["log"]), (200, &json!(true)), "{changed:?}");
    // Whoever still means the state before is too late.
    let late = served.send("PUT", "config/firewall.rule/dns", &meant, &rule("dns"));
    assert_eq!((late.status, late.header("content-type")), (412, Some("application/problem+json")));
    assert_eq!(served.send("PUT", "config/firewall.rule/dns", "", &rule("dns")).status, 428);
    assert_eq!(served.call("DELETE", "config/firewall.rule/dns", "", "").status, 428);
    let replaced = served.send("PUT", "config/firewall.rule/dns", "If-Match: *\r\n", &rule("dns"));
    assert_eq!((replaced.status, replaced.header("etag")), (200, there.header("etag")));
    let removed = served.call("DELETE", "config/firewall.rule/dns", "If-Match: *\r\n", "");
    assert_eq!((removed.status, removed.document["generation"].as_u64()), (200, Some(5)));
    assert_eq!(served.get("config/firewall.rule/dns").status, 404);
    assert_eq!(served.text(), include_str!("../../../../config/examples/edge.toml"), "as if nothing had been");

    let policy = served.get("policy").document;
    assert_eq!((&policy["how"], &policy["of"], &policy["standing"]), (&json!("amend"), &json!(4), &json!("committed")));
    assert!(policy["who"].as_str().is_some_and(|who| !who.is_empty()));
}

#[test]
fn put_adds_what_is_not_there_and_single_tables_are_objects_too() {
    let served = Served::new();
    let added = served.send("PUT", "config/firewall.rule/dns", "If-None-Match: *\r\n", &rule("dns"));
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(served.send("PUT", "config/firewall.rule/dns", "If-None-Match: *\r\n", &rule("dns")).status, 412);
    assert_eq!(served.send("PUT", "config/firewall.rule/other", "", &rule("dns2")).status, 400);
    assert_eq!(served.send("PUT", "config/firewall.rule/gone", "If-Match: \"x\"\r\n", &rule("gone")).status, 404);
    let fragments = served.send("PUT", "config/fragments", "", &json!({"timeout": "2s"}));
    assert_eq!(fragments.status, 201, "{fragments:?}");
    assert_eq!(served.get("config/fragments").document, json!({"timeout": "2s"}));
    assert_eq!(served.get("config/sessions.timeouts").status, 404);
    let backend = json!({"name": "shop-z", "address": "10.0.0.99"});
    let within = served.send("POST", "config/virtual_service.backend?within=shop", "", &backend);
    assert_eq!(within.header("location"), Some("/api/v1/config/virtual_service.backend/shop/shop-z"), "{within:?}");
    assert_eq!(served.get("config/virtual_service.backend/shop/shop-z").document, backend);
    assert_eq!(served.send("POST", "config/virtual_service.backend?within=x", "", &backend).status, 404);
}

/// What has no name is called by its place, in paths as in lists.
#[test]
fn tiers_are_objects_by_their_places() {
    let served = Served::new();
    let service = json!({
        "name": "mail", "address": "198.51.100.40", "protocol": "tcp", "ports": ["25"],
        "backend": [{"name": "mail-a", "address": "10.0.0.41"}],
    });
    assert_eq!(served.send("POST", "config/virtual_service", "", &service).status, 201);
    let tier = |name: &str, address: &str| json!({"backend": [{"name": name, "address": address}]});
    for (number, address) in [(1, "10.0.0.51"), (2, "10.0.0.52")] {
        let wanted = tier(&format!("scan-{number}"), address);
        let added = served.send("POST", "config/virtual_service.tier?within=mail", "", &wanted);
        let place = format!("config/virtual_service.tier/mail/{number}");
        assert_eq!((added.status, added.header("location")), (201, Some(&*format!("/api/v1/{place}"))), "{added:?}");
        assert_eq!(served.get(&place).document, wanted);
    }
    let instance = json!({"name": "scan-3", "address": "10.0.0.53"});
    let added = served.send("POST", "config/virtual_service.tier.backend?within=mail%2F2", "", &instance);
    let place = "config/virtual_service.tier.backend/mail/2/scan-3";
    assert_eq!((added.status, added.header("location")), (201, Some(&*format!("/api/v1/{place}"))), "{added:?}");
    assert_eq!(served.send("PATCH", place, "If-Match: *\r\n", &json!({"weight": 3})).status, 200);
    let fourth = json!({"name": "scan-4", "address": "10.0.0.54"});
    assert_eq!(served.send("PUT", "config/virtual_service.tier.backend/mail/1/scan-4", "", &fourth).status, 201);
    let health = "config/virtual_service.tier.health/mail/2";
    assert_eq!(served.send("PUT", health, "", &json!({"kind": "tcp", "port": 25})).status, 201);
    assert_eq!(served.send("PUT", "config/virtual_service.tier/mail/3", "", &tier("x", "10.0.0.9")).status, 400);
    assert_eq!(served.call("DELETE", "config/virtual_service.tier/mail/1", "If-Match: *\r\n", "").status, 200);
    assert_eq!(served.get("config/virtual_service.tier.health/mail/1").document["kind"], "tcp");
    let listed = served.get("config/virtual_service.tier.backend").document;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mail/1/scan-2", "mail/1/scan-3"]);
}

/// What belongs to something says to what, and what does not takes no other's place.
#[test]
fn what_is_added_belongs_where_its_kind_does() {
    let served = Served::new();
    let before = served.text();
    let create = |kind: &str, within: &str, object: Value| {
        let change = json!({"do": "create", "kind": kind, "within": within, "object": object});
        served.send("POST", "transaction", "", &json!({ "changes": [change] }))
    };
    let sessions = create("sessions", "x", json!({"capacity": 1_000_000}));
    assert_eq!(sessions.status, 400, "{sessions:?}");
    assert_eq!(create("firewall.rule", "x", rule("dns")).status, 400);
    assert_eq!(create("virtual_service.backend", "", json!({"name": "shop", "address": "10.0.0.9"})).status, 400);
    assert_eq!(served.text(), before);
}

#[test]
fn what_would_not_be_valid_is_refused_with_the_key_and_changes_nothing() {
    let served = Served::new();
    let before = served.text();
    let wrong = json!({"name": "dns", "action": "alow", "colour": 1, "protocol": "udp"});
    let refused = served.send("POST", "config/firewall.rule", "", &wrong);
    assert_eq!(refused.status, 422);
    assert_eq!(refused.document["type"], "urn:millrace:policy-invalid");
    let errors = refused.document["errors"].as_array().unwrap();
    let of = |code: &str| errors.iter().find(|error| error["code"] == code).unwrap();
    assert!(of("unknown-word")["path"].as_str().unwrap().starts_with("firewall.rule["));
    assert_eq!(of("unknown-word")["advice"], "did you mean `allow`?");
    assert!(of("unknown-key")["detail"].as_str().unwrap().contains("`colour`"));
    let restart = served.send("PATCH", "config/cores", "If-Match: *\r\n", &json!({"workers": [1, 2]}));
    assert_eq!((restart.status, &restart.document["kind"]), (409, &json!("needs-restart")));
    assert_eq!((served.text(), served.get("policy").document["generation"].as_u64()), (before, Some(1)));
}

#[test]
fn a_transaction_is_one_generation_or_none() {
    let served = Served::new();
    let changes = json!({"changes": [
        {"do": "create", "kind": "firewall.rule", "object": rule("dns")},
        {"do": "merge", "kind": "virtual_service.backend", "name": "shop/shop-a", "object": {"weight": 9}, "if_match": "*"},
        {"do": "move", "kind": "firewall.rule", "name": "dns", "before": "clients-to-shop", "if_match": "*"},
    ]});
    let tag = || format!("If-Match: {}\r\n", served.get("config/port").header("etag").unwrap());
    let first = tag();
    let done = served.send("POST", "transaction", "", &changes);
    assert_eq!((done.status, done.document["generation"].as_u64()), (200, Some(2)), "{done:?}");
    let text = served.text();
    let again = served.send("POST", "transaction", "", &changes);
    assert_eq!((again.status, served.text()), (409, text.clone()));
    assert!(again.document["detail"].as_str().unwrap().starts_with("change 1: "), "{again:?}");
    let delete = json!({"changes": [{"do": "delete", "kind": "firewall.rule", "name": "dns"}]});
    assert_eq!(served.send("POST", "transaction", "", &delete).status, 428);
    assert_eq!(served.send("POST", "transaction", &first, &delete).status, 412);
    let trial = json!({"changes": delete["changes"], "confirm_within_ms": 60_000});
    let tried = served.send("POST", "transaction", &tag(), &trial);
    assert_eq!((tried.status, &tried.document["confirm_within_ms"]), (200, &json!(60_000)), "{tried:?}");
    assert_eq!(
        served.send("POST", "config/firewall.rule", "", &rule("more")).status,
        409,
        "nothing is built on a trial"
    );
    assert_eq!(served.call("POST", "rollback", "", "").status, 200);
    assert_eq!(served.text(), text);
    let many = json!({"changes": vec![delete["changes"][0].clone(); 1_001]});
    let refused = served.send("POST", "transaction", "If-Match: *\r\n", &many);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.document["detail"], "1000 changes at most are made at once");
}

/// Nothing says that a change is under way when none is, whichever way it came and however it ended.
#[test]
fn no_change_is_under_way_once_it_has_ended() {
    let served = Served::new();
    let idle = || assert_eq!(served.get("progress").document, Value::Null);
    assert_eq!(served.send("POST", "config/firewall.rule", "", &rule("dns")).status, 201);
    idle();
    assert_eq!(served.send("POST", "config/firewall.rule", "", &json!({"name": "x"})).status, 422);
    idle();
    assert_eq!(served.call("POST", "rollback", "", "").status, 200);
    idle();
}

/// API-08: what many changed at once is what some order of their changes makes, and nobody's change is lost.
#[test]
fn many_who_change_objects_at_once_lose_none_of_their_changes() {
    const CALLERS: usize = 32;
    let each: usize = std::env::var("MILLRACE_MUTATIONS").map_or(4, |each| each.parse().unwrap());
    let served = Served::new();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let served = &served;
            scope.spawn(move || {
                for number in 0..each {
                    let name = format!("c{caller}-{number}");
                    let added = served.send("POST", "config/firewall.rule", "", &rule(&name));
                    assert_eq!(added.status, 201, "{added:?}");
                    if number % 2 == 1 {
                        let place = format!("config/firewall.rule/c{caller}-{}", number - 1);
                        assert_eq!(served.call("DELETE", &place, "If-Match: *\r\n", "").status, 200);
                    }
                    // One object that all of them change: whoever was overtaken reads it again.
                    loop {
                        let there = served.get(RULE);
                        let meant = format!("If-Match: {}\r\n", there.header("etag").unwrap());
                        let count = there.document["new_sessions_per_second"].as_u64().unwrap_or(0) + 1;
                        let counted = json!({"new_sessions_per_second": count});
                        match served.send("PATCH", RULE, &meant, &counted).status {
                            200 => break,
                            412 => {}
                            other => panic!("{other}"),
                        }
                    }
                }
            });
        }
    });
    let count = served.get(RULE).document["new_sessions_per_second"].as_u64();
    assert_eq!(count, Some((CALLERS * each) as u64));
    let rules = served.get("config/firewall.rule").document;
    let added = rules.as_array().unwrap().iter().filter(|it| it["name"].as_str().unwrap().starts_with('c'));
    let left = added.filter(|it| it["name"].as_str().unwrap().contains('-') && it["name"] != "clients-to-shop").count();
    assert_eq!(left, CALLERS * each.div_ceil(2));
    let generations = CALLERS * (2 * each + each / 2) + 1;
    assert_eq!(served.get("policy").document["generation"].as_u64(), Some(generations as u64));
}
