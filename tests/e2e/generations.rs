//! Policies follow each other under real traffic: applied, compared, confirmed or not, rolled back, resumed after a kill.

use std::time::Duration;

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, Web, eventually, number_from_environment};
use serde_json::Value;

/// `edge` with one more rule, named after a number.
fn numbered(edge: &Configuration, number: u64) -> Configuration {
    let rule = format!("name = \"number-{number}\"\naction = \"deny\"\nsource = [\"203.0.113.{}/32\"]", number % 250);
    edge.clone().with_first_rule(&rule)
}

fn generation(appliance: &Appliance<'_>) -> u64 {
    appliance.show("policy")["generation"].as_u64().expect("show policy has a generation")
}

fn first_rule(appliance: &Appliance<'_>) -> String {
    appliance.show("firewall")["rules"][0]["name"].as_str().unwrap_or_default().to_owned()
}

fn generation_said(said: &str) -> u64 {
    let document: Value = serde_json::from_str(said).expect("--json is JSON");
    document["generation"].as_u64().expect("with the generation")
}

/// What is compared before it is tried, applied on trial and taken back, applied for good, and rolled back; a download of each
/// family goes on through all of it.
#[test]
fn policies_are_compared_tried_confirmed_and_rolled_back_under_traffic() {
    let test = "policies_are_compared_tried_confirmed_and_rolled_back_under_traffic";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let edge = lab.edge();
    let appliance = Appliance::start(&lab, &edge);
    let mut downloads =
        [("198.51.100.10", 0), ("[2001:db8:51::10]", 1)].map(|(address, number)| claims.download(address, number));
    eventually(5, "the downloads have begun", || claims.downloaded(0) > 0 && claims.downloaded(1) > 0);
    assert_eq!(generation(&appliance), 1);

    let one = lab.file("one.toml");
    std::fs::write(&one, numbered(&edge, 1).text()).expect("the lab's directory takes a file");
    let ask = |line: &str| {
        let done = appliance.ask(&format!("{line} {}", one.display()));
        assert!(done.success, "{line}: {}", done.err);
        done.out
    };
    let plan = ask("diff");
    assert!(plan.contains("+ firewall.rule \"number-1\"") && plan.contains("1 added, 0 removed, 0 changed"), "{plan}");
    assert_eq!(generation(&appliance), 1, "nothing was changed");

    // Nobody confirms: the policy before comes back by itself.
    let tried = ask("apply --confirm-within 10s --json");
    let refused = appliance.apply(&numbered(&edge, 2));
    assert!(!refused.success && refused.err.contains("waits to be confirmed"), "{}", refused.err);
    assert_eq!((generation_said(&tried), first_rule(&appliance).as_str()), (2, "number-1"));
    eventually(20, "the policy before is back", || generation(&appliance) == 3);
    assert_eq!(first_rule(&appliance), "clients-to-shop");
    assert!(!appliance.ask("confirm").success, "too late");

    ask("apply --confirm-within 60s");
    assert!(appliance.ask("confirm").success);
    assert_eq!((generation(&appliance), first_rule(&appliance).as_str()), (4, "number-1"));
    assert!(ask("apply").contains("nothing to change: generation 4 is in force"));
    let back = appliance.ask("rollback 1 --json");
    assert_eq!((generation_said(&back.out), first_rule(&appliance).as_str()), (5, "clients-to-shop"), "{}", back.err);

    let policy = appliance.show("policy");
    let history = policy["history"].as_array().expect("the history is a list");
    let standings: Vec<_> = history.iter().map(|it| (it["generation"].as_u64(), it["standing"].as_str())).collect();
    let wanted = [(4, "committed"), (3, "committed"), (2, "withdrawn"), (1, "committed")];
    assert_eq!(standings, wanted.map(|(number, standing)| (Some(number), Some(standing))));
    assert_eq!(
        (policy["how"].as_str(), policy["of"].as_u64(), policy["who"].as_str()),
        (Some("rollback"), Some(1), Some("root"))
    );

    eventually(60, "the downloads have ended", || downloads.iter_mut().all(|download| !download.running()));
    assert_eq!([claims.downloaded(0), claims.downloaded(1)], [Web::SLOW; 2], "none was cut");
    claims.clients_reach_the_shop();
    appliance.stop();
}

