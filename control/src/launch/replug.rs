//! Interfaces of the kernel's that vanish from under their ports and come back: the thread `devices`, which opens what is there
//! anew while everything else goes on. Sessions, neighbors and counters stay; the port keeps its MAC address.
//!
//! ```text
//!             the interface vanishes                   there is one of its name
//! plugged --- Unplug: every worker answers, ---> unplugged --- opened as at the start, Plug: ---> plugged
//!             the device is closed                         every worker answers              greeted, once it has carrier
//! ```
//!
//! The driver's sockets die with their interface and cannot be bound again, so the device is closed and opened like any
//! other: this thread keeps the capabilities that takes, and lives under the filter of management. What cannot be opened (too
//! small an MTU, nothing that packet sockets work on) is said once and tried again. NICs on the PCI bus do not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use dpdk::{Eal, Pool, Port, PortOptions, Queue};
use units::PortId;
use worker::Exchange;

use super::confine;
use super::view::View;
use crate::event::Request;
use crate::kernel::Isolation;
use crate::kernel::isolate::interface_exists;

/// How often interfaces are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether workers have answered.
const ANSWER: Duration = Duration::from_millis(1);
/// The time from one attempt to open an interface to the next; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A port over an interface, as it was opened.
#[derive(Debug)]
pub(super) struct Borrowed {
    pub(super) number: PortId,
    pub(super) name: String,
    /// The device as the operator wrote it.
    pub(super) device: String,
    pub(super) interface: String,
    /// How the device is opened: with the address and the queues that it had.
    pub(super) options: PortOptions,
    pub(super) isolation: Isolation,
}

/// What it takes to open devices, and to hand them to the workers.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) eal: Eal,
    pub(super) pool: Pool,
    /// By worker; queue `n` of a port is worker `n`'s.
    pub(super) exchanges: Vec<Arc<Exchange<Queue>>>,
    pub(super) requests: Sender<Request>,
}

/// The running thread. Dropping it stops it and waits for it.
#[derive(Debug)]
pub(super) struct Replug {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Isolation>>>,
}

impl Replug {
    /// Looks after these ports from now on, each with how management sees it; without any there is no thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(ports: Vec<(Borrowed, Arc<View>)>, means: Means) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        if ports.is_empty() {
            return Ok(Self { stop, thread: None });
        }
        let shop = Shop { means, stop: Arc::clone(&stop) };
        let thread = Builder::new().name("devices".into()).spawn(move || {
            confine::keep_what_devices_take();
            shop.attend(ports.into_iter().map(|(borrowed, view)| Outlet::new(borrowed, view)).collect())
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops it. What keeps the kernel off the interfaces is kept for as long as workers poll them.
    pub(super) fn stop(mut self) -> Vec<Isolation> {
        self.halt()
    }

    fn halt(&mut self) -> Vec<Isolation> {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Vec::new() };
        thread.thread().unpark();
        thread.join().unwrap_or_else(|_| {
            log::error!("the devices thread ended by a fault");
            Vec::new()
        })
    }
}

