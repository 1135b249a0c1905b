//! The way of a burst compiled for several generations of processors, in one program: which of them runs is decided when a
//! worker is made, not when the program is built. The only file of this crate with unsafe code: the promise that a
//! processor has the instructions a function was compiled to.
#![allow(unsafe_code, reason = "functions compiled for a processor are called where it was found")]

use frame::{BufferPool, Burst, Nic};

use crate::clock::Clock;
use crate::packet::Arrival;
use crate::poll::Worker;

/// A generation of processors, as far as the packet path gains by it. A value other than `Any` exists only where
/// [`Processor::this`] found its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// Whatever the program was built for.
    Any,
    /// x86-64-v3 and AES: every server processor since 2015.
    #[cfg(target_arch = "x86_64")]
    V3,
    /// x86-64-v4 and AES: 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    V4,
}

impl Processor {
    /// The one this runs on.
    pub(crate) fn this() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let v3 = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("movbe") && has!("aes");
            let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            match (v4, v3) {
                (true, _) => Self::V4,
                (false, true) => Self::V3,
                (false, false) => Self::Any,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::Any
    }
}

impl<N, P, C> Worker<N, P, C>
where
    N: Nic,
    P: BufferPool<Buffer = N::Buffer>,
    C: Clock,
{
    /// Treats a burst in the instructions of `processor`.
    #[inline]
    pub(crate) fn treat_by(&mut self, processor: Processor, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        match processor {
            Processor::Any => self.treat_here(burst, arrival),
            // SAFETY: a `Processor::V3` exists only where `Processor::this` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Processor::V3 => unsafe { self.treat_v3(burst, arrival) },
            // SAFETY: a `Processor::V4` exists only where `Processor::this` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Processor::V4 => unsafe { self.treat_v4(burst, arrival) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,aes")]
    fn treat_v3(&mut self, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        self.treat_here(burst, arrival);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,aes,avx512f,avx512bw,avx512dq,avx512vl")]
    fn treat_v4(&mut self, burst: &mut Burst<N::Buffer>, arrival: Arrival) {
        self.treat_here(burst, arrival);
    }
}
