//! The table of named cases (`fixtures/cases`): broken, hostile and odd packets through the whole pipeline, each with what
//! has to come out and the counter that says why nothing does. What the language of the table refuses is tested here too.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Policy;
use millrace_tests::case::{Case, Family, Table, run, run_again_after};
use millrace_tests::rig::Snapshot;
use millrace_tests::{Layout, Rig, TWO_PORTS};

/// At least so many cases have names.
const CASES_MIN: usize = 150;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases")
}

/// The policy of this name: of the files it names, one behind the other.
fn policy_text(name: &str) -> String {
    let mut text = TWO_PORTS.to_owned();
    for part in name.split('+') {
        let path = folder().join("policies").join(format!("{part}.toml"));
        text += &fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
    text
}

/// Policies by name, each compiled once.
#[derive(Default)]
struct Policies(HashMap<String, (Policy, Arc<Snapshot>)>);

impl Policies {
    /// An appliance with this policy.
    fn rig(&mut self, name: &str, layout: Layout) -> Rig {
        let (policy, snapshot) = self.0.entry(name.to_owned()).or_insert_with(|| Rig::tables(&policy_text(name)));
        Rig::over(policy.clone(), Arc::clone(snapshot), layout)
    }
}

/// Plays cases, each in a rig of its own.
fn play(layout: Layout, chosen: impl Fn(&Case) -> bool) {
    play_in(layout, |rig| rig, chosen);
}

/// As [`play`], in rigs made ready for it.
fn play_in(layout: Layout, ready: impl Fn(Rig) -> Rig, chosen: impl Fn(&Case) -> bool) {
    let mut policies = Policies::default();
    play_by(chosen, |case| run(case, || ready(policies.rig(&case.policy, layout))));
}

/// Has cases played, and tells of all that end in another way than they should.
fn play_by(chosen: impl Fn(&Case) -> bool, mut play: impl FnMut(&Case) -> Result<(), String>) {
    let table = Table::load(&folder()).unwrap_or_else(|faults| panic!("the table is not right:\n{faults}"));
    assert!(table.names >= CASES_MIN, "{} cases", table.names);
    let mut failed = Vec::new();
    let cases: Vec<_> = table.cases.iter().filter(|case| chosen(case)).collect();
    for case in &cases {
        let Case { name, says, family, .. } = case;
        match play(case) {
            Ok(()) => println!("ok      {name} ({family:?})"),
            Err(why) => failed.push(format!("{name} ({family:?}): {says}\n  {why}")),
        }
    }
    println!("{} cases by name, {} in their families", table.names, cases.len());
    assert!(failed.is_empty(), "{} of {} cases:\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}

#[test]
fn every_named_case_ends_as_it_should() {
    play(Layout::default(), |_| true);
}

/// Whichever worker receives a packet, the outcome is the same; but for source NAT, whose ports tell the worker.
#[test]
fn two_workers_end_every_named_case_alike() {
    play(Layout { workers: 2, queues: 1, ..Layout::default() }, |case| !case.policy.contains("hidden"));
}

/// Who looks on changes nothing: every packet traced, and so treated alone.
#[test]
fn watched_packets_end_every_named_case_alike() {
    play_in(Layout::default(), Rig::watched, |_| true);
    play_in(Layout { workers: 2, ..Layout::default() }, Rig::watched, |case| !case.policy.contains("hidden"));
}

/// RLD-09: the whole table, a reload of the same policy, and the whole table again on the same appliances: the same ends, the same
/// counters.
#[test]
fn every_named_case_ends_alike_after_a_reload() {
    let mut policies = Policies::default();
    play_by(
        |_| true,
        |case| {
            let text = policy_text(&case.policy);
            run_again_after(case, || policies.rig(&case.policy, Layout::default()), |rig| rig.publish(&text))
        },
    );
}

/// A case around this script.
fn written(script: &str) -> String {
    format!(
        "[[case]]\nname = \"a-case\"\nsays = \"It is tried.\"\nsource = \"nowhere\"\nfamily = \"both\"\nscript = '''\n{script}\n'''\n"
    )
}

fn fault(text: &str) -> String {
    Table::read([("file.toml", text)]).expect_err(text)
}

#[test]
fn what_is_not_understood_is_told_with_its_case_and_line() {
    for (script, why) in [
        ("in wan udp client:1 > server:53", "say what comes of it"),
        ("\nin wan udp client:1 > server:53 purple\npass", "no word is `purple`"),
        ("in wan udp client:1 > server:53 colour=3\npass", "no word is `colour=`"),
        ("in wan udp client:1 > server:53 syn\npass", "is not TCP"),
        ("in wan udp client > server:53\npass", "needs a port"),
        ("in wan udp nobody:1 > server:53\npass", "`nobody` is neither a station nor an address"),
        ("in lan udp client:1 > server:53\npass", "no side is `lan`"),
        ("in wan udp client:1 > server:53\ndrop bad_luck", "no counter is `bad_luck`"),
        ("in wan udp client:1 > server:53\npass 2", "1 packets have come in"),
        ("in wan udp client:1 > server:53 length=70000\npass", "no number that fits"),
        ("in wan ip 4 client > server ( udp client:1 > server:53\npass", "a parenthesis is not closed"),
        ("in wan $d\npass", "no packet was named `d`"),
        ("pass", "nothing has come in"),
        ("dance", "no line begins with `dance`"),
        ("", "nothing happens in it"),
    ] {
        let told = fault(&written(script));
        assert!(told.contains("file.toml: a-case: V4: ") && told.contains(why), "{script}: {told}");
    }
    assert!(fault(&written("\nin wan udp client:1 > server:53 purple\npass")).contains("line 2, `in wan udp"));
}

#[test]
fn a_case_is_written_whole_and_its_name_is_its_own() {
    let right = written("in wan udp client:1 > server:53\npass");
    let table = Table::read([("file.toml", right.as_str())]).unwrap();
    assert_eq!(
        (table.names, table.cases.iter().map(|case| case.family).collect::<Vec<_>>()),
        (1, vec![Family::V4, Family::V6])
    );
    assert!(fault(&format!("{right}{right}")).contains("a-case: another case has this name"));
    assert!(fault(&right.replace("says = \"It is tried.\"", "")).contains("missing field `says`"));
    assert!(fault(&right.replace("It is tried.", "it is tried")).contains("`says` is a sentence"));
    assert!(fault(&right.replace("a-case", "A case")).contains("a name is of"));
    assert!(fault(&right.replace("family", "why = 3\nfamily")).contains("unknown field `why`"));
    assert!(fault(&right.replace("both", "v5")).contains("v5"));
}

/// The table must be able to fail: a case that expects what does not happen is told by its name.
#[test]
fn a_case_that_ends_otherwise_is_told() {
    let mut policies = Policies::default();
    for (script, why) in [
        ("in wan udp client:1 > server:53\ndrop firewall_denied", "wanted {\"firewall_denied\": 1}, counted {}"),
        ("in wan udp client:1 > server:53 version=9\npass", "wanted Wire"),
        ("in wan udp client:1 > server:53\npass\nsessions 2", "sessions"),
        ("in wan udp client:1 > server:53\npass\nalarms 1", "claims to addresses"),
    ] {
        let table = Table::read([("file.toml", written(script).as_str())]).unwrap();
        for case in &table.cases {
            let told = run(case, || policies.rig("open", Layout::default())).unwrap_err();
            assert!(told.contains(why), "{script}: {told}");
        }
    }
}
