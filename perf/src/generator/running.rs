//! The generator at work: a thread that starts DPDK, owns both devices and runs trials, and the handle by which cases order
//! them. One for each process, since DPDK starts once in the life of one. The thread is pinned to its core by DPDK's start;
//! the caller's threads, and so the programs it starts, are not.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dpdk::{Clock, Eal, EalOptions, Pool, PoolOptions, Port, PortOptions, Queue};
use wire::MacAddr;

use super::{Stream, Tally, Trial, Wires};
use crate::Outcome;

/// Buffers: what both devices' rings hold, several times.
const BUFFERS: u32 = 16_383;
/// Bytes of the largest frame.
const FRAME_BYTES: u16 = 2_048;
/// DPDK's memory, in MiB.
const MEMORY_MIB: u32 = 96;
/// How long the other end of a device may take to appear.
const LINK_MAX: Duration = Duration::from_secs(20);

/// One device and the stations on its link.
#[derive(Clone, Debug)]
pub struct Device {
    /// As DPDK users write it.
    pub device: String,
    /// The generator's station.
    pub ours: MacAddr,
    /// The appliance's.
    pub theirs: MacAddr,
}

/// A running generator.
#[derive(Debug)]
pub struct Generator {
    orders: Sender<Order>,
    answers: Receiver<Result<Answer, String>>,
    thread: Option<JoinHandle<()>>,
    trials: u16,
    hertz: f64,
}

#[derive(Debug)]
enum Order {
    Open([Device; 2]),
    Link,
    Run(Vec<Stream>, Trial),
    Close,
}

#[derive(Debug)]
enum Answer {
    Ready(f64),
    Done,
    Ran(Vec<Stream>, Box<Tally>),
}

impl Generator {
    /// Starts the thread on `core`. DPDK touches no PCI devices but those among `devices`.
    ///
    /// # Errors
    /// A sentence, when DPDK does not start or has been started before.
    pub fn start(core: usize, devices: Vec<String>) -> Outcome<Self> {
        let (orders, received) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let thread = thread::Builder::new().name("generator".into()).spawn(move || {
            if let Err(error) = serve(core, devices, &received, &answer) {
                // Nobody is left to tell when the handle is gone.
                drop(answer.send(Err(error.to_string())));
            }
        })?;
        let mut generator = Self { orders, answers, thread: Some(thread), trials: 0, hertz: 0.0 };
        let Answer::Ready(hertz) = generator.answer()? else { return Err("the generator did not start".into()) };
        generator.hertz = hertz;
        Ok(generator)
    }

    fn answer(&self) -> Outcome<Answer> {
        Ok(self.answers.recv().map_err(|_| "the generator's thread has ended")??)
    }

    fn order(&self, order: Order) -> Outcome<Answer> {
        self.orders.send(order).map_err(|_| "the generator's thread has ended")?;
        self.answer()
    }

    /// Cycles of the counter in a second.
    #[must_use]
    pub const fn hertz(&self) -> f64 {
        self.hertz
    }

    /// Opens the outside and the inside device, which stay open until [`Generator::close`].
    ///
    /// # Errors
    /// DPDK's sentence.
    pub fn open(&self, devices: [Device; 2]) -> Outcome<()> {
        self.order(Order::Open(devices)).map(drop)
    }

    /// Waits until something answers at the other end of both.
    ///
    /// # Errors
    /// When nothing does within twenty seconds.
    pub fn wait_for_link(&self) -> Outcome<()> {
        self.order(Order::Link).map(drop)
    }

    /// Runs a trial of `streams`; `trial.number` is chosen here.
    ///
    /// # Errors
    /// When no devices are open.
    pub fn run(&mut self, streams: &mut Vec<Stream>, trial: &Trial) -> Outcome<Tally> {
        self.trials = self.trials.wrapping_add(1);
        let trial = Trial { number: self.trials, hertz: self.hertz, ..trial.clone() };
        match self.order(Order::Run(std::mem::take(streams), trial))? {
            Answer::Ran(back, tally) => {
                *streams = back;
                Ok(*tally)
            }
            Answer::Ready(_) | Answer::Done => Err("the generator did not run the trial".into()),
        }
    }

    /// Closes the devices.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn close(&self) -> Outcome<()> {
        self.order(Order::Close).map(drop)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // The thread ends when nobody can order anything any more.
        let (nobody, _) = mpsc::channel();
        self.orders = nobody;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What is open.
struct Open {
    ports: [Port; 2],
    wires: Wires<Queue, Pool>,
}

/// The thread.
fn serve(
    core: usize,
    devices: Vec<String>,
    orders: &Receiver<Order>,
    answers: &Sender<Result<Answer, String>>,
) -> Outcome<()> {
    let eal = Eal::init(&EalOptions {
        file_prefix: format!("millrace-perf-{}", std::process::id()),
        memory_mib: MEMORY_MIB,
        hugepages: true,
        devices,
        main_core: core,
    })?;
    let options = PoolOptions { name: "generator".into(), buffers: BUFFERS, frame_bytes: FRAME_BYTES, socket: None };
    let pool = Pool::new(&eal, &options)?;
    answers.send(Ok(Answer::Ready(crate::statistics::precise(eal.clock().hertz()))))?;
    let mut open = None;
    while let Ok(order) = orders.recv() {
        let answer = match order {
            Order::Open(devices) => {
                // The old ones first: two devices of one name cannot be.
                drop(open.take());
                connect(&eal, &pool, &devices).map(|made| {
                    open = Some(made);
                    Answer::Done
                })
            }
            Order::Link => open.as_ref().ok_or_else(nothing_open).and_then(|open| link(&open.ports)),
            Order::Run(mut streams, trial) => open.as_mut().ok_or_else(nothing_open).and_then(|open| {
                let tally = open.wires.run(&mut streams, &trial, Clock::cycles)?;
                Ok(Answer::Ran(streams, Box::new(tally)))
            }),
            Order::Close => {
                drop(open.take());
                Ok(Answer::Done)
            }
        };
        answers.send(answer.map_err(|error| error.to_string()))?;
    }
    Ok(())
}

fn nothing_open() -> Box<dyn std::error::Error> {
    "the generator has no devices".into()
}

fn connect(eal: &Eal, pool: &Pool, devices: &[Device; 2]) -> Outcome<Open> {
    let one = |device: &Device| -> Outcome<(Port, Queue)> {
        let options = PortOptions { promiscuous: true, ..PortOptions::default() };
        let (port, queues) = Port::open(eal, &device.device, &options, pool)?;
        let queue = queues.into_iter().next().ok_or("a device without queues")?;
        Ok((port, queue))
    };
    let [outside, inside] = devices;
    let ((first, first_queue), (second, second_queue)) = (one(outside)?, one(inside)?);
    let wires = Wires::new(
        pool.clone(),
        (first_queue, outside.ours, outside.theirs),
        (second_queue, inside.ours, inside.theirs),
    );
    Ok(Open { ports: [first, second], wires })
}

fn link(ports: &[Port; 2]) -> Outcome<Answer> {
    let begun = Instant::now();
    while !ports.iter().all(|port| port.link().up) {
        if begun.elapsed() > LINK_MAX {
            return Err("nothing answers at the other end of the generator's devices".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Answer::Done)
}
