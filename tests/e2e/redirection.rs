//! Services that others direct here: a hook of the operator's sets routes at the client when the service comes into force, and
//! takes them away when it is over (SE-20). Here the client has no way to the service but that one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use millrace_tests::net::{Appliance, Claims, Configuration, Lab, eventually, in_url};

/// The addresses of the service `name`, which are on no link of the lab.
fn addresses(number: u8) -> [String; 2] {
    [format!("203.0.113.{number}"), format!("2001:db8:80::{number}")]
}

/// The hook of the test, what it does, and what it was called with.
struct Hook<'lab> {
    lab: &'lab Lab,
    path: PathBuf,
}

impl<'lab> Hook<'lab> {
    /// Sets the routes at the client. It fails while there is a file `fail`, and hangs while there is one `hang`.
    fn new(lab: &'lab Lab) -> Self {
        let (folder, client) = (lab.directory().display(), lab.client.name());
        let script = format!(
            "#!/bin/sh\ncd {folder} && echo \"$@ $MILLRACE_ADDRESS\" >> calls\n\
             if [ -e fail ]; then echo 'the switch says no' >&2; exit 3; fi\n\
             if [ -e hang ]; then sleep 1000 & echo $! > hanging; wait; fi\n\
             case $MILLRACE_ADDRESS in *:*) gateway=2001:db8:51::1;; *) gateway=198.51.100.1;; esac\n\
             if [ $1 = attach ]; then via=\"via $gateway\"; else kind=unreachable; fi\n\
             ip -n {client} route del unreachable $MILLRACE_ADDRESS\n\
             ip -n {client} route del $MILLRACE_ADDRESS\n\
             ip -n {client} route add $kind $MILLRACE_ADDRESS $via\n"
        );
        let hook = Self { lab, path: lab.file("redirect") };
        std::fs::write(&hook.path, script).expect("the lab's directory takes a file");
        hook.mode(0o755);
        for address in [80, 81].iter().flat_map(|&number| addresses(number)) {
            lab.client.must(&format!("ip route add unreachable {address}"));
        }
        hook
    }

