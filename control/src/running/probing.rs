//! What probes find, and how the balancer's tables follow it.
//!
//! Called on the thread that [`attend_probes`](Running::attend_probes) is called from, and by whoever drains a backend.

use std::sync::{Arc, Weak};

use crossbeam::channel::{Receiver, bounded};
use stage::balancer::Health;
use worker::Snapshot;

use super::documents::health_status;
use super::{PATIENCE, Running, late, lock, placed};
use crate::bulletin::Happening;
use crate::health::{Prober, Report, targets};
use crate::status::Refusal;

impl Running {
    /// Starts probing with this prober.
    pub fn probe_with(&self, mut prober: Prober) {
        let mut state = lock(&self.state);
        prober.watch(targets(&state.policy));
        state.prober = Some(prober);
    }

    /// Takes in what probes find until there are no more of them or the appliance is gone, on the thread it is called from.
    /// When that changes who can be chosen, the balancer's tables follow: once for all that has come meanwhile, and on a thread
    /// of their own, since renewing them waits for the workers, and for whoever else changes something.
    pub fn attend_probes(this: &Weak<Self>, reports: &Receiver<Report>) {
        let (wake, woken) = bounded::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while woken.recv().is_ok()
                    && let Some(appliance) = this.upgrade()
                {
                    if let Err(refusal) = appliance.rebuild() {
                        log::error!("the balancer's tables could not be renewed: {refusal}");
                    }
                }
            });
            while let Ok(first) = reports.recv()
                && let Some(appliance) = this.upgrade()
            {
                let renew =
                    reports.try_iter().fold(appliance.take_in(&first), |renew, next| appliance.take_in(&next) || renew);
                if renew {
                    // Full: it is about to look.
                    let _ = wake.try_send(());
                }
            }
            drop(wake);
        });
    }

    /// Takes in what a probe has found; true when it changes who can be chosen.
    fn take_in(&self, report: &Report) -> bool {
        let snapshot = self.snapshot();
        let Some(service) = snapshot.services.by_name(&report.service) else { return false };
        let Some(member) = service.members().iter().find(|member| member.backend.name() == report.backend) else {
            return false;
        };
        if member.backend.address() != report.address.ip() {
            return false;
        }
        if let Ok(took) = report.outcome {
            member.backend.set_response_us(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        // Not judged yet, as after a policy that probes it in another way: what was known holds until it is.
        if report.health == Health::Unknown || !member.backend.set_health(report.health) {
            return false;
        }
        self.bulletin.tell(Happening::Backend {
            service: report.service.clone(),
            backend: report.backend.clone(),
            health: health_status(&member.backend, self.fixed.clock.now()),
        });
        match &report.outcome {
            Ok(_) => log::info!("backend {} of service {} is {}", report.backend, report.service, report.health.name()),
            Err(why) => {
                log::warn!(
                    "backend {} of service {} is {}: {why}",
                    report.backend,
                    report.service,
                    report.health.name()
                );
            }
        }
        true
    }

    /// Renews the balancer's tables when health or administration ask for others.
    pub(super) fn rebuild(&self) -> Result<(), Refusal> {
        let _turn = self.turns.wait();
        let before = self.snapshot();
        if !before.services.is_outdated() {
            return Ok(());
        }
        let services = Arc::new(before.services.rebuilt());
        let snapshot = Arc::new(Snapshot { services, ..Snapshot::clone(&before) });
        let neighbors = {
            let mut state = lock(&self.state);
            state.snapshot = Arc::clone(&snapshot);
            placed(&state.policy)
        };
        // The state is not locked meanwhile: others read it.
        self.hand_over(snapshot, neighbors, Vec::new())?.recv_timeout(PATIENCE).map_err(|_| late())
    }
}
