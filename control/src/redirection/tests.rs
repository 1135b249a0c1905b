//! Facts of redirections: which errands follow each other, what a hook may do to the appliance, and what is shown and told.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

const APPLIANCE: &str = "edge-1";

fn place(service: &str, address: &str) -> Place {
    let address = address.parse().unwrap();
    Place { service: service.to_owned(), address, protocol: "tcp".to_owned(), ports: vec!["80".to_owned()] }
}

/// The next errand as it is typed, done or failed; `None` when nothing is due.
fn step(course: &mut Course, now: Instant, outcome: Result<(), &str>) -> Option<String> {
    let errand = course.next(now)?;
    course.done(&errand, outcome.map_err(str::to_owned), now);
    Some(format!("{} {} {}", errand.verb.name(), errand.place.service, errand.place.address))
}

fn steps(course: &mut Course, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| step(course, now, Ok(()))).collect()
}

/// SE-20: attach at activation, detach at deactivation, each once.
#[test]
fn a_service_is_attached_when_it_comes_and_detached_when_it_goes() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let (web, dns) = (place("web", "198.51.100.3"), place("dns", "2001:db8:51::3"));
    course.want(vec![web.clone(), dns.clone()], now);
    assert_eq!(course.standings()["web"], Standing::Attaching);
    assert_eq!(steps(&mut course, now), ["attach dns 2001:db8:51::3", "attach web 198.51.100.3"]);
    assert_eq!(course.standings()["web"], Standing::Attached);
    assert!(course.want(vec![web.clone(), dns.clone()], now).is_empty());
    assert_eq!((steps(&mut course, now).len(), course.due()), (0, None));
    course.want(vec![web], now);
    assert_eq!(steps(&mut course, now), ["detach dns 2001:db8:51::3"]);
    let moved = place("web", "198.51.100.4");
    course.want(vec![moved], now);
    assert_eq!(steps(&mut course, now), ["detach web 198.51.100.3", "attach web 198.51.100.4"], "at another address");
    course.want(Vec::new(), now);
    assert_eq!(steps(&mut course, now), ["detach web 198.51.100.4"]);
    assert!(course.standings().is_empty() && course.due().is_none());
}

/// Whoever looks at addresses only must not lose a service that has got another name, or another's address.
#[test]
fn what_goes_goes_before_what_comes() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let (first, second) = ("198.51.100.3", "198.51.100.4");
    course.want(vec![place("web", first)], now);
    steps(&mut course, now);
    course.want(vec![place("a-new-name", first)], now);
    assert_eq!(steps(&mut course, now), ["detach web 198.51.100.3", "attach a-new-name 198.51.100.3"]);
    course.want(vec![place("a", first), place("b", second)], now);
    steps(&mut course, now);
    course.want(vec![place("a", second), place("b", first)], now);
    let verbs: Vec<String> = steps(&mut course, now).into_iter().map(|typed| typed[..8].to_owned()).collect();
    assert_eq!(verbs, ["detach a", "detach b", "attach a", "attach b"]);
}

/// A switch that does not answer today does tomorrow: nobody has to apply anything again.
#[test]
fn what_fails_is_tried_again_after_a_while_or_with_the_next_change() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let web = place("web", "198.51.100.3");
    let asked = course.want(vec![web.clone()], now);
    assert!(course.has_untried(&asked));
    step(&mut course, now, Err("no"));
    assert_eq!(course.standings()["web"], Standing::Failed("no".into()));
    assert_eq!(course.failures(&asked), [Failure { service: "web".into(), why: "no".into() }]);
    assert!(!course.has_untried(&asked) && course.next(now).is_none());
    let later = course.due().unwrap();
    assert_eq!(later - now, Duration::from_secs(30));
    step(&mut course, later, Err("no")).unwrap();
    assert!(course.next(later).is_none());
    course.want(vec![web.clone()], later);
    assert_eq!(steps(&mut course, later), ["attach web 198.51.100.3"]);
    assert_eq!((course.standings()["web"].clone(), course.failures(&asked).len()), (Standing::Attached, 0));

    course.want(Vec::new(), later);
    step(&mut course, later, Err("no")).unwrap();
    assert_eq!(
        (course.failures(&asked).len(), course.standings().len()),
        (1, 0),
        "still directed here, and no service of ours"
    );
    let again = course.due().unwrap();
    assert_eq!(steps(&mut course, again), ["detach web 198.51.100.3"]);
    assert_eq!(course.due(), None);
}

