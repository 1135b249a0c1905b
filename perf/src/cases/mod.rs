//! The cases: each says what it measures and how, and measures it. A new one is a file here and a line in [`ALL`].

mod connections;
mod established;
mod flood;
mod growth;
mod iperf;
mod live;
mod logged;
mod memory;
mod occupancy;
mod operated;
mod point;
mod rules;
mod scale;
mod services;

use crate::Outcome;
use crate::bench::Bench;
use crate::report::Chapter;

pub use connections::Connections;
pub use established::Established;
pub use flood::Flood;
pub use iperf::Iperf;
pub use live::{Latency, Lifecycle, Mixed, Ndr};
pub use logged::Logged;
pub use memory::Memory;
pub use occupancy::Occupancy;
pub use operated::Operated;
pub use rules::Rules;
pub use scale::Scale;
pub use services::Services;

/// Something to measure.
pub trait Case: Sync {
    /// Its word on the command line.
    fn name(&self) -> &'static str;

    /// What it measures, in a sentence.
    fn sentence(&self) -> &'static str;

    /// Devices, traffic and configuration: what somebody who repeats it by hand has to know.
    fn method(&self) -> &'static str;

    /// Measures. What goes wrong with one of several measurements goes to `chapter.failed`, and the others go on.
    ///
    /// # Errors
    /// When nothing can be measured.
    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()>;
}

/// All of them, in the order they run.
pub const ALL: &[&dyn Case] = &[
    &Established,
    &Connections,
    &Logged,
    &Rules,
    &Services,
    &Occupancy,
    &Memory,
    &Operated,
    &Scale,
    &Ndr,
    &Latency,
    &Lifecycle,
    &Mixed,
    &Iperf,
    &Flood,
];

/// The cases with these names; all when there are none.
///
/// # Errors
/// The name that is no case's, with those that are.
pub fn named(names: &[String]) -> Outcome<Vec<&'static dyn Case>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let known = || ALL.iter().map(|case| case.name()).collect::<Vec<_>>().join(", ");
        let case = ALL.iter().copied().find(|case| case.name() == name);
        case.ok_or_else(|| format!("there is no case {name}; there are {}", known()).into())
    };
    names.iter().map(find).collect()
}

/// A chapter of a case, measured.
#[must_use]
pub fn chapter(case: &dyn Case, bench: &Bench) -> Chapter {
    let mut chapter = Chapter {
        case: case.name().to_owned(),
        sentence: case.sentence().to_owned(),
        method: case.method().to_owned(),
        ..Chapter::default()
    };
    if let Err(why) = case.run(bench, &mut chapter) {
        chapter.failed.push(why.to_string());
    }
    chapter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_says_what_it_does() {
        for (position, case) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(position + 1).all(|other| other.name() != case.name()), "{}", case.name());
            assert!(case.sentence().ends_with('.') && case.method().ends_with('.'), "{}", case.name());
        }
        let refused = named(&["speed".to_owned()]).err().unwrap().to_string();
        assert!(refused.starts_with("there is no case speed; there are established"), "{refused}");
        assert_eq!(named(&[]).unwrap().len(), ALL.len());
    }
}
