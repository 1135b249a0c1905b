//! Starting and stopping the appliance, stage by stage: configuration, store, control socket, devices, kernel interfaces,
//! workers, control, API, probes; and back in the opposite order. Whatever fails ends in one sentence, with everything before it
//! undone: each stage is a value whose end undoes it.

mod claim;
mod confine;
mod devices;
mod filters;
mod logging;
mod replug;
mod supervisor;
mod tables;
mod threads;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::Policy;
use crossbeam::channel::{bounded, unbounded};
use dpdk::{Eal, EalOptions};
use tokio::signal::unix::{SignalKind, signal};
use worker::Clock;

use crate::admin::socket::ControlSocket;
use crate::admin::{Appliance, Door, MetricsPort, Server, user};
use crate::compile::compile;
use crate::generation::{Proposal, Start};
use crate::health::Prober;
use crate::kernel::{Interface, InterfaceSpec, Lane, Pump};
use crate::running::{BufferUse, Fixed, PortView, Running};
use crate::status::How;
use crate::succession::{Estate, Moment};
use crate::{journal, log_format, redirection, session_log};

use devices::{Ports, TscClock};
use replug::{Means, Replug};
use supervisor::Supervisor;
use tables::DpdkTables;
use threads::{Asked, Team};

/// Why the appliance did not start: one sentence, or the faults of the configuration.
type Refused = Box<dyn std::error::Error>;

/// Log records control may be ahead of the log.
const NOTES: usize = 4_096;

/// How long calls on the control socket may go on when the appliance stops.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// How long hooks may go on when the appliance stops, behind the one under way; the unit's `TimeoutStopSec` is for both.
const LAST_HOOKS: Duration = Duration::from_secs(10);

/// Runs the appliance that `file` describes until SIGTERM or SIGINT; told to `resume`, with the last generation that was in
/// force for good, if there is one.
///
/// # Errors
/// A sentence that says what is wrong and what to do.
pub fn run(file: &Path, resume: bool) -> Result<(), Refused> {
    logging::start();
    confine::gain_nothing();
    // First, and next the socket: both can be refused for everyday reasons, and of two appliances the second touches no device.
    let first = Start::choose(file, resume)?;
    log_format::set(first.checked.policy.log_format);
    for warning in &first.checked.warnings {
        log::warn!("{warning}");
    }
    check_cores(&first.checked.policy, &dpdk::doctor::cores_allowed())?;
    start(first, file)
}

/// Whether this process may run on every core of the policy: a thread that cannot be pinned would share another's core, and
/// both would be slow for a reason nobody sees.
fn check_cores(policy: &Policy, allowed: &[usize]) -> Result<(), Refused> {
    let wanted = policy.cores.workers.iter().chain([&policy.cores.control]);
    let absent = listed(wanted.filter(|core| !allowed.contains(core)));
    // A kernel that does not say is taken at no word.
    if allowed.is_empty() || absent.is_empty() {
        return Ok(());
    }
    let message = format!(
        "[cores] names core {absent}, and this process may run on {}; name those in `workers` and `control`",
        listed(allowed.iter())
    );
    Err(message.into())
}

