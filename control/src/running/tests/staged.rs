//! Rules on probation beside policies that come and go.

use super::*;

/// The example with a rule before all others.
fn with_rule(rule: &str) -> String {
    assert!(EDGE.contains("[[firewall.rule]]\n"));
    EDGE.replacen("[[firewall.rule]]\n", &format!("[[firewall.rule]]\n{rule}\n[[firewall.rule]]\n"), 1)
}

const TELNET: &str = "name = \"no-telnet\"\naction = \"deny\"\nprotocol = \"tcp\"\ndestination_port = [\"23\"]";

fn stage(bench: &Bench, text: &str) -> Result<StagedStatus, Refusal> {
    bench.appliance.stage(&Proposal::apply(text, "new.toml", "op"))
}

fn marked(staged: &StagedStatus) -> Vec<&str> {
    staged.rules.iter().filter(|rule| rule.staged).map(|rule| rule.name.as_str()).collect()
}

#[test]
fn rules_of_a_policy_are_staged_with_it_and_those_of_another_until_they_are_unstaged() {
    let bench = Bench::new();
    bench.obliging();
    assert_eq!(bench.appliance.staged(), StagedStatus::default());
    bench.apply(&with_rule(&format!("{TELNET}\nstaged = true")), "edge.toml").unwrap();
    assert_eq!(marked(&bench.appliance.staged()), ["no-telnet"]);
    assert!(bench.appliance.firewall().rules.iter().all(|rule| rule.name != "no-telnet"), "it is not in force");

    let generation = bench.appliance.policy().current.generation;
    let other = with_rule(&TELNET.replace("no-telnet", "never-telnet"));
    let staged = stage(&bench, &other).unwrap();
    assert_eq!(
        (marked(&staged), staged.source.as_deref(), staged.who.as_deref()),
        (vec!["never-telnet"], Some("new.toml"), Some("op"))
    );
    assert_eq!(bench.appliance.policy().current.generation, generation, "no session is judged again");
    bench.apply(&format!("{EDGE}# again\n"), "edge.toml").unwrap();
    assert_eq!(marked(&bench.appliance.staged()), ["never-telnet"], "it stays beside whatever comes");
    assert_eq!(bench.appliance.unstage().unwrap(), StagedStatus::default());
}

#[test]
fn what_cannot_be_compared_is_refused_or_ends() {
    let bench = Bench::new();
    bench.obliging();
    let renamed = EDGE.replace("\"dmz\"", "\"hall\"");
    let refused = stage(&bench, &renamed).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.message.contains("has other zones"), "{refused}");
    assert_eq!(stage(&bench, "colour = 1").unwrap_err().kind, RefusalKind::PolicyInvalid);
    assert_eq!(bench.appliance.staged(), StagedStatus::default());
    stage(&bench, &with_rule(TELNET)).unwrap();
    bench.apply(&renamed, "edge.toml").unwrap();
    assert_eq!(bench.appliance.staged(), StagedStatus::default());
}
