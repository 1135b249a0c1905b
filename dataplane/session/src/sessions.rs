//! Both address families of one worker under one capacity, so that neither takes memory the other could use.

use std::net::{Ipv4Addr, Ipv6Addr};

use units::Tick;

use crate::memory::OutOfMemory;
use crate::{Backing, HashSecret, InsertError, NewSession, Session, Slot, Table, Timeouts};

/// One worker's sessions.
#[derive(Debug)]
pub struct Sessions {
    /// IPv4. Insert through [`Sessions::insert_v4`], which keeps the shared capacity.
    pub v4: Table<Ipv4Addr>,
    /// IPv6. Insert through [`Sessions::insert_v6`], which keeps the shared capacity.
    pub v6: Table<Ipv6Addr>,
    capacity: usize,
}

impl Sessions {
    /// Room for `capacity` sessions of either family, in any mixture.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(capacity: usize, secret: &HashSecret) -> Result<Self, OutOfMemory> {
        let (v4, v6) = (Table::new(capacity, secret.clone())?, Table::new(capacity, secret.clone())?);
        Ok(Self { capacity: v4.capacity(), v4, v6 })
    }

    /// Sets the idle limits of both families; see [`Table::set_timeouts`].
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) {
        self.v4.set_timeouts(timeouts);
        self.v6.set_timeouts(timeouts);
    }

    /// How many sessions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sessions there may be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the next session would be refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Bytes set aside, touched or not.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }

    /// Memory that the kernel has not backed yet, for a thread beside.
    #[must_use]
    pub fn backing(&self) -> Backing {
        Backing::new(self.v4.backing(), self.v6.backing())
    }

    /// Tells that thread how far the tables have got.
    #[inline]
    pub fn tell_reached(&self) {
        self.v4.tell_reached();
        self.v6.tell_reached();
    }

    /// Adds an IPv4 session.
    ///
    /// # Errors
    /// As [`Table::insert`]; also `Full` when both families together have used the capacity up.
    pub fn insert_v4(&mut self, new: &NewSession<Ipv4Addr>, now: Tick) -> Result<Slot, InsertError> {
        if self.is_full() { Err(InsertError::Full) } else { self.v4.insert(new, now) }
    }

    /// Adds an IPv6 session.
    ///
    /// # Errors
    /// As [`Table::insert`]; also `Full` when both families together have used the capacity up.
    pub fn insert_v6(&mut self, new: &NewSession<Ipv6Addr>, now: Tick) -> Result<Slot, InsertError> {
        if self.is_full() { Err(InsertError::Full) } else { self.v6.insert(new, now) }
    }

    /// As [`Sessions::insert_v4`], for tuples whose hashes are known: the original's and the reply's.
    ///
    /// # Errors
    /// As [`Sessions::insert_v4`].
    pub fn insert_hashed_v4(
        &mut self,
        new: &NewSession<Ipv4Addr>,
        hashes: [u64; 2],
        now: Tick,
    ) -> Result<Slot, InsertError> {
        if self.is_full() { Err(InsertError::Full) } else { self.v4.insert_hashed(new, hashes, now) }
    }

    /// As [`Sessions::insert_v6`], for tuples whose hashes are known: the original's and the reply's.
    ///
    /// # Errors
    /// As [`Sessions::insert_v6`].
    pub fn insert_hashed_v6(
        &mut self,
        new: &NewSession<Ipv6Addr>,
        hashes: [u64; 2],
        now: Tick,
    ) -> Result<Slot, InsertError> {
        if self.is_full() { Err(InsertError::Full) } else { self.v6.insert_hashed(new, hashes, now) }
    }

    /// Removes what has been silent for too long, of either family; see [`Table::advance`]. The budget is shared.
    pub fn advance(
        &mut self,
        now: Tick,
        budget: usize,
        on_expire_v4: impl FnMut(Slot, &Session<Ipv4Addr>),
        on_expire_v6: impl FnMut(Slot, &Session<Ipv6Addr>),
    ) -> usize {
        let v4 = self.v4.advance(now, budget, on_expire_v4);
        v4 + self.v6.advance(now, budget.saturating_sub(v4), on_expire_v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Tuple};

    fn new<A: Copy>(source: A, destination: A, port: u16) -> (Kind, Tuple<A>) {
        (Kind::Udp, Tuple { source, destination, source_port: port, destination_port: 53 })
    }

    fn v4(port: u16) -> NewSession<Ipv4Addr> {
        let (kind, tuple) = new(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), port);
        NewSession::new(kind, tuple, tuple.reversed())
    }

    fn v6(port: u16) -> NewSession<Ipv6Addr> {
        let (kind, tuple) = new(Ipv6Addr::from_bits(1 << 64), Ipv6Addr::from_bits(2 << 64), port);
        NewSession::new(kind, tuple, tuple.reversed())
    }

    #[test]
    fn both_families_share_one_capacity_in_any_mixture() {
        for share in 0..=10 {
            let mut sessions = Sessions::new(10, &HashSecret::from_seed(1)).unwrap();
            let now = Tick::new(9);
            for port in 0..share {
                sessions.insert_v4(&v4(port), now).unwrap();
            }
            for port in share..10 {
                sessions.insert_v6(&v6(port), now).unwrap();
            }
            assert!(sessions.is_full());
            assert_eq!(sessions.insert_v4(&v4(99), now), Err(InsertError::Full));
            assert_eq!(sessions.insert_v6(&v6(99), now), Err(InsertError::Full));
            let (mut ended_v4, mut ended_v6) = (0, 0);
            while sessions.advance(Tick::new(500), 3, |_, _| ended_v4 += 1, |_, _| ended_v6 += 1) > 0 {}
            assert_eq!((ended_v4, ended_v6, sessions.len()), (share, 10 - share, 0));
        }
    }

    #[test]
    fn without_capacity_everything_is_refused() {
        let mut sessions = Sessions::new(0, &HashSecret::from_seed(1)).unwrap();
        assert_eq!(sessions.insert_v4(&v4(1), Tick::new(0)), Err(InsertError::Full));
        assert_eq!(sessions.v4.insert(&v4(1), Tick::new(0)), Err(InsertError::Full));
        assert!(!sessions.v4.contains(Kind::Udp, &v4(1).original));
        assert_eq!(sessions.advance(Tick::new(100_000), 10, |_, _| {}, |_, _| {}), 0);
    }
}
