//! Places that are few, and who gives way when one more comes: one of whoever has most of them. So whoever comes with many keeps
//! out only himself, and a stranger with one place loses it only when there are as many strangers as places (FLD-13).
//!
//! For the callers of the API by who they are, for handshakes and readers of metrics by where they come from. Runs on the
//! management threads.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use tokio::task::{AbortHandle, JoinHandle};

/// Which of those who are there gives way: of whoever has most places, the one that comes `first`.
pub(super) fn gives_way<W: Ord, F: Ord>(there: impl Iterator<Item = (W, F)> + Clone) -> Option<usize> {
    let mut places: BTreeMap<W, usize> = BTreeMap::new();
    for (who, _) in there.clone() {
        *places.entry(who).or_default() += 1;
    }
    let most = places.values().max().copied();
    let crowd = there.enumerate().filter(|(_, (who, _))| places.get(who).copied() == most);
    crowd.min_by(|(_, (_, one)), (_, (_, other))| one.cmp(other)).map(|(at, _)| at)
}

/// Connections that are attended, each by a task of its own; the oldest give way.
#[derive(Debug)]
pub(super) struct Crowd {
    places: usize,
    /// Where each came from, the oldest first.
    attended: Vec<(IpAddr, AbortHandle)>,
}

impl Crowd {
    pub(super) const fn new(places: usize) -> Self {
        Self { places, attended: Vec::new() }
    }

    /// Begins to attend a connection from there.
    pub(super) fn attend(&mut self, from: IpAddr, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.attended.retain(|(_, task)| !task.is_finished());
        let there = self.attended.iter().enumerate().map(|(age, (from, _))| (from, age));
        if self.attended.len() >= self.places
            && let Some(at) = gives_way(there)
        {
            self.attended.remove(at).1.abort();
        }
        let task = tokio::spawn(task);
        self.attended.push((network(from), task.abort_handle()));
        task
    }
}

/// Whose an address is: of IPv6 the network, of whose addresses one host has as many as it likes (RFC 4291 section 2.5.1).
const fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 64;

    /// FLD-13: however fast one host comes, whoever comes from elsewhere has his time.
    #[tokio::test]
    async fn a_crowd_keeps_out_nobody_but_itself() {
        let mut crowd = Crowd::new(PLACES);
        let mut come = |from: String| crowd.attend(from.parse().unwrap(), std::future::pending());
        let first = come("192.0.2.1".into());
        let (mut many, mut others) = (Vec::new(), Vec::new());
        for number in 0..8 * PLACES {
            many.push(come(format!("2001:db8::{number:x}")));
            if number % 64 == 0 {
                others.push(come("2001:db8:0:1::1".into()));
            }
        }
        // What was ended has ended when the runtime had its turn.
        assert!(many.remove(0).await.unwrap_err().is_cancelled());
        assert!(many.remove(0).await.unwrap_err().is_cancelled());
        let last = many.pop().unwrap();
        assert!(![&first, &last].into_iter().chain(&others).any(|task| task.is_finished()));
        assert_eq!(crowd.attended.len(), PLACES);
    }

    #[tokio::test]
    async fn places_of_those_who_went_are_free() {
        let mut crowd = Crowd::new(2);
        let from = "192.0.2.1".parse().unwrap();
        let stays = crowd.attend(from, std::future::pending());
        for _ in 0..9 {
            crowd.attend(from, async {}).await.unwrap();
        }
        assert!(!stays.is_finished());
    }
}