fn listed<'a>(cores: impl Iterator<Item = &'a usize>) -> String {
    cores.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn eal_options(policy: &Policy) -> EalOptions {
    EalOptions {
        file_prefix: format!("millrace-{}", std::process::id()),
        memory_mib: u32::try_from(policy.dpdk.memory >> 20).unwrap_or(u32::MAX),
        hugepages: policy.dpdk.hugepages,
        devices: policy.ports.iter().map(|port| port.device.clone()).collect(),
        main_core: policy.cores.control,
    }
}

fn start(first: Start, file: &Path) -> Result<(), Refused> {
    let policy = first.checked.policy.clone();
    let socket = ControlSocket::bind(&policy.appliance.control_socket)?;
    let door = policy.api.as_ref().map(Door::open).transpose()?;
    let metrics = policy.metrics.listen.map(listen).transpose()?;
    let claims = claim::claim(&policy)?;
    let hook = policy.redirection.as_ref().map(start_hook).transpose()?;
    // DPDK's own threads stay on the core that starts it: another one would be a worker's.
    threads::pin(policy.cores.control);
    let eal = Eal::init(&eal_options(&policy))?;
    let clock = TscClock(eal.clock());
    let Ports { pool, ports, queues, borrowed } = devices::open(&eal, &policy)?;
    let facts = devices::facts(&policy, &ports);
    let tables = DpdkTables::new(&eal);
    let secret = devices::random_word();
    let first_tables = || compile(&policy, &facts, first.generation(), None, &tables, secret);
    let snapshot = Arc::new(tables::on_every_core(&policy.cores, first_tables)?);
    snapshot.services.enact(None, clock.now());

    let interfaces = open_interfaces(&policy, &ports)?;
    let mut lanes = Vec::new();
    let mut rings = Vec::new();
    for (port, interface) in &interfaces {
        let ring = Arc::new(worker::KernelRings::default());
        lanes.push(Lane::new(interface, Arc::clone(&ring)));
        rings.push((*port, ring));
    }
    let views = devices::views(ports, &rings);
    for view in &views {
        view.answer_for(&snapshot);
    }
    // Everything that takes privileges is open.
    confine::keep_what_running_takes(eal.finds_memory_by_physical_address());
    let pump = Pump::start(lanes, pool.clone(), confine::keep_nothing)?;

    let (team, restart) = Team::start(&eal, &policy, clock, &pool, queues, &rings, &snapshot)?;
    let (requests, wanted) = unbounded();
    let (notes, noted) = bounded(NOTES);
    let asked = Asked { stop: requests.clone(), requests: wanted };
    let supervisor = Supervisor::of_environment();
    let control = team.control(clock, asked, notes, &policy, &snapshot, &supervisor)?;

    let buffers = pool.clone();
    let frame_bytes = pool.frame_bytes();
    let means = Means { eal: eal.clone(), pool: pool.clone(), exchanges: team.exchanges(), requests: requests.clone() };
    let fixed = Fixed {
        requests,
        devices: facts,
        ports: views.iter().map(|view| Box::new(Arc::clone(view)) as Box<dyn PortView>).collect(),
        workers: team.views(),
        tables: Box::new(tables),
        clock: Box::new(clock),
        buffers: Box::new(move || BufferUse {
            total: u64::from(buffers.total()),
            in_use: u64::from(buffers.in_use()),
            bytes: dpdk::Pool::memory_needed(buffers.total(), frame_bytes),
        }),
        filters: Box::new(filters::compile),
        session_bytes: team.session_bytes(),
        steer_secret: secret,
        restart,
    };
    let name = policy.appliance.name.clone();
    let interfaces = interfaces.into_iter().map(|(_, interface)| interface).collect();
    let appliance = Running::new(fixed, first, snapshot, interfaces);
    confine::refuse_strange_calls();
    let borrowed = borrowed.into_iter().filter_map(|port| Some((views.get(port.number.index()).cloned()?, port)));
    let replug = Replug::start(borrowed.map(|(view, port)| (port, view)).collect(), means)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let answers = Arc::clone(&appliance) as Arc<dyn Appliance>;
    let mut server = Server::answer(socket, Arc::clone(&answers), runtime.handle())?;
    if let Some(door) = door {
        let address = door.address()?;
        server.open(door, answers, runtime.handle())?;
        log::info!("the API is at {address}, too, for whoever shows a certificate");
    }
    let (finding, found) = unbounded();
    let metrics = match metrics {
        Some(listener) => {
            Some(MetricsPort::answer(listener, Arc::clone(&appliance) as Arc<dyn Appliance>, runtime.handle())?)
        }
        None => None,
    };
    if let Some(port) = &metrics {
        log::info!("metrics are read at http://{}/metrics", port.address());
    }
    let weak = Arc::downgrade(&appliance);
    // It ends with the prober.
    std::thread::Builder::new().name("health".into()).spawn(move || Running::attend_probes(&weak, &found))?;
    appliance.probe_with(Prober::start(move |report| {
        let _ = finding.send(report);
    })?);
    if let Some(hook) = hook {
        appliance.redirect_with(hook)?;
    }
    let journal = {
        let appliance = Arc::clone(&appliance);
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            confine::keep_nothing();
            journal::write(&noted, &appliance);
        })?
    };
    let (telling, told_to_stop) = bounded::<()>(0);
    let session_log = {
        let appliance = Arc::clone(&appliance);
        std::thread::Builder::new().name("session-log".into()).spawn(move || {
            confine::keep_nothing();
            session_log::write(&appliance, &told_to_stop);
        })?
    };
    log::info!("{name} is ready: {} workers, control socket {}", team.len(), server.path().display());
    supervisor.ready();
    println!("ready");
    runtime.block_on(attend(&appliance, file, &supervisor));

    log::info!("{name} is stopping");
    supervisor.stopping();
    appliance.bulletin().close();
    drop(metrics);
    runtime.block_on(server.stop(LAST_CALLS));
    // Before the workers end: until then there is somebody for packets that are still on their way.
    appliance.direct_away(LAST_HOOKS);
    appliance.wind_down();
    let (policy, generation) = appliance.in_force();
    let isolations = replug.stop();
    let stopped = Moment::now();
    team.leave(|sessions| Estate::of(&policy).leave(generation, stopped, sessions));
    drop(telling);
    join(session_log, "session-log");
    // Calls that were cut off and still wait for workers or control find them gone, and end.
    drop(control);
    join(journal, "journal");
    runtime.shutdown_timeout(Duration::from_secs(1));
    pump.stop();
    drop((appliance, views, isolations, pool));
    drop(eal);
    drop(claims);
    Ok(())
}

