//! Places: where the control socket will be, where generations are kept, and the hook that directs packets here.

use std::path::Path;

use config::Policy;

use super::machine::{Machine, Place};
use super::{Finding, State};

/// What twenty generations of a large policy take, and room to write the next one.
const STATE_ROOM: u64 = 256 << 20;

pub(super) fn examine(machine: &Machine, policy: Option<&Policy>, findings: &mut Vec<Finding>) {
    let Some(policy) = policy else { return };
    let folder = policy.appliance.control_socket.parent().filter(|folder| !folder.as_os_str().is_empty());
    findings.push(folder_finding(machine, "control socket", folder.unwrap_or(Path::new(".")), "control_socket", 0));
    match &policy.appliance.state_folder {
        Some(folder) => findings.push(folder_finding(machine, "state folder", folder, "state_folder", STATE_ROOM)),
        None => findings.push(
            Finding::new(
                "state folder",
                State::Note,
                "generations are kept in memory only, and sessions end with the process: a restart forgets both",
            )
            .mended_by("state_folder = \"/var/lib/millrace\" under [appliance]"),
        ),
    }
    if let Some(redirection) = &policy.redirection {
        findings.push(match machine.hook(&redirection.hook) {
            Ok(()) => Finding::new("hook", State::Ok, format!("{} can be run", redirection.hook.display())),
            Err(why) => Finding::new("hook", State::Missing, why)
                .mended_by("another `hook` under [redirection], or one that can be run there"),
        });
    }
}

/// A folder that the appliance makes if need be, and writes to.
fn folder_finding(machine: &Machine, check: &str, folder: &Path, key: &str, room: u64) -> Finding {
    let shown = folder.display();
    match machine.place(folder) {
        Place::Folder { read_only: true, .. } => {
            Finding::new(check, State::Missing, format!("{shown} is on a file system that cannot be written"))
                .mended_by(format!("another `{key}` under [appliance]"))
        }
        Place::Folder { free: Some(free), .. } if free < room => {
            let found = format!("{shown} has {} MiB left: changes are refused when nothing is left", free >> 20);
            Finding::new(check, State::Warning, found).mended_by(format!("df -h {shown}    and make room"))
        }
        Place::Folder { .. } => Finding::new(check, State::Ok, format!("{shown} is there")),
        Place::Nothing { creatable: true } => {
            Finding::new(check, State::Ok, format!("{shown} is made when the appliance starts"))
        }
        Place::Nothing { creatable: false } | Place::Other => {
            Finding::new(check, State::Missing, format!("{shown} is not a folder, and cannot become one"))
                .mended_by(format!("another `{key}` under [appliance], or: mkdir -p {shown}"))
        }
    }
}
