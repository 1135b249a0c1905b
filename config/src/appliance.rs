//! `[appliance]`, `[cores]` and `[dpdk]`: who the appliance is and what it takes of the machine.

use std::collections::HashMap;
use std::path::PathBuf;

use toml::de::DeValue;
use units::limits::WORKERS_MAX;

use crate::findings::{At, Finding, Spot};
use crate::kind::{self, Wrong, boolean, integer, string};
use crate::nearest::quoted;
use crate::policy::{Appliance, Cores};
use crate::section::Section;
use crate::size::size;

/// Highest core number: what a CPU set of the kernel holds.
const CORE_MAX: u16 = 1_023;

/// Bytes of a Unix socket's path in the kernel's `sockaddr_un`, its final zero left out.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Bytes of a path that the kernel takes (limits.h: `PATH_MAX`), less its final zero and what files in a folder are called.
const FOLDER_PATH_BYTES_MAX: usize = 3_840;

/// Smallest packet buffer: resets and neighbor solicitations are made in one.
const BUFFER_SIZE_MIN: u16 = 128;

/// Largest packet buffer: well above every jumbo frame, and below what 16 bits of length leave beside the headroom.
const BUFFER_SIZE_MAX: u16 = 16_384;

/// `[dpdk]` as written.
#[derive(Debug)]
pub(crate) struct DpdkRead {
    pub(crate) hugepages: bool,
    pub(crate) memory: u64,
    pub(crate) buffers: Option<At<u32>>,
    pub(crate) buffer_size: Option<At<u16>>,
    /// Where the memory is said, else the table.
    pub(crate) memory_spot: Spot,
    /// Whether all of it could be read, so that it is worth asking what fits.
    pub(crate) complete: bool,
}

/// Reads `[appliance]`.
pub(crate) fn appliance(file: &mut Section<'_>) -> Appliance {
    let default = || PathBuf::from(Appliance::CONTROL_SOCKET);
    let state = || Some(PathBuf::from(Appliance::STATE_FOLDER));
    let Some(mut section) = file.table("appliance") else {
        if !file.has("appliance") {
            let missing = Finding::error("missing-key", &file.spot, "the file has no [appliance]");
            file.report(missing.advice("say which appliance this is: [appliance] and name = \"edge-1\" below it"));
        }
        return Appliance { name: String::new(), control_socket: default(), state_folder: state() };
    };
    let name = section.required("name", kind::name, "give it one, such as name = \"edge-1\"");
    let control_socket = section.optional("control_socket", socket);
    let state_folder = section.optional("state_folder", folder);
    section.finish();
    Appliance {
        name: name.map_or_else(String::new, |name| name.value),
        control_socket: control_socket.map_or_else(default, |socket| socket.value),
        state_folder: state_folder.map_or_else(state, |folder| folder.value),
    }
}

/// `[appliance] state_folder` alone, of a file that may be faulty everywhere else; `None` when there is no telling.
pub(crate) fn state_folder(file: &mut Section<'_>) -> Option<Option<PathBuf>> {
    let before = file.errors();
    let folder = file.table("appliance").and_then(|mut section| section.optional("state_folder", folder));
    let folder = folder.map_or_else(|| Some(PathBuf::from(Appliance::STATE_FOLDER)), |folder| folder.value);
    (file.errors() == before).then_some(folder)
}

/// Reads `[cores]`.
pub(crate) fn cores(file: &mut Section<'_>) -> Cores {
    let Some(mut section) = file.table("cores") else {
        if !file.has("cores") {
            let missing = Finding::error("missing-key", &file.spot, "the file has no [cores]");
            file.report(missing.advice("say which cores the workers take: [cores] and workers = [1] below it"));
        }
        return Cores { control: 0, workers: Vec::new() };
    };
    let control = section.or("control", integer(0..=CORE_MAX), 0);
    let control_spot = section.spot_of("control");
    let workers = section.required_list("workers", integer(0..=CORE_MAX), "name the cores workers take: workers = [1]");
    let mut seen = HashMap::new();
    for worker in &workers {
        if let Some(first) = seen.insert(worker.value, &worker.spot) {
            let message = format!("core {} is given to two workers", worker.value);
            let advice = "give each worker a core of its own";
            section.report(Finding::error("duplicate-core", &worker.spot, message).contradicts(first).advice(advice));
        }
        if worker.value == control {
            let message = format!("core {control} is a worker's and the control thread's");
            let advice =
                "where the machine has another core, give the control thread that one; a worker takes all of its own";
            section.report(
                Finding::warning("shared-core", &worker.spot, message).contradicts(&control_spot).advice(advice),
            );
        }
    }
    if let Some(beyond) = workers.get(WORKERS_MAX) {
        let message = format!("{} workers are more than the {WORKERS_MAX} there can be", workers.len());
        section.report(Finding::error("too-many", &beyond.spot, message).advice("leave some cores out"));
    }
    section.finish();
    Cores { control: control.into(), workers: workers.into_iter().map(|worker| worker.value.into()).collect() }
}

/// Reads `[dpdk]`.
pub(crate) fn dpdk(file: &mut Section<'_>) -> DpdkRead {
    const DEFAULT: u64 = 1 << 30;
    let Some(mut section) = file.table("dpdk") else {
        return DpdkRead {
            hugepages: true,
            memory: DEFAULT,
            buffers: None,
            buffer_size: None,
            memory_spot: file.spot.clone(),
            complete: true,
        };
    };
    let before = section.errors();
    let read = DpdkRead {
        hugepages: section.or("hugepages", boolean, true),
        memory: section.or("memory", size((64 << 20)..=(1 << 40)), DEFAULT),
        buffers: section.optional("buffers", integer(1_024..=(1 << 25))),
        buffer_size: section.optional("buffer_size", integer(BUFFER_SIZE_MIN..=BUFFER_SIZE_MAX)),
        memory_spot: section.spot_of("memory"),
        complete: section.errors() == before,
    };
    section.finish();
    read
}

/// The path of a Unix socket, from the root.
fn socket(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let written = string(value, "a path such as \"/run/millrace/control.sock\"")?;
    let advice = "write a path from the root, such as \"/run/millrace/control.sock\"";
    let wrong = |why: &str| Err(Wrong::new("bad-path", format!("{} {why}", quoted(written)), advice));
    if !written.starts_with('/') || written.ends_with('/') || written.contains('\0') {
        return wrong("is not the path of a socket");
    }
    if written.len() > SOCKET_PATH_BYTES_MAX {
        return wrong("is longer than the 107 bytes a socket's path can have");
    }
    Ok(PathBuf::from(written))
}

/// A folder of the appliance's own, from the root, or `false` for none.
fn folder(value: &DeValue<'_>) -> Result<Option<PathBuf>, Wrong> {
    if value.as_bool() == Some(false) {
        return Ok(None);
    }
    let written = string(value, "a path such as \"/var/lib/millrace\", or false to keep nothing")?;
    let advice = "write a path from the root, such as \"/var/lib/millrace\", or false to keep nothing";
    let wrong = |why: &str| Err(Wrong::new("bad-path", format!("{} {why}", quoted(written)), advice));
    if !written.starts_with('/') || written.trim_end_matches('/').is_empty() || written.contains('\0') {
        return wrong("is not the path of a folder of its own");
    }
    if written.len() > FOLDER_PATH_BYTES_MAX {
        return wrong("is longer than a path can be");
    }
    Ok(Some(PathBuf::from(written)))
}
