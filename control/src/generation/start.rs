//! What a starting appliance comes up with: the file it is given, or, told to resume, the last generation that was in force
//! for good. Called once by `launch`, before anything is opened but the store.

use std::path::Path;

use config::Checked;
use units::Generation;

use super::{Ledger, Proposal};
use crate::admin::user;
use crate::status::{AppliedPolicy, How, Standing};
use crate::store::{Embedded, Store, Volatile};

/// A policy to come up with.
#[derive(Debug)]
pub struct Start {
    /// What it says, and what is odd about it.
    pub checked: Checked,
    /// Its text.
    pub text: String,
    /// The generation it is, and what is written down of it.
    pub record: AppliedPolicy,
    /// The generations there are.
    pub ledger: Ledger,
}

impl Start {
    /// Chooses: the last committed generation when it should `resume` and there is one, else `file`. A file with the text of
    /// the last generation is that generation again.
    ///
    /// # Errors
    /// A sentence, or the faults of the file. A faulty file does not keep the last generation from being resumed, as long as
    /// it says where the state is.
    pub fn choose(file: &Path, resume: bool) -> Result<Self, Box<dyn std::error::Error>> {
        let text = config::read(file)?;
        let loaded = config::load(&text, file);
        let folder = match &loaded {
            Ok(checked) => checked.policy.appliance.state_folder.clone(),
            Err(faults) => config::state_folder(&text).filter(|_| resume).ok_or_else(|| faults.clone())?,
        };
        let store: Box<dyn Store> = match folder {
            Some(folder) => Box::new(Embedded::open(&folder)?),
            None => Box::new(Volatile::default()),
        };
        let ledger = Ledger::open(store)?;
        let last = match ledger.last_committed() {
            Some(last) => ledger.text(last.generation)?.map(|text| (last, text)),
            None => None,
        };
        match last {
            Some((record, last)) if resume && (last != text || loaded.is_err()) => {
                let AppliedPolicy { generation, source, .. } = &record;
                let checked = config::load(&last, Path::new(source)).map_err(|faults| {
                    format!("{faults}\ngeneration {generation} is not valid for this version; start without --resume")
                })?;
                match loaded {
                    Ok(_) => log::info!(
                        "generation {generation}, from {source}, is resumed; {0} differs from it: `millrace apply {0}` puts \
                         it in force",
                        file.display()
                    ),
                    Err(faults) => log::warn!("generation {generation}, from {source}, is resumed; faulty:\n{faults}"),
                }
                Ok(Self { checked, text: last, record, ledger })
            }
            Some((record, last)) if last == text => Ok(Self { checked: loaded?, text, record, ledger }),
            _ => Ok(Self::anew(loaded?, text, &file.display().to_string(), ledger)),
        }
    }

    /// Comes up with a file as a new generation.
    #[must_use]
    pub fn anew(checked: Checked, text: String, source: &str, ledger: Ledger) -> Self {
        let proposal = Proposal { how: How::Start, ..Proposal::apply(&text, source, &user::own_name()) };
        let record = proposal.record(ledger.next(), Standing::Committed);
        Self { checked, text, record, ledger }
    }

    /// The number for the tables.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation::new(self.record.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: &str = include_str!("../../../config/examples/edge.toml");

    /// A file that keeps its state beside it.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.write("");
            place
        }

        fn text(&self, more: &str) -> String {
            let name = "name = \"edge-1\"\n";
            assert!(EDGE.contains(name));
            let state = self.0.path().join("state");
            EDGE.replacen(name, &format!("{name}state_folder = \"{}\"\n", state.display()), 1) + more
        }

        fn write(&self, more: &str) {
            std::fs::write(self.0.path().join("edge.toml"), self.text(more)).unwrap();
        }

        fn choose(&self, resume: bool) -> Result<Start, String> {
            Start::choose(&self.0.path().join("edge.toml"), resume).map_err(|error| error.to_string())
        }

        /// Starts, puts what it started with in force, and ends.
        fn run(&self, resume: bool) -> (u64, How, bool) {
            let Start { record, ledger, text, .. } = self.choose(resume).unwrap();
            let (number, how, first) = (record.generation, record.how, text == self.text(""));
            if ledger.get(number).is_none() {
                ledger.record_anyway(record, &text);
            }
            (number, how, first)
        }

        /// Puts the text with this comment in force while it runs.
        fn apply(&self, more: &str, standing: Standing) {
            let ledger = self.choose(true).unwrap().ledger;
            let proposal = Proposal::apply(&self.text(more), "elsewhere.toml", "op");
            let record = proposal.record(ledger.next(), Standing::Pending);
            let generation = record.generation;
            ledger.intend(record, &proposal.text).unwrap();
            if standing != Standing::Pending {
                ledger.settle(generation, standing).unwrap();
            }
        }
    }

    #[test]
    fn it_comes_up_with_the_file_unless_it_is_told_to_resume() {
        let place = Place::new();
        assert_eq!(place.run(true), (1, How::Start, true), "nothing to resume");
        assert_eq!(place.run(false), (1, How::Start, true), "the same text is the same generation");
        place.apply("# applied\n", Standing::Committed);
        assert_eq!(place.run(true), (2, How::Apply, false));
        assert_eq!(place.run(false), (3, How::Start, true));
        place.write("# edited\n");
        assert_eq!(place.run(true), (3, How::Start, true));
        assert_eq!(place.run(false), (4, How::Start, false));
    }

    /// What was never committed is not what a restart comes up with, and its number is not given again.
    #[test]
    fn what_was_on_trial_or_taken_back_is_not_resumed() {
        let place = Place::new();
        place.run(false);
        place.apply("# on trial when it died\n", Standing::Pending);
        assert_eq!(place.run(true), (1, How::Start, true));
        let start = place.choose(true).unwrap();
        assert_eq!(start.ledger.get(2).unwrap().standing, Standing::Withdrawn);
        assert_eq!(start.ledger.next(), 3);
    }

    #[test]
    fn a_faulty_file_is_refused_but_does_not_keep_from_resuming() {
        let place = Place::new();
        place.run(false);
        place.write("colour = 1\n[[firewall.rule]]\nnam = \"x\"\n");
        let refused = place.choose(false).unwrap_err();
        assert!(refused.contains("did you mean `name`?"), "{refused}");
        assert_eq!(place.run(true), (1, How::Start, true));
        std::fs::write(place.0.path().join("edge.toml"), "no = toml = at all").unwrap();
        assert!(place.choose(true).unwrap_err().contains("error[bad-toml]"));
        // Faulty, and nothing to resume.
        std::fs::remove_dir_all(place.0.path().join("state")).unwrap();
        place.write("colour = 1\n");
        assert!(place.choose(true).is_err());
    }

    /// CRS-08.
    #[test]
    fn a_second_start_on_the_same_state_is_refused() {
        let place = Place::new();
        let _first = place.choose(false).unwrap();
        assert!(place.choose(false).unwrap_err().starts_with("another appliance keeps its state in "));
    }
}