/// A hook that failed or was stopped may have done half.
#[test]
fn what_was_tried_is_detached_though_it_failed() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    course.want(vec![place("web", "198.51.100.3"), place("new", "198.51.100.4")], now);
    step(&mut course, now, Err("killed"));
    course.want(Vec::new(), now);
    assert_eq!(steps(&mut course, now), ["detach new 198.51.100.4"], "and not what was never tried");
    course.want(vec![place("web", "198.51.100.3")], now);
    steps(&mut course, now);
    course.want(vec![place("web", "198.51.100.5")], now);
    step(&mut course, now, Err("no"));
    assert_eq!(steps(&mut course, now), ["attach web 198.51.100.5"], "the detach that failed is in nobody's way");
}

/// What a detach that failed has left is not known: a service that is wanted again is attached again, and is well then.
#[test]
fn what_was_half_detached_is_attached_again() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let web = place("web", "198.51.100.3");
    course.want(vec![web.clone()], now);
    steps(&mut course, now);
    course.want(Vec::new(), now);
    step(&mut course, now, Err("hangs"));
    let asked = course.want(vec![web], now);
    assert_ne!(course.standings()["web"], Standing::Attached);
    assert_eq!(steps(&mut course, now), ["attach web 198.51.100.3"]);
    assert_eq!((course.standings()["web"].clone(), course.failures(&asked)), (Standing::Attached, Vec::new()));
}

/// Several services of one address share its way here: whoever directs addresses takes it from all of them.
#[test]
fn who_stays_at_an_address_is_attached_again_after_a_detach_there() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let address = "2001:db8:51::53";
    let (tcp, udp) = (place("dns-tcp", address), place("dns-udp", address));
    for outcome in [Ok(()), Err("the switch is busy")] {
        course.want(vec![tcp.clone(), udp.clone(), place("web", "198.51.100.3")], now);
        steps(&mut course, now);
        let asked = course.want(vec![udp.clone(), place("web", "198.51.100.3")], now);
        let detached = step(&mut course, now, outcome);
        assert_eq!(detached.as_deref(), Some("detach dns-tcp 2001:db8:51::53"));
        assert_eq!(course.standings()["dns-udp"], Standing::Attaching);
        assert!(course.has_untried(&asked), "who took the one away hears what became of the other");
        assert_eq!(steps(&mut course, now), ["attach dns-udp 2001:db8:51::53"]);
        assert_eq!(
            (course.due(), course.has_untried(&asked)),
            (None, false),
            "{outcome:?}: nothing takes it away later"
        );
    }
}

/// What could not be detached is not detached later, when the address is another's.
#[test]
fn a_detach_that_failed_takes_no_way_from_another() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let address = "198.51.100.3";
    course.want(vec![place("web", address)], now);
    steps(&mut course, now);
    course.want(vec![place("a-new-name", address)], now);
    step(&mut course, now, Err("the switch is busy"));
    assert_eq!(steps(&mut course, now), ["attach a-new-name 198.51.100.3"]);
    assert_eq!(course.due(), None);
    // Nor when it becomes another's only then: before, it is tried once more.
    course.want(Vec::new(), now);
    step(&mut course, now, Err("the switch is busy"));
    let later = course.due().unwrap();
    course.want(vec![place("b", address)], now);
    step(&mut course, now, Err("still"));
    assert_eq!(steps(&mut course, now), ["attach b 198.51.100.3"]);
    assert!(course.due().is_none() && course.next(later).is_none());
}

