//! Services that others direct here, with a hook that the test plays: when it is run, who waits for it, and who does not.

use super::*;
use crate::redirection::Errand;

/// A hook that tells what it is asked, and waits for what it is to answer.
struct Played {
    asked: Sender<String>,
    answers: Receiver<Result<(), String>>,
}

impl Hook for Played {
    fn run(&mut self, errand: &Errand, _: Duration) -> Result<(), String> {
        let Errand { verb, place, appliance } = errand;
        let _ = self.asked.send(format!("{} {} {appliance}", verb.name(), place.service));
        self.answers.recv().unwrap_or(Ok(()))
    }
}

/// What the hook is asked, and where its answers go.
struct Hand {
    asked: Receiver<String>,
    answers: Sender<Result<(), String>>,
}

impl Hand {
    fn expects(&self, errand: &str, answer: Result<(), &str>) {
        assert_eq!(self.asked.recv().unwrap(), errand);
        self.answers.send(answer.map_err(str::to_owned)).unwrap();
    }
}

fn redirected(bench: &Bench) -> Hand {
    let ((asking, asked), (answers, answered)) = (unbounded(), unbounded());
    bench.appliance.redirect_with(Played { asked: asking, answers: answered }).unwrap();
    Hand { asked, answers }
}

/// The example with services that others direct here.
fn with(services: &[&str]) -> String {
    let mut text = EDGE.to_owned();
    for (name, number) in services.iter().zip(1..) {
        text += &format!(
            "[[virtual_service]]\nname = \"{name}\"\nattract = \"external\"\naddress = \"2001:db8:80::{number}\"\n\
             protocol = \"udp\"\nports = [\"53\"]\n[[virtual_service.backend]]\nname = \"a\"\naddress = \"2001:db8:10::13\"\n"
        );
    }
    text
}

fn shown(bench: &Bench, name: &str) -> Option<(String, Option<String>)> {
    let services = bench.appliance.services();
    let redirection = services.iter().find(|service| service.name == name)?.redirection.clone()?;
    Some((redirection.state, redirection.reason))
}

/// SE-20, SE-23: others are told when every worker serves it, and that it is over as soon as no policy has it.
#[test]
fn packets_are_directed_here_when_every_worker_serves_them() {
    let bench = Bench::new();
    let hand = redirected(&bench);
    let applying = bench.spawn(|appliance| appliance.apply(&Proposal::apply(&with(&["ext"]), "ext.toml", "op")));
    let publication = bench.publication();
    assert!(hand.asked.is_empty() && shown(&bench, "ext").is_none());
    publication.done.send(()).unwrap();
    hand.expects("attach ext edge-1", Ok(()));
    assert_eq!(applying.join().unwrap().unwrap().generation, 2);
    assert_eq!(shown(&bench, "ext"), Some(("attached".to_owned(), None)));
    assert_eq!(shown(&bench, "shop"), None, "the appliance answers for its address");
    bench.obliging();
    bench.apply(&format!("{}# the same services\n", with(&["ext"])), "ext.toml").unwrap();
    let applying = bench.spawn(|appliance| appliance.rollback(Some(1), "op"));
    hand.expects("detach ext edge-1", Ok(()));
    applying.join().unwrap().unwrap();
    assert!(hand.asked.is_empty());
}

