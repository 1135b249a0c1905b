//! What a process that ends in good order leaves to the next: its sessions, so that conversations go on when the binary or the machine
//! is replaced (RLD-11). Two processes cannot share devices or tables; so the old one writes its sessions into the state folder when its
//! workers have stopped, and the new one takes them up before its first packet.
//!
//! Called by `launch`, at both ends. What is left is read once: it is out of the folder before a packet is treated, so that no later start
//! finds sessions as they were long ago. Nothing that stands there keeps an appliance from starting.

mod file;
mod moment;

use std::path::Path;

use frame::Buffer;
use units::Nanos;
use worker::{Block, NotTakenUp, Places, SessionImage, Shard, Snapshot};

pub use file::{Count, Header, Left, Unusable, write};
pub use moment::Moment;

use crate::status::RestartStatus;

/// Where sessions are left, and whether they are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Estate<'p> {
    /// The state folder; without one nothing is left.
    pub folder: Option<&'p Path>,
    /// Whether the policy keeps sessions.
    pub kept: bool,
}

impl<'p> Estate<'p> {
    /// That of this policy.
    #[must_use]
    pub fn of(policy: &'p config::Policy) -> Self {
        Self { folder: policy.appliance.state_folder.as_deref(), kept: policy.sessions.keep_across_restarts }
    }

    /// Writes sessions down, whose workers have stopped at this moment under this generation, and says so in the log.
    pub fn leave(&self, generation: u64, stopped: Moment, blocks: impl Iterator<Item = Block>) {
        let Some(folder) = self.folder.filter(|_| self.kept) else { return };
        match write(folder, Header { generation, stopped }, blocks) {
            Ok(Count { sessions, left_out: 0 }) => {
                log::info!("{sessions} sessions are written down for the next start");
            }
            Ok(Count { sessions, left_out }) => {
                log::info!(
                    "{sessions} sessions are written down for the next start; {left_out} were still being begun"
                );
            }
            Err(error) => {
                log::error!(
                    "sessions could not be written to {}, and the next start begins without: {error}",
                    folder.display()
                );
            }
        }
    }

    /// Has sessions that were left go on in these shards, which have these tables and no packets yet, and says so in the log.
    pub fn take_up<B: Buffer>(&self, shards: &mut [Shard<B>], snapshot: &Snapshot, now: Nanos) -> RestartStatus {
        let Some(left) = self.folder.and_then(Left::take) else { return RestartStatus::default() };
        let taken_up = left.and_then(|left| {
            if !self.kept {
                log::info!("sessions of the process before are not taken up: [sessions] keep_across_restarts is off");
                return Ok(RestartStatus::default());
            }
            take_up(left, shards, snapshot, now)
        });
        match taken_up {
            Ok(status) => {
                if let Some(summary) = status.summary() {
                    log::info!("{summary}");
                }
                status
            }
            Err(why) => {
                log::warn!("sessions of the process before are not taken up: {why}");
                RestartStatus { trouble: Some(why.to_string()), ..RestartStatus::default() }
            }
        }
    }
}

fn take_up<B: Buffer>(
    left: Left,
    shards: &mut [Shard<B>],
    snapshot: &Snapshot,
    now: Nanos,
) -> Result<RestartStatus, Unusable> {
    let Header { generation, stopped } = *left.header();
    let silence = Moment::now().since(&stopped).ok_or(Unusable::SetBack)?;
    let Count { sessions, left_out } = left.count();
    let places = Places::of(snapshot, silence, now);
    let mut refused = [0_u64; NotTakenUp::ALL.len()];
    let mut taken_up = 0;
    left.each(&mut |image| match settle(image, shards, &places) {
        Ok(()) => taken_up += 1,
        Err(why) => {
            let place = NotTakenUp::ALL.iter().position(|&reason| reason == why);
            if let Some(count) = place.and_then(|place| refused.get_mut(place)) {
                *count += 1;
            }
        }
    })?;
    let counted = NotTakenUp::ALL.iter().zip(refused).filter(|&(_, count)| count > 0);
    let outage = Moment::now().since(&stopped).unwrap_or(silence);
    Ok(RestartStatus {
        generation: Some(generation),
        written: sessions,
        left_out,
        taken_up,
        not_taken_up: counted.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        outage_ms: Some(outage.as_millis()),
        trouble: None,
    })
}

/// Has one session go on where its packets will come.
fn settle<B: Buffer>(image: &SessionImage, shards: &mut [Shard<B>], places: &Places) -> Result<(), NotTakenUp> {
    let owner = shards.first().ok_or(NotTakenUp::Unsound)?.owner_of(image)?;
    shards.get_mut(owner.index()).ok_or(NotTakenUp::Unsound)?.take_up(image, places)
}