/// What fails again and again comes after what a change asks for, and is nobody's matter but of who asks for all.
#[test]
fn a_change_is_about_what_it_changes() {
    let (mut course, now) = (Course::new(APPLIANCE), Instant::now());
    let ext = || place("ext", "198.51.100.3");
    course.want(vec![ext()], now);
    step(&mut course, now, Err("no"));
    let asked = course.want(vec![ext(), place("web", "198.51.100.4")], now);
    assert_eq!(step(&mut course, now, Ok(())).as_deref(), Some("attach web 198.51.100.4"));
    assert!(!course.has_untried(&asked) && course.failures(&asked).is_empty());
    assert_eq!(step(&mut course, now, Err("no")).as_deref(), Some("attach ext 198.51.100.3"), "at once all the same");
    assert!(course.want(vec![ext(), place("web", "198.51.100.4")], now).is_empty());
    let all = course.try_all();
    assert!(course.has_untried(&all));
    step(&mut course, now, Err("no"));
    assert_eq!((course.has_untried(&all), course.failures(&all).len()), (false, 1));
}

/// A hook that does what the test has prepared, and notes what it was asked, and whether its time was bounded.
struct Prepared {
    outcomes: VecDeque<Result<(), String>>,
    asked: Sender<String>,
}

impl Hook for Prepared {
    fn run(&mut self, errand: &Errand, within: Duration) -> Result<(), String> {
        let hurries = if within == Duration::MAX { "" } else { " quickly" };
        let typed = format!("{} {} {}{hurries}", errand.verb.name(), errand.place.service, errand.appliance);
        let _ = self.asked.send(typed);
        self.outcomes.pop_front().unwrap_or(Ok(()))
    }
}

/// SE-20, SE-30: a hook that fails makes the activation fail with this reason; it is told and shown.
#[test]
fn who_asked_for_a_change_hears_what_became_of_it() {
    let ((asked, was_asked), (told, heard)) = (unbounded(), unbounded());
    let outcomes = VecDeque::from([Ok(()), Err("it exited with status 3".to_owned())]);
    let redirections =
        Redirections::begin(APPLIANCE, Prepared { outcomes, asked }, move |turn| drop(told.send(turn))).unwrap();
    let both = || vec![place("web", "198.51.100.3"), place("zeb", "198.51.100.4")];
    let failed = redirections.want(both(), Asked::Changed).wait().unwrap_err();
    assert_eq!(failed, "redirect-failed: service zeb: it exited with status 3");
    assert_eq!(redirections.standing("web"), Some(Standing::Attached));
    let status = RedirectionStatus::from(&redirections.standing("zeb").unwrap());
    assert_eq!((status.state.as_str(), status.reason.as_deref()), ("failed", Some(REDIRECT_FAILED)));
    assert_eq!(redirections.standing("else"), None);
    redirections.want(both(), Asked::All).wait().unwrap();
    assert_eq!(redirections.standing("zeb"), Some(Standing::Attached));
    redirections.finish(Duration::from_secs(60));
    let asked: Vec<_> = was_asked.iter().collect();
    let (web, zeb) = ("web edge-1", "zeb edge-1");
    let wanted = [("attach", web), ("attach", zeb), ("attach", zeb)].map(|(verb, of)| format!("{verb} {of}"));
    let last = [web, zeb].map(|of| format!("detach {of} quickly"));
    assert_eq!(asked, [&wanted[..], &last].concat());
    let of_zeb = heard.iter().filter(|turn| turn.service == "zeb").map(|turn| turn.standing);
    let failed = Standing::Failed("it exited with status 3".into());
    // The second try begins with the failure it has to make up for.
    assert_eq!(of_zeb.collect::<Vec<_>>(), [Some(Standing::Attaching), Some(failed), Some(Standing::Attached), None]);
}