/// CRS-01: killed in the middle of applying, it comes up with the last generation that it acknowledged, or the one under way.
/// `MILLRACE_KILLS` sets how often.
#[test]
fn an_appliance_that_is_killed_while_it_applies_resumes_what_it_acknowledged() {
    let test = "an_appliance_that_is_killed_while_it_applies_resumes_what_it_acknowledged";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let edge = lab.edge();
    let (mut acknowledged, mut number) = (0, 0);
    for round in 0..number_from_environment("MILLRACE_KILLS", 5) {
        let mut appliance = Appliance::resume(&lab, &edge);
        let found = rule_number(&appliance);
        assert!(
            found == acknowledged || found == number,
            "round {round}: {found}; {acknowledged} acknowledged of {number}"
        );
        for _ in 0..=round % 4 {
            number += 1;
            let applied = appliance.apply(&numbered(&edge, number));
            assert!(applied.success, "{}", applied.err);
            acknowledged = number;
        }
        // One more is on its way when the appliance is killed.
        number += 1;
        std::thread::scope(|scope| {
            let applying = scope.spawn(|| appliance.apply(&numbered(&edge, number)));
            // Nothing is waited for: the moment of the kill moves through the call.
            std::thread::sleep(Duration::from_millis(29 * (round % 12)));
            appliance.signal("KILL");
            if applying.join().is_ok_and(|applied| applied.success) {
                acknowledged = number;
            }
        });
        appliance.kill();
    }
    // On trial when it dies: a restart does not come up with it.
    let mut appliance = Appliance::resume(&lab, &edge);
    let before = rule_number(&appliance);
    let tried = lab.file("tried.toml");
    std::fs::write(&tried, numbered(&edge, number + 1).text()).expect("the lab's directory takes a file");
    assert!(appliance.ask(&format!("apply --confirm-within 1h {}", tried.display())).success);
    assert_eq!(rule_number(&appliance), number + 1);
    appliance.kill();
    drop(appliance);
    let appliance = Appliance::resume(&lab, &edge);
    assert_eq!(rule_number(&appliance), before);
    assert!(appliance.output().contains("it is withdrawn"), "{}", appliance.output());
    appliance.wait_for_backends();
    claims.clients_reach_the_shop();
    appliance.stop();

    // Not told to resume, it comes up with the file.
    let appliance = Appliance::launch(&lab, &edge);
    assert_eq!(first_rule(&appliance), "clients-to-shop");
    appliance.stop();
}

/// The number of the rule that [`numbered`] puts first; 0 without one.
fn rule_number(appliance: &Appliance<'_>) -> u64 {
    first_rule(appliance).strip_prefix("number-").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// RLD-04 and RLD-06: a storm of SIGHUPs and applies; faulty files change nothing, the last one wins.
#[test]
fn of_a_storm_of_reloads_the_last_one_wins_and_faulty_files_change_nothing() {
    let test = "of_a_storm_of_reloads_the_last_one_wins_and_faulty_files_change_nothing";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let edge = lab.edge();
    let appliance = Appliance::start(&lab, &edge);
    let put = |text: &str| lab.put("millrace.toml", text);
    for round in 1..=20 {
        put(numbered(&edge, round).text());
        (0..5).for_each(|_| appliance.signal("HUP"));
        if round % 5 == 0 {
            assert!(appliance.apply(&numbered(&edge, 100 + round)).success);
        }
    }
    put("[appliance]\nnam = 1\n");
    appliance.signal("HUP");
    eventually(20, "the fault is told", || appliance.output().contains("did you mean `name`?"));
    assert!(rule_number(&appliance) > 0, "nothing was changed by it");
    put(numbered(&edge, 999).text());
    appliance.signal("HUP");
    eventually(20, "the last file is in force", || rule_number(&appliance) == 999);
    let policy = appliance.show("policy");
    assert_eq!(policy["how"], "sighup");
    let history = policy["history"].as_array().expect("the history is a list");
    let numbers: Vec<_> = history.iter().filter_map(|it| it["generation"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|later, earlier| later > earlier), "{numbers:?}");
    claims.clients_reach_the_shop();
    appliance.stop();
}