/// The process that runs the hook. One that cannot be run is no reason not to serve all else.
fn start_hook(wanted: &config::policy::Redirection) -> Result<redirection::Runner, String> {
    if let Err(why) = redirection::sound(&wanted.hook) {
        log::error!("the hook of [redirection] cannot be run: {why}");
    }
    redirection::Runner::start(&wanted.hook, Duration::from_nanos(wanted.timeout.get()))
}

/// The port that metrics are read at.
fn listen(address: std::net::SocketAddr) -> Result<std::net::TcpListener, Refused> {
    std::net::TcpListener::bind(address).map_err(|error| {
        format!("cannot listen at {address} for metrics: {error}; `listen` under [metrics] names the place").into()
    })
}

fn join(thread: std::thread::JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        log::error!("the {name} thread ended by a fault");
    }
}

/// The kernel interfaces of the ports that want one.
fn open_interfaces(policy: &Policy, ports: &[dpdk::Port]) -> Result<Vec<(units::PortId, Interface)>, Refused> {
    let mut interfaces = Vec::new();
    for (number, port) in (0..).map(units::PortId::new).zip(ports) {
        if let Some(spec) = InterfaceSpec::of(policy, number, port.mac()) {
            interfaces.push((number, Interface::open(spec)?));
        }
    }
    Ok(interfaces)
}

/// Waits for the signal to stop; SIGHUP applies the file again.
async fn attend(appliance: &Arc<Running>, file: &Path, supervisor: &Supervisor) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        log::error!("signals cannot be received");
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {
                supervisor.reloading();
                let (appliance, file) = (Arc::clone(appliance), file.to_owned());
                let mut reloading = tokio::task::spawn_blocking(move || reload(&appliance, &file));
                // A file that does not come to rest does not hold up the stop; further SIGHUPs meanwhile are one.
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    applied = &mut reloading => match applied.unwrap_or_else(|_| Err("the reload ended by a fault".to_owned())) {
                        Ok(()) => supervisor.ready(),
                        Err(why) => {
                            log::error!("{why}");
                            supervisor.refused(&why);
                        }
                    },
                }
            }
        }
    }
}

fn reload(appliance: &Running, file: &Path) -> Result<(), String> {
    let text = config::read(file).map_err(|faults| faults.to_string())?;
    let proposal = Proposal::apply(&text, &file.display().to_string(), &user::own_name());
    appliance.apply(&Proposal { how: How::Sighup, ..proposal }).map(|_| ()).map_err(|refusal| {
        let faults = refusal.faults.join("\n");
        if faults.is_empty() { refusal.to_string() } else { format!("{refusal}\n{faults}") }
    })
}

#[cfg(test)]
mod tests {
    use config::Checked;

    use super::*;
    use crate::generation::Ledger;
    use crate::store::Volatile;

    fn policy(cores: &str) -> Policy {
        let text = include_str!("../../../config/examples/edge.toml").replace("workers = [1]", cores);
        config::load(&text, Path::new("edge.toml")).unwrap().policy
    }

    #[test]
    fn cores_that_are_not_there_are_named() {
        // CFG-05.
        let policy = policy("workers = [1, 7, 9]");
        assert_eq!(
            check_cores(&policy, &[0, 1]).unwrap_err().to_string(),
            "[cores] names core 7, 9, and this process may run on 0, 1; name those in `workers` and `control`"
        );
        check_cores(&policy, &[0, 1, 7, 9]).unwrap();
        check_cores(&policy, &[]).unwrap();
    }

    #[test]
    fn a_control_socket_that_cannot_be_had_is_refused_before_anything_is_opened() {
        // CRS-07: a plain file where the socket should be. The runtime of DPDK, which starts once in the life of a process,
        // was not started.
        let folder = tempfile::tempdir().unwrap();
        let mut policy = policy("workers = [1]");
        policy.appliance.control_socket = folder.path().join("control.sock");
        std::fs::write(&policy.appliance.control_socket, "precious").unwrap();
        let ledger = Ledger::open(Box::new(Volatile::default())).unwrap();
        let first = Start::anew(Checked { policy, warnings: Vec::new() }, String::new(), "edge.toml", ledger);
        let refused = start(first, Path::new("edge.toml")).unwrap_err().to_string();
        assert!(refused.contains("is not a socket"), "{refused}");
        assert!(!Path::new(&format!("/var/run/dpdk/millrace-{}", std::process::id())).exists());
    }
}
