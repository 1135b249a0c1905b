//! The appliance under measurement: the release binary, run with a configuration of the bench, asked over its control
//! socket like any operator's program.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use control::status::{Applied, Drops, MemoryStatus, WorkerStatus};

use super::http::Connection;
use super::operator::Operator;
use super::process::Process;
use crate::Outcome;
use crate::blueprint::Blueprint;
use crate::statistics::precise;

/// How long it may take to start: reading a capture of ten million packets is slow.
const START_MAX: Duration = Duration::from_secs(300);

/// The pause between two looks at a change: who asks without end takes from the worker what their processors share.
const LOOK: Duration = Duration::from_millis(2);

/// A running appliance.
#[derive(Debug)]
pub struct Millrace {
    // Asked through a shared reference: who watches one counter while changing another holds both.
    connection: RefCell<Connection>,
    socket: PathBuf,
    process: Process,
}

/// What one stage has cost since the start, over the bursts the worker measures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Its name in `show workers`.
    pub name: String,
    /// Packets that passed through it.
    pub packets: u64,
    /// Cycles it took.
    pub cycles: f64,
}

/// The counters of all workers together at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// Packets received.
    pub received: u64,
    /// Packets forwarded.
    pub forwarded: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Bursts in which they came.
    pub bursts: u64,
    /// Sessions there are.
    pub sessions: u64,
    /// Sessions opened since the start.
    pub opened: u64,
    /// The lowest policy generation a worker has in force.
    pub generation: u64,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Packets received by each worker.
    pub by_worker: Vec<u64>,
}

impl Millrace {
    /// Starts `program` with this configuration, written to `folder` together with all it says, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, blueprint: &Blueprint, folder: &Path) -> Outcome<Self> {
        let file = folder.join("millrace.toml");
        let socket: PathBuf = blueprint.control_socket()?;
        std::fs::write(&file, blueprint.text()?)?;
        let said = folder.join("millrace.txt");
        let arguments = [Path::new("run").as_os_str(), "--config".as_ref(), file.as_os_str()];
        let mut process = Process::start(program, arguments, &said)?;
        let connection = process.wait_for(START_MAX, &said, || {
            let mut connection = Connection::open(&socket)?;
            read(&mut connection)?;
            Ok(connection)
        })?;
        Ok(Self { connection: RefCell::new(connection), socket, process })
    }

    /// Reads its counters.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn read(&self) -> Outcome<Reading> {
        read(&mut self.connection.borrow_mut())
    }

    /// Packets dropped by reason, those that happened only.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn drops(&self) -> Outcome<BTreeMap<String, u64>> {
        let drops: Drops = self.connection.borrow_mut().get("drops")?;
        Ok(drops.into_iter().filter(|&(_, packets)| packets > 0).collect())
    }

    /// `show memory`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn memory(&self) -> Outcome<MemoryStatus> {
        self.connection.borrow_mut().get("memory")
    }

    /// Applies another configuration, as `millrace apply` does, and calls `watch` with the counters, some hundred times a second, until
    /// it has seen enough (true), but never ends before the configuration is in force.
    ///
    /// # Errors
    /// When the configuration is refused, or the appliance stops answering.
    pub fn apply(&self, blueprint: &Blueprint, mut watch: impl FnMut(&Reading) -> bool) -> Outcome<()> {
        let text = blueprint.text()?;
        let mut connection = Connection::open(&self.socket)?;
        thread::scope(|scope| {
            let applying = scope.spawn(move || {
                let applied: Outcome<Applied> = connection.post("apply?file=bench", &text);
                applied.map(drop).map_err(|why| why.to_string())
            });
            let mut enough = false;
            while !enough {
                enough = watch(&self.read()?);
                thread::sleep(LOOK);
                if applying.is_finished() && !enough {
                    // A refusal ends the wait: nothing will come.
                    break;
                }
            }
            applying.join().map_err(|_| "the thread that applies ended by a fault")??;
            while !enough {
                enough = watch(&self.read()?);
                thread::sleep(LOOK);
            }
            Ok(())
        })
    }

    /// Somebody who operates it, on a thread of their own.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator { socket: self.socket.clone() }
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

fn read(connection: &mut Connection) -> Outcome<Reading> {
    let asked = Instant::now();
    let workers: Vec<WorkerStatus> = connection.get("workers")?;
    // The counters were read between the question and the answer.
    let at = asked + asked.elapsed() / 2;
    let sum = |count: fn(&WorkerStatus) -> u64| workers.iter().map(count).sum();
    let mut stages: Vec<Stage> = Vec::new();
    for status in workers.iter().flat_map(|worker| &worker.stages) {
        let cycles = status.cycles_per_packet * precise(status.packets);
        match stages.iter_mut().find(|stage| stage.name == status.name) {
            Some(stage) => {
                stage.packets += status.packets;
                stage.cycles += cycles;
            }
            None => stages.push(Stage { name: status.name.clone(), packets: status.packets, cycles }),
        }
    }
    Ok(Reading {
        at,
        received: sum(|worker| worker.rx_packets),
        forwarded: sum(|worker| worker.forwarded),
        dropped: sum(|worker| worker.dropped),
        bursts: sum(|worker| worker.bursts),
        sessions: sum(|worker| worker.sessions),
        opened: sum(|worker| worker.sessions_opened),
        generation: workers.iter().map(|worker| worker.generation).min().unwrap_or_default(),
        stages,
        by_worker: workers.iter().map(|worker| worker.rx_packets).collect(),
    })
}