    fn mode(&self, mode: u32) {
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    fn lays(&self, file: &str) {
        std::fs::write(self.lab.file(file), "").expect("the lab's directory takes a file");
    }

    fn clears(&self, file: &str) {
        std::fs::remove_file(self.lab.file(file)).expect("it was there");
    }

    /// What it was called with since the last look.
    fn calls(&self) -> Vec<String> {
        let calls = self.lab.file("calls");
        let written = std::fs::read_to_string(&calls).unwrap_or_default();
        let _ = std::fs::remove_file(calls);
        let mut calls: Vec<String> = written.lines().map(str::to_owned).collect();
        calls.sort();
        calls
    }

    /// `edge` with this hook, and with services that others direct here, by number.
    fn configuration(&self, services: &[u8]) -> Configuration {
        let mut text = format!("\n[redirection]\nhook = \"{}\"\ntimeout = \"5s\"\n", self.path.display());
        for number in services {
            for (address, server) in addresses(*number).iter().zip(["10.0.0.12", "2001:db8:10::12"]) {
                text += &format!(
                    "[[virtual_service]]\nname = \"{}\"\nattract = \"external\"\naddress = \"{address}\"\nprotocol = \"tcp\"\n\
                     ports = [\"80\"]\nhealth = {{ kind = \"none\" }}\n[[virtual_service.backend]]\nname = \"away-b\"\n\
                     address = \"{server}\"\nport = 8080\n",
                    name_of(address)
                );
            }
        }
        let rule =
            "name = \"away\"\naction = \"allow\"\nfrom = [\"wan\"]\nprotocol = \"tcp\"\ndestination_port = [\"80\"]";
        self.lab.edge().with_first_rule(rule).with_tables(&text)
    }
}

fn name_of(address: &str) -> String {
    format!("away-{}", address.replace("::", "-").replace([':', '.'], "-"))
}

fn both(verb: &str, number: u8) -> Vec<String> {
    let line = |address: &String| format!("{verb} {} edge-1 {address}", name_of(address));
    let mut lines: Vec<String> = addresses(number).iter().map(line).collect();
    lines.sort();
    lines
}

/// The state of a service's redirection, and its reason.
fn standing(appliance: &Appliance<'_>, address: &str) -> (String, String) {
    let services = appliance.show("services");
    let all = services.as_array().expect("an array");
    let service = all.iter().find(|service| service["name"] == name_of(address).as_str()).expect("it is in force");
    let word = |key: &str| service["redirection"][key].as_str().unwrap_or_default().to_owned();
    (word("state"), word("reason"))
}

fn attached(appliance: &Appliance<'_>, number: u8) -> bool {
    addresses(number).iter().all(|address| standing(appliance, address).0 == "attached")
}

fn fetched(lab: &Lab, address: &str) -> bool {
    let host = in_url(address);
    lab.client.run(&format!("curl -sS --fail --max-time 60 {host}/")).out.starts_with("shop-b ")
}

fn is_served(lab: &Lab, number: u8, wanted: bool) {
    for address in addresses(number) {
        assert_eq!(fetched(lab, &address), wanted, "{address}");
    }
}

/// SE-20: attach at activation, detach at deactivation and at the end; what arrives with the port's own MAC and the virtual
/// address is served. A hook that fails or hangs makes the activation fail, and nothing else.
#[test]
fn a_service_that_others_direct_here_is_attached_and_detached() {
    let test = "a_service_that_others_direct_here_is_attached_and_detached";
    let Some(lab) = Lab::wired(test, Claims::PROGRAMS) else { return };
    let claims = Claims::serve(&lab);
    let hook = Hook::new(&lab);
    let appliance = Appliance::start(&lab, &hook.configuration(&[80]));
    eventually(10, "the first services are attached", || attached(&appliance, 80));
    assert_eq!(hook.calls(), both("attach", 80));
    is_served(&lab, 80, true);
    is_served(&lab, 81, false);

    hook.lays("fail");
    let refused = appliance.apply(&hook.configuration(&[80, 81]));
    assert!(!refused.success, "an activation that failed is no success: {}", refused.out);
    for said in ["generation 2 is in force, but redirect-failed", "exited with status 3: the switch says no"] {
        assert!(refused.err.contains(said), "{}", refused.err);
    }
    assert_eq!(hook.calls(), both("attach", 81));
    for address in addresses(81) {
        assert_eq!(standing(&appliance, &address), ("failed".to_owned(), "redirect-failed".to_owned()));
    }
    assert!(appliance.ask("show services").out.contains("failed (redirect-failed)"));
    assert!(appliance.output().contains("hook: the switch says no"), "{}", appliance.output());
    is_served(&lab, 80, true);
    claims.clients_reach_the_shop();

    hook.clears("fail");
    hook.lays("hang");
    let refused = appliance.ask(&format!("apply {}", lab.file("applied.toml").display()));
    assert!(!refused.success && refused.err.contains("was stopped: it took longer than 5s"), "{}", refused.err);
    let hanging = std::fs::read_to_string(lab.file("hanging")).expect("the hook has hung");
    // It has ended, whether its new parent has looked after it or not.
    eventually(5, "what it has started hangs no longer", || {
        let state = lab.appliance.run(&format!("ps -o stat= -p {}", hanging.trim())).out;
        state.trim().is_empty() || state.starts_with('Z')
    });
    hook.clears("hang");
    assert_eq!(hook.calls(), both("attach", 81));

    // The same text once more tries what has failed.
    let applied = appliance.ask(&format!("apply {}", lab.file("applied.toml").display()));
    assert!(applied.success, "{}", applied.err);
    assert_eq!(hook.calls(), both("attach", 81));
    is_served(&lab, 81, true);

    let rolled_back = appliance.ask("rollback 1");
    assert!(rolled_back.success, "{}", rolled_back.err);
    assert_eq!(hook.calls(), both("detach", 81));
    is_served(&lab, 81, false);
    is_served(&lab, 80, true);
    appliance.stop();
    assert_eq!(hook.calls(), both("detach", 80));
}

/// An appliance that dies detaches nothing, and its next life attaches again; the process that runs hooks dies with it. A hook
/// that everybody could change is never run.
#[test]
fn an_appliance_that_was_killed_attaches_again() {
    let Some(lab) = Lab::wired("an_appliance_that_was_killed_attaches_again", Claims::PROGRAMS) else { return };
    let _claims = Claims::serve(&lab);
    let hook = Hook::new(&lab);
    let mut appliance = Appliance::start(&lab, &hook.configuration(&[80]));
    eventually(10, "the services are attached", || attached(&appliance, 80));
    let helpers = || lab.appliance.run(&format!("pgrep -f [r]un-hook.{}", hook.path.display())).out.lines().count();
    assert_eq!(helpers(), 1);
    appliance.kill();
    eventually(5, "the process that runs hooks has ended, too", || helpers() == 0);
    assert_eq!(hook.calls(), both("attach", 80));

    hook.mode(0o777);
    let appliance = Appliance::start(&lab, &hook.configuration(&[80]));
    eventually(10, "it was found that the hook cannot be run", || {
        addresses(80).iter().all(|address| standing(&appliance, address).0 == "failed")
    });
    assert!(appliance.output().contains("can be changed by everybody"), "{}", appliance.output());
    assert!(hook.calls().is_empty());
    hook.mode(0o755);
    let applied = appliance.apply(&hook.configuration(&[80]));
    assert!(applied.success, "{}", applied.err);
    assert_eq!(hook.calls(), both("attach", 80));
    is_served(&lab, 80, true);
    appliance.stop();
}