/// SE-20, SE-30: the policy is in force, and who applied it hears that part of it is not active, and why.
#[test]
fn a_hook_that_fails_is_heard_of_by_who_applies() {
    let bench = Bench::new();
    bench.obliging();
    let (hand, mut events) = (redirected(&bench), bench.appliance.bulletin().listen());
    let apply = || bench.spawn(|appliance| appliance.apply(&Proposal::apply(&with(&["ext", "two"]), "ext.toml", "op")));
    let applying = apply();
    hand.expects("attach ext edge-1", Err("hook attach ext edge-1 exited with status 3"));
    hand.expects("attach two edge-1", Ok(()));
    let refused = applying.join().unwrap().unwrap_err();
    let wanted =
        "generation 2 is in force, but redirect-failed: service ext: hook attach ext edge-1 exited with status 3";
    assert_eq!((refused.kind, refused.message.as_str()), (RefusalKind::Failed, wanted));
    assert_eq!(shown(&bench, "ext"), Some(("failed".to_owned(), Some("redirect-failed".to_owned()))));
    assert_eq!(shown(&bench, "two"), Some(("attached".to_owned(), None)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut told = std::iter::from_fn(|| runtime.block_on(events.next()));
    let failed = told.find_map(|told| match told.happening {
        Happening::Redirection { service, redirection: Some(status) } => status.reason.map(|reason| (service, reason)),
        _ => None,
    });
    assert_eq!(failed, Some(("ext".to_owned(), "redirect-failed".to_owned())));
    // The same text once more: nothing changes but that it is tried again.
    let applying = apply();
    hand.expects("attach ext edge-1", Ok(()));
    assert!(applying.join().unwrap().unwrap().unchanged);
    assert_eq!(shown(&bench, "ext"), Some(("attached".to_owned(), None)));
}

/// A switch that does not answer is no matter of a change that does not touch its service: who makes one hears that it is in
/// force. It is tried again all the same.
#[test]
fn a_change_fails_with_no_service_but_its_own() {
    let bench = Bench::new();
    bench.obliging();
    let hand = redirected(&bench);
    let apply = |services: &'static [&str]| {
        bench.spawn(move |appliance| appliance.apply(&Proposal::apply(&with(services), "ext.toml", "op")))
    };
    let applying = apply(&["ext"]);
    hand.expects("attach ext edge-1", Err("no"));
    applying.join().unwrap().unwrap_err();
    let applying = apply(&["ext", "two"]);
    hand.expects("attach two edge-1", Ok(()));
    assert_eq!(applying.join().unwrap().unwrap().generation, 3, "before the hook of the other has ended");
    hand.expects("attach ext edge-1", Err("no"));
    let applying = apply(&["ext"]);
    hand.expects("detach two edge-1", Err("never"));
    let refused = applying.join().unwrap().unwrap_err();
    assert_eq!(refused.message, "generation 4 is in force, but redirect-failed: service two: never");
}

/// A hook takes its time, and backends fail meanwhile: nobody's change waits for a hook but the one that asked for it.
#[test]
fn a_slow_hook_holds_up_nothing_else() {
    let bench = Bench::new();
    bench.obliging();
    let hand = redirected(&bench);
    let applying = bench.spawn(|appliance| appliance.apply(&Proposal::apply(&with(&["ext"]), "ext.toml", "op")));
    assert_eq!(hand.asked.recv().unwrap(), "attach ext edge-1");
    bench.fail_a_backend();
    assert_eq!(bench.backend("shop", "shop-a").health(), Health::Failed);
    let other = bench.spawn(|appliance| appliance.apply(&Proposal::apply(&with(&[]), "less.toml", "op")));
    while bench.appliance.snapshot().generation != Generation::new(3) {
        std::thread::yield_now();
    }
    assert!(!applying.is_finished() && !other.is_finished());
    hand.answers.send(Ok(())).unwrap();
    hand.expects("detach ext edge-1", Ok(()));
    assert_eq!(applying.join().unwrap().unwrap().generation, 2);
    assert_eq!(other.join().unwrap().unwrap().generation, 3);
}

/// Workers that are late move on after a blocklist was read again: that is no other policy, and this one's services are directed here.
#[test]
fn a_blocklist_read_again_is_not_in_the_way_of_a_late_generation() {
    let bench = Bench::new();
    let hand = redirected(&bench);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.txt");
    std::fs::write(&file, "192.0.2.0/24\n").unwrap();
    let text = format!("{}[[blocklist]]\nname = \"bad\"\nfile = \"{}\"\n", with(&["ext"]), file.display());
    let applying = bench.spawn(move |appliance| appliance.apply(&Proposal::apply(&text, "ext.toml", "op")));
    let late = bench.publication();
    assert_eq!(applying.join().unwrap().unwrap_err().kind, RefusalKind::Busy);
    let reloading = bench.spawn(|appliance| appliance.reload(&Reload::Blocklist("bad".into())));
    bench.publication().done.send(()).unwrap();
    assert_eq!(reloading.join().unwrap().unwrap().generation, 3);
    late.done.send(()).unwrap();
    assert_eq!(hand.asked.recv_timeout(Duration::from_secs(60)).as_deref(), Ok("attach ext edge-1"));
    hand.answers.send(Ok(())).unwrap();
}

/// At the start nobody waits; at the end everything is directed away first.
#[test]
fn the_first_policy_is_redirected_and_the_end_directs_away() {
    let bench = Bench::new();
    bench.obliging();
    bench.apply(&with(&["ext"]), "ext.toml").unwrap();
    let hand = redirected(&bench);
    assert_eq!(hand.asked.recv().unwrap(), "attach ext edge-1");
    assert_eq!(shown(&bench, "ext"), Some(("attaching".to_owned(), None)));
    hand.answers.send(Ok(())).unwrap();
    let ending = bench.spawn(|appliance| appliance.direct_away(Duration::from_secs(600)));
    hand.expects("detach ext edge-1", Ok(()));
    ending.join().unwrap();
    assert_eq!(shown(&bench, "ext"), None);
}
