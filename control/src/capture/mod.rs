//! Captures: frames of one port as the workers copy them, made a pcapng file for whoever asked.
//!
//! - [`pcapng`]: the file.
//! - [`CaptureWanted`]: what is asked.
//!
//! Runs in management. What is bounded: the buffers the workers fill (by control), the frames, bytes and time of a capture
//! (by who asks, within the bounds here).

pub mod pcapng;

use core::ops::RangeInclusive;
use std::time::Duration;

use stage::DropReason;

/// How long a capture may last.
pub const LASTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Bytes of a frame that are kept at most: more than any port carries.
pub const SNAP_MAX: usize = 16_384;

/// Bytes of a file when nothing else is said.
pub const SIZE: u64 = 96 << 20;

/// Which of a port's frames are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Directions {
    /// Those that came and those that were sent.
    #[default]
    Both,
    /// Those that came.
    In,
    /// Those that were sent.
    Out,
}

impl Directions {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl core::str::FromStr for Directions {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Both, Self::In, Self::Out];
        all.into_iter().find(|direction| direction.name() == word).ok_or_else(|| "write in, out or both".to_owned())
    }
}

/// What is captured of those: everything, or what is dropped, for one reason or any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drops {
    /// Everything.
    #[default]
    All,
    /// What is dropped.
    Any,
    /// What is dropped for this reason.
    Only(DropReason),
}

impl Drops {
    /// The word for it, as `--drops` takes it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Any => Some("any"),
            Self::Only(reason) => Some(reason.name()),
        }
    }
}

impl core::str::FromStr for Drops {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word == "any" {
            return Ok(Self::Any);
        }
        let reason = DropReason::all().find(|reason| reason.name() == word);
        reason.map(Self::Only).ok_or_else(|| {
            format!("'{word}' is no reason of a drop; write any, or one that `millrace show drops --explain` lists")
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureWanted {
    /// The port.
    pub port: String,
    /// Which way its frames go.
    pub directions: Directions,
    /// Whether only drops.
    pub drops: Drops,
    /// Which frames, in the syntax of pcap-filter(7); empty for all.
    pub filter: String,
    /// Bytes of each frame.
    pub snap: usize,
    /// Frames at most.
    pub count: u64,
    /// Bytes of the file at most.
    pub size: u64,
    /// For how long.
    pub span: Duration,
}
