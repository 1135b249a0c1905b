//! Texts as operators write them, one change each, and the text afterwards.

use super::*;

const TEXT: &str = "\
# The whole of it.
[appliance]
name = \"edge-1\" # who we are

[fragments]
timeout = \"2s\"

# What may pass.
[firewall]
default = \"deny\"

# Clients.
[[firewall.rule]]
name = \"web\"      # aligned
action = \"allow\"
destination_port = [ \"80\",
  \"443\" ]

[[firewall.rule]]
name = \"ping\"
action = \"allow\"
protocol = \"icmp\"

[[virtual_service]]
name = \"shop\"
address = \"198.51.100.10\"
health = { kind = \"tcp\" } # how
backend = [{ name = \"a\", address = \"10.0.0.11\" }]

[[virtual_service]]
name = \"files\"
[[virtual_service.backend]]
name = \"b\"
address = \"10.0.0.12\"

[[route]]
to = \"10.0.0.0/8\"
via = \"10.1.0.1\"
";

fn document() -> Document {
    Document::parse(TEXT).unwrap()
}

fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

#[test]
fn what_is_not_changed_stays_as_it_was_written() {
    assert_eq!(document().text().unwrap(), TEXT);
    let mut same = document();
    for kind in ["appliance", "firewall", "firewall.rule", "virtual_service", "virtual_service.backend", "route"] {
        for Entry { name, table } in same.entries(kind).unwrap() {
            same.replace(kind, &name, &table).unwrap();
        }
    }
    assert_eq!(same.entries("virtual_service").unwrap(), document().entries("virtual_service").unwrap());
    let lines = |text: &str| text.lines().filter(|line| line.contains('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&same.text().unwrap()), lines(TEXT));
}

#[test]
fn a_key_is_changed_in_its_place_and_its_comment_stays() {
    let mut document = document();
    let mut web = document.entry("firewall.rule", "web").unwrap();
    web.insert("action".into(), "deny".into());
    web.insert("log".into(), true.into());
    document.replace("firewall.rule", "web", &web).unwrap();
    let expected = TEXT.replacen("action = \"allow\"\ndest", "action = \"deny\"\ndest", 1).replacen(
        "\"443\" ]\n",
        "\"443\" ]\nlog = true\n",
        1,
    );
    assert_eq!(document.text().unwrap(), expected);
    document.replace("firewall.rule", "web", &table("name = \"www\"\naction = \"deny\"")).unwrap();
    assert!(document.text().unwrap().contains("# Clients.\n[[firewall.rule]]\nname = \"www\"      # aligned\naction"));
    assert!(!document.text().unwrap().contains("443"));
}

#[test]
fn an_object_is_added_where_it_is_wanted() {
    let names = |document: &Document| {
        let text = document.text().unwrap();
        let entries = Document::parse(&text).unwrap().entries("firewall.rule").unwrap();
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    let mut document = document();
    let rule = |name: &str| table(&format!("name = \"{name}\"\naction = \"deny\""));
    let before = Site::Before("web".into());
    assert_eq!(document.insert("firewall.rule", "", &rule("first"), &before).unwrap(), "first");
    document.insert("firewall.rule", "", &rule("middle"), &Site::After("web".into())).unwrap();
    document.insert("firewall.rule", "", &rule("last"), &Site::Last).unwrap();
    assert_eq!(names(&document), ["first", "web", "middle", "ping", "last"]);
    document.relocate("firewall.rule", "last", &Site::Before("first".into())).unwrap();
    document.relocate("firewall.rule", "web", &Site::Last).unwrap();
    document.relocate("firewall.rule", "ping", &Site::Before("ping".into())).unwrap();
    assert_eq!(names(&document), ["last", "first", "middle", "ping", "web"]);
    let text = document.text().unwrap();
    assert!(text.contains("# Clients.\n[[firewall.rule]]\nname = \"web\""), "its comment goes with it: {text}");
    assert!(text.find("[firewall]").unwrap() < text.find("[[firewall.rule]]").unwrap());
    assert!(text.find("\"web\"").unwrap() < text.find("[[virtual_service]]").unwrap());
    let again = document.insert("firewall.rule", "", &rule("web"), &Site::Last);
    assert_eq!(again, Err(EditError::Exists("firewall.rule".into(), "web".into())));
    let nowhere = document.insert("firewall.rule", "", &rule("x"), &Site::After("y".into()));
    assert_eq!(nowhere, Err(EditError::NotThere("firewall.rule".into(), "y".into())));
}

#[test]
fn objects_below_others_are_reached_however_they_are_written() {
    let mut document = document();
    let listed: Vec<_> =
        document.entries("virtual_service.backend").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, ["shop/a", "files/b"]);
    let backend = table("name = \"c\"\naddress = \"10.0.0.13\"");
    assert_eq!(document.insert("virtual_service.backend", "shop", &backend, &Site::Last).unwrap(), "shop/c");
    document.replace("virtual_service.health", "shop", &table("kind = \"icmp\"")).unwrap();
    document.insert("virtual_service.health", "files", &table("kind = \"tcp\""), &Site::Last).unwrap();
    document.remove("virtual_service.backend", "files/b").unwrap();
    let text = document.text().unwrap();
    let read = Document::parse(&text).unwrap();
    assert_eq!(read.entry("virtual_service.backend", "shop/c").unwrap(), backend, "{text}");
    assert_eq!(read.entry("virtual_service", "shop").unwrap()["health"]["kind"].as_str(), Some("icmp"), "{text}");
    assert_eq!(read.entries("virtual_service.backend").unwrap().len(), 2, "{text}");
    assert!(read.entry("virtual_service", "files").unwrap().get("backend").is_none(), "{text}");
    let elsewhere = document.insert("virtual_service.backend", "mail", &backend, &Site::Last);
    assert_eq!(elsewhere, Err(EditError::NotThere("virtual_service".into(), "mail".into())));
}

#[test]
fn single_tables_come_and_go_and_names_may_have_slashes() {
    let mut document = document();
    document.remove("route", "10.0.0.0/8").unwrap();
    document.remove("fragments", "").unwrap();
    assert!(document.entries("route").unwrap().is_empty());
    document.insert("sessions.timeouts", "", &table("tcp_syn = \"5s\""), &Site::Last).unwrap();
    let text = document.text().unwrap();
    assert!(text.ends_with("[sessions.timeouts]\ntcp_syn = \"5s\"\n") && !text.contains("fragments"), "{text}");
    assert_eq!(document.remove("fragments", ""), Err(EditError::NotThere("fragments".into(), String::new())));
    let refused = document.entries("firewall.rules").unwrap_err().to_string();
    assert_eq!(refused, "there is no kind of object \"firewall.rules\"; did you mean `firewall.rule`?");
    assert!(matches!(document.insert("cores", "", &table(""), &Site::After("x".into())), Err(EditError::Single(_))));
    assert!(matches!(Document::parse("no toml"), Err(EditError::NotToml(_))));
}

#[test]
fn lists_of_tables_are_matched_by_name() {
    let mut document = document();
    let mut firewall = document.entry("firewall", "").unwrap();
    firewall["rule"].as_array_mut().unwrap().reverse();
    document.replace("firewall", "", &firewall).unwrap();
    let text = document.text().unwrap();
    assert!(text.find("\"ping\"").unwrap() < text.find("\"web\"      # aligned").unwrap(), "{text}");
    assert_eq!(Document::parse(&text).unwrap().entry("firewall", "").unwrap(), firewall);
    firewall.insert("rule".into(), toml::Value::Array(Vec::new()));
    document.replace("firewall", "", &firewall).unwrap();
    assert!(document.entries("firewall.rule").unwrap().is_empty());
}

/// Tables of one kind between those of others, without a header above them.
const SCATTERED: &str = "\
[[port]]
name = \"a\"

[[firewall.rule]]
name = \"r1\"

[[route]]
to = \"10.0.0.0/8\"

[[virtual_service]]
name = \"shop\"

[[virtual_service.backend]]
name = \"a\"

[[route]]
to = \"11.0.0.0/8\"

[virtual_service.health]
kind = \"tcp\"

[[virtual_service.backend]]
name = \"b\"

[[firewall.rule]]
name = \"r2\"

[[port]]
name = \"b\"

[firewall]
default = \"deny\"
";

/// What a text says, in the order in which it says it.
fn says(document: &Document) -> Vec<(String, toml::Table)> {
    let kinds = ["port", "firewall.rule", "route", "virtual_service", "virtual_service.backend"];
    let entries = kinds.into_iter().flat_map(|kind| document.entries(kind).unwrap());
    entries.map(|Entry { name, table }| (name, table)).collect()
}

#[test]
fn wherever_an_object_is_put_the_text_says_so() {
    for (kind, names) in [("firewall.rule", ["r1", "r2"]), ("virtual_service", ["shop", "shop"]), ("port", ["a", "b"])]
    {
        let [before, after] = [names.map(|name| Site::Before(name.into())), names.map(|name| Site::After(name.into()))];
        for site in before.iter().chain(&after).chain([&Site::Last]) {
            let mut changed = Document::parse(SCATTERED).unwrap();
            let wanted = table("name = \"new\"\nbackend = [{ name = \"own\" }]");
            changed.insert(kind, "", &wanted, site).unwrap();
            let text = changed.text().unwrap();
            assert_eq!(says(&Document::parse(&text).unwrap()), says(&changed), "{kind} {site:?}:\n{text}");
            changed.relocate(kind, names[1], &Site::Before("new".into())).unwrap();
            let text = changed.text().unwrap();
            assert_eq!(says(&Document::parse(&text).unwrap()), says(&changed), "{kind} {site:?}, moved:\n{text}");
        }
    }
}

#[test]
fn a_rule_that_a_whole_firewall_begins_with_is_the_first_of_the_text() {
    let mut changed = Document::parse(SCATTERED).unwrap();
    let rules = ["new", "r1", "r2"].map(|name| format!("[[rule]]\nname = \"{name}\"\n")).concat();
    changed.replace("firewall", "", &table(&rules)).unwrap();
    let text = changed.text().unwrap();
    assert_eq!(says(&Document::parse(&text).unwrap()), says(&changed), "{text}");
    assert_eq!(Document::parse(&text).unwrap().entries("firewall.rule").unwrap()[0].name, "new");
}

#[test]
fn the_last_of_a_table_without_a_header_can_go() {
    let mut changed =
        Document::parse("[[firewall.rule]]\nname = \"only\"\n[sessions.timeouts]\nudp = \"3s\"\n").unwrap();
    changed.remove("firewall.rule", "only").unwrap();
    changed.remove("sessions.timeouts", "").unwrap();
    assert_eq!(changed.text().unwrap().trim(), "");
}

/// A service's tables may stand apart: what comes behind it in the document would be written between them.
const TORN: &str = "\
[[virtual_service]]
name = \"shop\" # ours

[[virtual_service.backend]]
name = \"a\"

[virtual_service.health]
kind = \"tcp\"

[[virtual_service.backend]]
name = \"b\"
";

#[test]
fn a_new_service_takes_no_backend_of_another() {
    for site in [Site::Last, Site::Before("shop".into()), Site::After("shop".into())] {
        let mut changed = Document::parse(TORN).unwrap();
        let wanted = table("name = \"new\"\nbackend = [{ name = \"own\" }]");
        changed.insert("virtual_service", "", &wanted, &site).unwrap();
        let text = changed.text().unwrap();
        assert_eq!(says(&Document::parse(&text).unwrap()), says(&changed), "{site:?}:\n{text}");
        assert!(text.contains("name = \"shop\" # ours"), "{text}");
    }
}

#[test]
fn objects_are_added_to_what_they_belong_to_and_to_nothing_else() {
    let object = table("name = \"x\"\naddress = \"10.0.0.1\"");
    let text = format!("{TEXT}[sessions]\ncapacity = 7\n");
    for (kind, within, belongs) in [
        ("sessions", "x", false),
        ("firewall.rule", "web", false),
        ("virtual_service", "shop", false),
        ("virtual_service.backend", "", true),
        ("virtual_service.backend", "shop/a", true),
        ("virtual_service.backend", "shop/", true),
        ("virtual_service.health", "", true),
        ("virtual_service.tier.backend", "files", true),
    ] {
        let mut changed = Document::parse(&text).unwrap();
        let refused = changed.insert(kind, within, &object, &Site::Last);
        assert_eq!(refused, Err(EditError::Within(kind.into(), belongs)), "{kind} {within}");
        assert_eq!(changed.text().unwrap(), text);
    }
    let mut changed = Document::parse(&text).unwrap();
    let there = changed.insert("sessions", "", &object, &Site::Last);
    assert_eq!(there, Err(EditError::Exists("sessions".into(), String::new())));
}

#[test]
fn what_has_no_name_is_called_by_its_place() {
    let mut document = document();
    let tier =
        |algorithm: &str| table(&format!("algorithm = \"{algorithm}\"\nbackend = [{{ name = \"{algorithm}\" }}]"));
    for (algorithm, name) in [("maglev", "shop/1"), ("round-robin", "shop/2")] {
        assert_eq!(document.insert("virtual_service.tier", "shop", &tier(algorithm), &Site::Last).unwrap(), name);
    }
    let first = document.insert("virtual_service.tier", "shop", &tier("least-load"), &Site::Before("1".into()));
    assert_eq!(first.unwrap(), "shop/1");
    let names = |document: &Document, kind: &str| {
        document.entries(kind).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&document, "virtual_service.tier.backend"),
        ["shop/1/least-load", "shop/2/maglev", "shop/3/round-robin"]
    );
    assert_eq!(
        document.entry("virtual_service.tier.backend", "shop/2/maglev").unwrap()["name"].as_str(),
        Some("maglev")
    );
    let added = document.insert("virtual_service.tier.backend", "shop/3", &table("name = \"x\""), &Site::Last);
    assert_eq!(added.unwrap(), "shop/3/x");
    assert_eq!(document.relocate("virtual_service.tier", "shop/1", &Site::After("2".into())).unwrap(), "shop/2");
    assert_eq!(document.relocate("virtual_service.tier", "shop/3", &Site::Before("1".into())).unwrap(), "shop/1");
    let expected = ["shop/1/round-robin", "shop/1/x", "shop/2/maglev", "shop/3/least-load"];
    assert_eq!(names(&document, "virtual_service.tier.backend"), expected);
    let text = document.text().unwrap();
    let outlined = crate::outline(&text).into_iter().filter(|object| object.kind == "virtual_service.tier.backend");
    assert_eq!(outlined.map(|object| object.name).collect::<Vec<_>>(), expected, "diff calls them the same");
    document.remove("virtual_service.tier", "shop/2").unwrap();
    assert_eq!(names(&document, "virtual_service.tier"), ["shop/1", "shop/2"]);
}

#[test]
fn objects_of_every_kind_are_found_by_the_names_they_are_listed_by() {
    let full = include_str!("../full.toml");
    let document = Document::parse(full).unwrap();
    for (kind, form) in forms().iter().filter(|(kind, _)| !kind.is_empty()) {
        let entries = document.entries(kind).unwrap();
        assert!(!entries.is_empty(), "{kind}");
        for Entry { name, table } in &entries {
            assert_eq!(document.entry(kind, name).as_ref(), Ok(table), "{kind} {name}");
            let mut changed = document.clone();
            assert_eq!(changed.replace(kind, name, table).as_ref(), Ok(name), "{kind}");
            assert_eq!(changed.text().unwrap(), full, "{kind} {name}");
            changed.remove(kind, name).unwrap();
            assert_eq!(changed.entries(kind).unwrap().len() + 1, entries.len(), "{kind} {name}");
            let within = if form.several { outer(kind, name).unwrap_or_default() } else { name };
            let again = changed.insert(kind, within, table, &Site::Last).unwrap();
            assert_eq!(changed.entry(kind, &again).as_ref(), Ok(table), "{kind} {name} is {again}");
            let text = changed.text().unwrap();
            let read = Document::parse(&text).unwrap();
            assert_eq!(read.entry(kind, &again).as_ref(), Ok(table), "{kind} {again}: {text}");
        }
    }
}

#[test]
fn the_same_name_again_is_numbered() {
    let mut document = document();
    for _ in 0..2 {
        // As a file may have it; whether it may is for its reader to say.
        let text = format!("{}[[route]]\nto = \"10.0.0.0/8\"\n", document.text().unwrap());
        document = Document::parse(&text).unwrap();
    }
    let names: Vec<_> = document.entries("route").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["10.0.0.0/8", "10.0.0.0/8 #2", "10.0.0.0/8 #3"]);
    for name in names {
        document.entry("route", &name).unwrap();
    }
    for none in ["10.0.0.0/8 #1", "10.0.0.0/8 #4", " #2", "#2", ""] {
        assert!(document.entry("route", none).is_err(), "{none}");
    }
}

#[test]
fn an_empty_list_takes_a_first_object() {
    let mut document = Document::parse("[firewall]\nrule = []\n").unwrap();
    document.insert("firewall.rule", "", &table("name = \"a\""), &Site::Last).unwrap();
    assert_eq!(Document::parse(&document.text().unwrap()).unwrap().entries("firewall.rule").unwrap().len(), 1);
}

#[test]
fn the_last_object_below_a_table_without_a_header_can_be_removed() {
    for (text, kind, name) in [
        ("[[firewall.rule]]\nname = \"a\"\n", "firewall.rule", "a"),
        ("[sessions.timeouts]\ntcp_syn = \"5s\"\n", "sessions.timeouts", ""),
        ("sessions.timeouts.tcp_syn = \"5s\"\n", "sessions.timeouts", ""),
    ] {
        let mut document = Document::parse(text).unwrap();
        document.remove(kind, name).unwrap();
        assert_eq!(document.text().unwrap().trim(), "", "{text}");
    }
}