#[test]
fn there_is_an_end_to_the_last_errands() {
    let (asked, was_asked) = unbounded();
    let redirections = Redirections::begin(APPLIANCE, Prepared { outcomes: VecDeque::new(), asked }, drop).unwrap();
    redirections.want(vec![place("web", "198.51.100.3")], Asked::Changed).wait().unwrap();
    redirections.finish(Duration::ZERO);
    assert_eq!(was_asked.iter().collect::<Vec<_>>(), ["attach web edge-1"]);
}

/// One script at a time: a program that is started while a script is written has it open until it runs, and what is open
/// for writing cannot be run.
static TURN: Mutex<()> = Mutex::new(());

/// A hook of the test's own: a shell script.
struct Script {
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Script {
    fn new(body: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let script = Self { folder: tempfile::tempdir().unwrap(), _turn: turn };
        std::fs::write(script.path(), format!("#!/bin/sh\ncd {}\n{body}\n", script.folder.path().display())).unwrap();
        script.mode(0o755);
        script
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hook")
    }

    fn mode(&self, mode: u32) {
        std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn run(&self, timeout: Duration) -> Result<(), String> {
        self.runner(timeout).run(&errand(), Duration::MAX)
    }

    fn runner(&self, timeout: Duration) -> Runner {
        runner::played::beside(&self.path(), timeout)
    }
}

fn errand() -> Errand {
    Errand { verb: Verb::Attach, place: place("web", "2001:db8:51::3"), appliance: APPLIANCE.to_owned() }
}

const LONG: Duration = Duration::from_secs(60);

/// SE-20: `attach <service> <appliance>`; what else it may want to know is in its environment.
#[test]
fn a_hook_is_told_what_it_is_for() {
    let script = Script::new(
        "echo \"$# $* $MILLRACE_ADDRESS $MILLRACE_PROTOCOL $MILLRACE_PORTS ${NOTIFY_SOCKET-none} $PWD\" >> told",
    );
    let mut runner = script.runner(LONG);
    runner.run(&errand(), Duration::MAX).unwrap();
    runner.run(&Errand { verb: Verb::Detach, ..errand() }, Duration::MAX).unwrap();
    let folder = script.folder.path().display();
    let told = |verb: &str| format!("3 {verb} web edge-1 2001:db8:51::3 tcp 80 none {folder}\n");
    assert_eq!(script.read("told"), told("attach") + &told("detach"));
}

#[test]
fn how_a_hook_failed_is_said_with_its_last_words() {
    let says = |body: &str| Script::new(body).run(LONG).unwrap_err();
    let said = says("echo hello; echo 'no such switch' >&2; exit 3");
    assert!(said.ends_with("hook attach web edge-1 exited with status 3: no such switch"), "{said}");
    assert!(says("kill -9 $$").contains("ended by signal: 9"));
    assert!(says("printf 'half a \\033[31mline'; exit 1").ends_with("status 1: half a \\u{1b}[31mline"));
    let chatty = says("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 1");
    assert!(chatty.ends_with("line 4999"), "more than a pipe holds: {chatty}");
    let endless = says("head -c 200000 /dev/zero | tr '\\0' x; exit 1");
    assert!(endless.len() < 1_000, "{}", endless.len());
}

/// A hook that hangs is stopped with all that it has started, when its time is over or what is left to it, and the next one
/// runs. However late the shell begins: one that was stopped before it had started anything is run once more, with more time.
#[test]
fn a_hook_that_hangs_is_stopped_whole() {
    let script = Script::new("[ -e child ] && exit 0\nsleep 1000 & echo $! > child.new; mv child.new child; wait");
    let mut runner = script.runner(LONG);
    let mut time = Duration::from_millis(250);
    while !script.has("child") {
        time *= 2;
        let said = runner.run(&errand(), time).unwrap_err();
        assert!(said.contains(&format!("was stopped: it took longer than {time:?}")), "{said}");
    }
    let child = script.read("child");
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    // Killed, it is at most waited for.
    while stat().is_ok_and(|stat| !stat.contains(") Z")) {
        std::thread::yield_now();
    }
    runner.run(&errand(), Duration::MAX).unwrap();
    std::fs::remove_file(script.folder.path().join("child")).unwrap();
    let said = script.run(Duration::from_millis(100)).unwrap_err();
    assert!(said.contains("was stopped: it took longer than 100ms"), "{said}");
}

/// A hook is over when it ends, though something it started goes on and holds its output, or goes on to speak.
#[test]
fn what_a_hook_leaves_running_is_not_waited_for() {
    for left in ["sleep 1000", "while :; do echo x; sleep 0.02; done", "yes"] {
        let script = Script::new(&format!("{left} & echo $! > child; echo done"));
        script.run(LONG).unwrap();
        let child = rustix::process::Pid::from_raw(script.read("child").trim().parse().unwrap()).unwrap();
        // What still speaks may have found that nobody listens.
        let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
    }
}

/// An operator who puts a hook in its place while it is to be run is waited for.
#[test]
fn a_hook_that_is_being_written_is_tried_again() {
    let script = Script::new("touch ran");
    let busy = std::fs::OpenOptions::new().append(true).open(script.path()).unwrap();
    let said = script.run(LONG).unwrap_err();
    assert!(said.contains("could not be run") && !script.has("ran"), "{said}");
    drop(busy);
    script.run(LONG).unwrap();
    assert!(script.has("ran"));
}

#[test]
fn a_file_that_cannot_be_a_hook_is_not_run() {
    let script = Script::new("touch ran");
    let unsound =
        [(0o644, "is not executable"), (0o757, "can be changed by everybody"), (0o775, "can be changed by its group")];
    for (mode, why) in unsound {
        script.mode(mode);
        let said = script.run(LONG).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    script.mode(0o755);
    // Who can rename in its folder can put another in its place.
    let folder = |mode| std::fs::set_permissions(&script.folder, std::fs::Permissions::from_mode(mode)).unwrap();
    folder(0o777);
    let said = script.run(LONG).unwrap_err();
    assert!(said.ends_with(&format!("chmod go-w {}", script.folder.path().display())), "{said}");
    folder(0o700);
    std::fs::remove_file(script.path()).unwrap();
    assert!(script.run(LONG).unwrap_err().contains("No such file"));
    std::fs::create_dir(script.path()).unwrap();
    assert!(script.run(LONG).unwrap_err().contains("is not a file"));
    assert!(!script.has("ran"));
    std::fs::remove_dir(script.path()).unwrap();
    std::fs::write(script.path(), [0x7f, b'E', b'L', b'F', 0, 1, 2]).unwrap();
    script.mode(0o755);
    assert!(script.run(LONG).unwrap_err().contains("could not be run"));
}

/// The end of the appliance is the end of a hook under way.
#[test]
fn a_hook_ends_with_the_appliance() {
    let script = Script::new("echo $$ > pid.new; mv pid.new pid; exec sleep 1000");
    let mut runner = script.runner(LONG);
    let pid = || std::fs::read_to_string(script.folder.path().join("pid"));
    let ended = std::thread::scope(|scope| {
        let other_end = runner.other_hand();
        let run = scope.spawn(|| runner.run(&errand(), Duration::MAX));
        while pid().is_err() {
            std::thread::yield_now();
        }
        other_end.shutdown(std::net::Shutdown::Both).unwrap();
        run.join().unwrap()
    });
    assert!(ended.unwrap_err().contains("has ended"));
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid().unwrap().trim()));
    while stat().is_ok_and(|stat| !stat.contains(") Z")) {
        std::thread::yield_now();
    }
}

/// A runner that has failed once has failed for good: nothing it says late is taken for the answer to something else.
#[test]
fn a_runner_that_is_gone_fails_every_errand() {
    let script = Script::new("exit 0");
    let mut runner = script.runner(LONG);
    runner.other_hand().shutdown(std::net::Shutdown::Both).unwrap();
    for _ in 0..3 {
        assert!(runner.run(&errand(), Duration::MAX).unwrap_err().contains("has ended; restart the appliance"));
    }
}