impl Drop for Replug {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A port that is looked after.
struct Outlet {
    number: PortId,
    name: String,
    device: String,
    interface: String,
    options: PortOptions,
    view: Arc<View>,
    state: State,
}

/// How it is with a port.
enum State {
    /// It has a device. Whether the stations on its link know, and what keeps the kernel off its interface.
    Plugged { greeted: bool, isolation: Isolation },
    /// It has none. When one is to be opened, the pause after that, why the last one could not, and whether that was told.
    Unplugged { next: Instant, pause: Duration, why: String, told: bool },
}

impl Outlet {
    fn new(borrowed: Borrowed, view: Arc<View>) -> Self {
        let Borrowed { number, name, device, interface, options, isolation } = borrowed;
        // The start announces what is there.
        let state = State::Plugged { greeted: true, isolation };
        Self { number, name, device, interface, options, view, state }
    }
}

/// The thread's own.
struct Shop {
    means: Means,
    stop: Arc<AtomicBool>,
}

impl Shop {
    fn attend(&self, mut outlets: Vec<Outlet>) -> Vec<Isolation> {
        while !self.is_over() {
            for outlet in &mut outlets {
                self.look(outlet);
            }
            park_timeout(LOOK);
        }
        let isolations = outlets.into_iter().filter_map(|outlet| match outlet.state {
            State::Plugged { isolation, .. } => Some(isolation),
            State::Unplugged { .. } => None,
        });
        isolations.collect()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whatever has to be done about one port now.
    fn look(&self, outlet: &mut Outlet) {
        match &mut outlet.state {
            State::Plugged { .. } if outlet.view.is_orphaned() => self.unplug(outlet),
            State::Plugged { greeted, .. } => {
                if !*greeted && outlet.view.is_up() {
                    *greeted = true;
                    let _ = self.means.requests.send(Request::Greet(outlet.number));
                }
            }
            State::Unplugged { next, .. } if Instant::now() < *next => {}
            State::Unplugged { .. } => self.replug(outlet),
        }
    }

    /// Has the workers give up a device that is dead, and closes it.
    fn unplug(&self, outlet: &mut Outlet) {
        let Some((queues, lost)) = self.exchange(Request::Unplug(outlet.number)) else { return };
        log::warn!(
            "port {}: the interface {} has vanished; the port is down until there is one of that name",
            outlet.name,
            outlet.interface
        );
        drop(queues);
        drop(outlet.view.unplug(lost));
        let away = State::Unplugged { next: Instant::now(), pause: PAUSE_MIN, why: String::new(), told: false };
        if let State::Plugged { isolation, .. } = std::mem::replace(&mut outlet.state, away) {
            isolation.forget();
        }
    }

    /// Opens the interface of that name, if there is one, and gives it to the workers.
    fn replug(&self, outlet: &mut Outlet) {
        let State::Unplugged { next, pause, why, told } = &mut outlet.state else { return };
        if !interface_exists(&outlet.interface) {
            *pause = PAUSE_MIN;
            return;
        }
        let isolation = Isolation::of(&outlet.interface);
        match self.open(&outlet.device, &outlet.options) {
            Ok((device, queues)) => {
                for warning in isolation.warnings() {
                    log::warn!("port {}: {warning}", outlet.name);
                }
                log::info!(
                    "port {}: there is an interface {} again, and the port has it",
                    outlet.name,
                    outlet.interface
                );
                self.plug(outlet.number, &outlet.view, device, queues);
                outlet.state = State::Plugged { greeted: false, isolation };
            }
            Err(refusal) => {
                *next = Instant::now() + *pause;
                *pause = (*pause * 2).min(PAUSE_MAX);
                // What happens once is one that has vanished meanwhile.
                if *why != refusal {
                    (*why, *told) = (refusal, false);
                } else if !*told {
                    log::error!(
                        "port {}: there is an interface {} again, and it cannot be opened: {why}; it is tried again",
                        outlet.name,
                        outlet.interface
                    );
                    *told = true;
                }
            }
        }
    }

    /// Opens a device that can take the place of the one before.
    fn open(&self, device: &str, options: &PortOptions) -> Result<(Port, Vec<Queue>), String> {
        let opened =
            Port::open(&self.means.eal, device, options, &self.means.pool).map_err(|error| error.to_string())?;
        if opened.0.queues() != options.queues {
            return Err(format!("it has {} queues, and the port needs {}", opened.0.queues(), options.queues));
        }
        Ok(opened)
    }

    fn plug(&self, port: PortId, view: &View, device: Port, queues: Vec<Queue>) {
        view.plug(device);
        for (exchange, queue) in self.means.exchanges.iter().zip(queues) {
            if exchange.offer(port, queue).is_err() {
                log::error!("a worker has no place for a queue of its port");
            }
        }
        self.exchange(Request::Plug(port));
    }

    /// Tells the workers something about a device and waits for all their answers: the queues they give up and how many packets
    /// were lost. `None` when the appliance stops meanwhile.
    fn exchange(&self, request: Request) -> Option<(Vec<Queue>, u64)> {
        self.means.requests.send(request).ok()?;
        let (mut queues, mut lost) = (Vec::new(), 0);
        for exchange in &self.means.exchanges {
            let answer = loop {
                if let Some(answer) = exchange.answer() {
                    break answer;
                }
                if self.is_over() {
                    return None;
                }
                park_timeout(ANSWER);
            };
            queues.extend(answer.nic);
            lost += answer.lost;
        }
        Some((queues, lost))
    }
}
