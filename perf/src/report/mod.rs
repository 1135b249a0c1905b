//! What a run found, as plain values: made by cases, kept as JSON, drawn for the terminal and as a page of HTML. The JSON is
//! this structure; field names stay.

mod html;
mod svg;
mod terminal;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::statistics::{Figures, Net, Window, precise};

pub use html::page;
pub use terminal::text;

/// Raised when a field changes its meaning.
pub const VERSION: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// When it began (RFC 3339, UTC).
    pub begun: Timestamp,
    /// The command, as typed.
    pub command: String,
    /// The appliance's version.
    pub millrace: String,
    /// Where it ran.
    pub machine: Machine,
    /// One for each case, in the order they ran.
    pub chapters: Vec<Chapter>,
}

impl Report {
    /// Whether every case came to its end.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.chapters.iter().all(|chapter| chapter.failed.is_empty())
    }
}

/// What one case found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chapter {
    /// The case.
    pub case: String,
    /// What it measures, in a sentence.
    pub sentence: String,
    /// How: devices, traffic, configuration.
    pub method: String,
    /// Measurements beside testpmd.
    pub measurements: Vec<Measurement>,
    /// Everything that is no such measurement.
    pub tables: Vec<Table>,
    /// Drawings.
    pub plots: Vec<Plot>,
    /// What a reader has to know to judge the figures.
    pub notes: Vec<String>,
    /// Measurements that came to nothing, and why. A chapter with any makes the whole run fail.
    pub failed: Vec<String>,
}

/// One comparison: the appliance and testpmd in turn on the same devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was varied, such as `10,000 sessions, UDP, IPv4, 64 B`.
    pub label: String,
    /// The same by name, for programs.
    pub parameters: BTreeMap<String, String>,
    /// Cycles a packet of `dpdk-testpmd` in `io`.
    pub testpmd: Figures,
    /// Cycles a packet of the appliance.
    pub millrace: Figures,
    /// Cycles a packet of `dpdk-testpmd` in `macswap`, which touches each packet's first line; nothing where it was not run.
    #[serde(default)]
    pub macswap: Figures,
    /// The appliance's less those of testpmd in `io`.
    pub net: Net,
    /// The appliance's packets for each of testpmd's.
    pub ratio: f64,
    /// Millions of packets a second and core, in the middle window.
    pub mpps: f64,
    /// Cycles a packet in each stage, in bursts the worker measured.
    pub stages: Vec<StageCost>,
    /// Packets in a burst, on average; 32 is full.
    pub burst_fill: f64,
    /// Net cycles a packet that were aimed at.
    pub target: Option<f64>,
}

impl Measurement {
    /// The figures of two series of windows: testpmd's, and the appliance's on so many cores. The rest is left empty.
    #[must_use]
    pub fn of(testpmd: &[Window], millrace: &[Window], hertz: f64, cores: usize) -> Self {
        let (testpmd, millrace) = (Figures::of_windows(testpmd, hertz), Figures::of_windows(millrace, hertz));
        let per = |figure: f64, cost: f64| if cost > 0.0 { figure / cost } else { 0.0 };
        Self {
            net: millrace.less(&testpmd),
            ratio: per(testpmd.median, millrace.median),
            mpps: per(hertz, millrace.median) / precise(cores.max(1) as u64) / 1e6,
            testpmd,
            millrace,
            ..Self::default()
        }
    }
}

/// What one stage costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// Its name in `show workers`.
    pub name: String,
    /// Cycles for each packet of the whole traffic.
    pub cycles: f64,
}

/// A table of words and figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Its columns; the first names the row.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

/// A drawing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis, with its unit.
    pub x: Axis,
    /// The vertical axis, with its unit.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What it counts, with the unit.
    pub title: String,
    /// Whether its steps are powers of ten.
    pub logarithmic: bool,
}

/// One line of a drawing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}
