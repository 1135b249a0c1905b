//! What the stores promise, and what they make of disks that fail, are full, are cut off in the middle of a write, or give
//! back other bytes than were written.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::embedded::builder;
use super::*;
use crate::status::How;

fn policy(generation: u64, standing: Standing) -> AppliedPolicy {
    AppliedPolicy {
        generation,
        applied_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        source: "edge.toml".into(),
        who: "op".into(),
        how: How::Apply,
        of: None,
        standing,
    }
}

fn text(generation: u64) -> String {
    format!("# generation {generation}\n").repeat(300)
}

fn commit(store: &dyn Store, generation: u64) -> Result<(), StoreError> {
    store.intend(&policy(generation, Standing::Pending), &text(generation))?;
    store.settle(generation, Standing::Committed)
}

fn numbers(store: &dyn Store) -> Vec<u64> {
    store.generations().unwrap().iter().map(|policy| policy.generation).collect()
}

#[test]
fn the_last_twenty_are_kept_and_the_last_committed_one_whatever_came_after() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Box<dyn Store>; 2] =
        [Box::new(Volatile::default()), Box::new(Embedded::open(&folder.path().join("a/b")).unwrap())];
    for store in &stores {
        assert_eq!(store.text(1).unwrap(), None);
        (1..=25).for_each(|generation| commit(&**store, generation).unwrap());
        assert_eq!(numbers(&**store), (6..=25).collect::<Vec<_>>());
        assert_eq!((store.text(5).unwrap(), store.text(6).unwrap()), (None, Some(text(6))));
        for generation in 26..60 {
            store.intend(&policy(generation, Standing::Pending), "").unwrap();
            store.settle(generation, Standing::Withdrawn).unwrap();
        }
        let kept = numbers(&**store);
        assert_eq!((kept.len(), kept[0], kept[1]), (21, 25, 40));
        assert_eq!(last_committed(&store.generations().unwrap()).unwrap(), &policy(25, Standing::Committed));
        assert_eq!(store.text(25).unwrap(), Some(text(25)));
        let late = store.intend(&policy(59, Standing::Pending), "").unwrap_err();
        assert!(matches!(late, StoreError::Overtaken { generation: 59, last: 59 }), "{late}");
        store.settle(7, Standing::Committed).unwrap();
        assert_eq!(numbers(&**store), kept, "what is not kept cannot be settled");
    }
}

/// CRS-08, and what is left behind by one that ended.
#[test]
fn one_appliance_has_a_state_folder_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    commit(&store, 1).unwrap();
    let second = Embedded::open(folder.path()).unwrap_err();
    assert!(matches!(second, StoreError::Busy { .. }));
    assert!(second.to_string().starts_with("another appliance keeps its state in "), "{second}");
    drop(store);
    // Half a database, from a process that was killed while it made one.
    std::fs::write(folder.path().join("generations.redb.new"), "half").unwrap();
    assert_eq!(numbers(&Embedded::open(folder.path()).unwrap()), [1]);
}

#[test]
fn a_folder_that_cannot_be_is_refused_with_the_key_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    for place in [file.join("below"), file.clone(), "/proc/nowhere".into()] {
        let refused = Embedded::open(&place).unwrap_err().to_string();
        assert!(refused.contains("`state_folder` under [appliance]"), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    std::fs::write(folder.path().join("generations.redb"), "not a database at all").unwrap();
    let refused = Embedded::open(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

/// A disk in memory that fails when it is told, and knows what it would hold after a power cut.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platters>>);

#[derive(Clone, Debug, Default)]
struct Platters {
    bytes: Vec<u8>,
    /// What is there for certain: as of the last barrier.
    synced: Vec<u8>,
    /// Written since: where, and what.
    unsynced: Vec<(usize, Vec<u8>)>,
    changes: u64,
    /// Changes from this one on fail, this many of them.
    failing: Option<(u64, u64, Fault)>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// EIO.
    Broken,
    /// ENOSPC.
    Full,
    /// EIO after half of the bytes.
    Short,
}

impl Disk {
    fn with<T>(&self, work: impl FnOnce(&mut Platters) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platters { synced: bytes.clone(), bytes, ..Platters::default() })))
    }

    fn store(&self) -> Result<Embedded, StoreError> {
        let disk = self.clone();
        let open = move || builder().create_with_backend(disk.clone());
        Embedded::with("/state/generations.redb".into(), Box::new(open), None)
    }

    /// `changes` changes from now on fail.
    fn fail(&self, after: u64, changes: u64, fault: Fault) {
        self.with(|disk| disk.failing = Some((disk.changes + after, changes, fault)));
    }

    /// What a disk holds after the power went: of what was not synced some writes, in part.
    fn after_power_cut(&self, mut seed: u64) -> Self {
        let mut bytes = self.with(|disk| disk.synced.clone());
        for (at, data) in self.with(|disk| disk.unsynced.clone()) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let part = match seed >> 62 {
                0 => 0,
                1 => data.len() / 2,
                _ => data.len(),
            };
            if bytes.len() < at + part {
                bytes.resize(at + part, 0);
            }
            bytes[at..at + part].copy_from_slice(&data[..part]);
        }
        Self::holding(bytes)
    }
}

impl Platters {
    /// Counts a change; the fault it meets.
    fn change(&mut self) -> Option<Fault> {
        self.changes += 1;
        let (first, count, fault) = self.failing?;
        (first..first.saturating_add(count)).contains(&self.changes).then_some(fault)
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        if self.bytes.len() < at + data.len() {
            self.bytes.resize(at + data.len(), 0);
        }
        self.bytes[at..at + data.len()].copy_from_slice(data);
        self.unsynced.push((at, data.to_vec()));
    }
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(if matches!(self, Self::Full) { 28 } else { 5 })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|disk| disk.bytes.len() as u64))
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let at = usize::try_from(offset).unwrap();
        let bytes = self.with(|disk| disk.bytes.get(at..at.checked_add(len)?).map(<[u8]>::to_vec));
        bytes.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|disk| match disk.change() {
            Some(fault) => Err(fault.error()),
            None => {
                disk.bytes.resize(usize::try_from(len).unwrap(), 0);
                // A size is a matter of the file system's own journal.
                disk.synced.resize(usize::try_from(len).unwrap(), 0);
                Ok(())
            }
        })
    }

    fn sync_data(&self, _eventual: bool) -> io::Result<()> {
        self.with(|disk| match disk.change() {
            Some(fault) => Err(fault.error()),
            None => {
                let len = disk.bytes.len();
                disk.synced.resize(len, 0);
                for (at, data) in std::mem::take(&mut disk.unsynced) {
                    disk.synced[at..at + data.len()].copy_from_slice(&data);
                }
                Ok(())
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.with(|disk| match disk.change() {
            Some(fault) => {
                if matches!(fault, Fault::Short) {
                    disk.write(at, &data[..data.len() / 2]);
                }
                Err(fault.error())
            }
            None => {
                disk.write(at, data);
                Ok(())
            }
        })
    }
}

/// Changes of the disk that one commit takes, the third of a young store.
fn changes_of_a_commit() -> (Disk, u64) {
    let disk = Disk::default();
    let store = disk.store().unwrap();
    (1..=2).for_each(|generation| commit(&store, generation).unwrap());
    let before = disk.with(|disk| disk.changes);
    commit(&store, 3).unwrap();
    let changes = disk.with(|disk| disk.changes) - before;
    (disk, changes)
}

/// What is written down is all there, and what was under way whole or absent.
fn holds(store: &dyn Store, acknowledged: u64, at: &str) {
    let kept = store.generations().unwrap();
    let committed = last_committed(&kept).map_or(0, |policy| policy.generation);
    assert!(committed == acknowledged || committed == acknowledged + 1, "{at}: {committed} of {acknowledged}");
    for policy in kept {
        assert_eq!(store.text(policy.generation).unwrap(), Some(text(policy.generation)), "{at}");
    }
}

/// CRS-02 and CRS-06: each change of the disk fails once, or from then on for a while; the caller is told, what was there
/// stays, and the next change works again.
#[test]
fn a_disk_that_fails_anywhere_loses_nothing_and_is_used_again() {
    let (_, changes) = changes_of_a_commit();
    assert!(changes > 4, "{changes}");
    let mut refused = 0;
    for after in 1..=changes {
        for (count, fault) in
            [(1, Fault::Broken), (1, Fault::Short), (1, Fault::Full), (1_000, Fault::Full), (1_000, Fault::Short)]
        {
            let at = format!("change {after}, {count} x {fault:?}");
            let disk = Disk::default();
            let store = disk.store().unwrap();
            (1..=2).for_each(|generation| commit(&store, generation).unwrap());
            disk.fail(after, count, fault);
            let outcome = commit(&store, 3);
            if let Err(error) = &outcome {
                refused += 1;
                assert!(matches!(error, StoreError::Failed { .. }), "{at}: {error}");
            }
            disk.with(|disk| disk.failing = None);
            holds(&store, if outcome.is_ok() { 3 } else { 2 }, &at);
            commit(&store, 4).unwrap_or_else(|error| panic!("{at}: {error}"));
            drop(store);
            holds(&disk.store().unwrap(), 4, &at);
        }
    }
    assert!(refused > changes, "{refused} of {changes}");
}

/// CRS-03: the power goes at each change of the disk, and of what was not synced any part is there.
#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_acknowledged() {
    let (_, changes) = changes_of_a_commit();
    for after in 1..=changes {
        for seed in 0..8 {
            let at = format!("change {after}, seed {seed}");
            let disk = Disk::default();
            let store = disk.store().unwrap();
            (1..=2).for_each(|generation| commit(&store, generation).unwrap());
            disk.fail(after, u64::MAX, Fault::Short);
            let acknowledged = if commit(&store, 3).is_ok() { 3 } else { 2 };
            let later = disk.after_power_cut(seed).store().unwrap_or_else(|error| panic!("{at}: {error}"));
            holds(&later, acknowledged, &at);
            commit(&later, 4).unwrap();
        }
    }
}

/// CRS-03: whatever bits of the file are flipped and wherever it is cut off, what is read is what was written, or refused with
/// a sentence.
#[test]
fn a_damaged_file_never_yields_what_was_not_written() {
    // The database's own panics are expected, and each would print a backtrace.
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("redb")) {
            others(panic);
        }
    }));
    let (disk, _) = changes_of_a_commit();
    let whole = disk.with(|disk| disk.synced.clone());
    let examine = |bytes: Vec<u8>, at: &str| {
        let found = Disk::holding(bytes).store().and_then(|store| {
            for policy in store.generations()? {
                assert_eq!(policy, self::policy(policy.generation, policy.standing), "{at}");
                if let Some(read) = store.text(policy.generation)? {
                    assert_eq!(read, text(policy.generation), "{at}");
                }
            }
            Ok(())
        });
        if let Err(error) = &found {
            assert!(error.to_string().starts_with("/state/generations.redb is damaged: "), "{at}: {error}");
        }
        found.is_ok()
    };
    let (mut survived, mut all) = (0, 0);
    let head = (0..320).step_by(7);
    let written = (320..whole.len()).filter(|&at| whole[at] != 0).step_by(4_999);
    for at in head.chain(written) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        survived += u32::from(examine(bytes, &format!("byte {at} flipped")));
        all += 1;
    }
    assert!(survived > 0 && survived < all, "{survived} of {all}");
    for len in (0..whole.len()).step_by(whole.len() / 12) {
        examine(whole[..len].to_vec(), &format!("cut to {len} of {}", whole.len()));
    }
}

/// Names the folder for [`a_process_that_commits_until_it_is_killed`].
const FOLDER: &str = "MILLRACE_TEST_STORE";

#[test]
fn a_process_that_commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Embedded::open(Path::new(&folder)).unwrap();
    let first = numbers(&store).last().map_or(1, |last| last + 1);
    for generation in first.. {
        commit(&store, generation).unwrap();
        println!("committed {generation}");
    }
}

/// CRS-01: SIGKILL at any moment; what was acknowledged is there, what was not is whole or absent. `MILLRACE_KILLS` sets how
/// often.
#[test]
fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    let kills = std::env::var("MILLRACE_KILLS").ok().and_then(|value| value.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..kills {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::a_process_that_commits_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Libtest's own lines are among them.
        let mut said = lines.filter_map(|line| line.rsplit_once("committed ")?.1.parse::<u64>().ok());
        acknowledged = said.by_ref().nth(round % 7).expect("it commits until it is killed");
        process.kill().unwrap();
        acknowledged = said.last().unwrap_or(acknowledged);
        process.wait().unwrap();
        holds(&Embedded::open(folder.path()).unwrap(), acknowledged, &format!("round {round}"));
    }
    assert!(acknowledged >= kills as u64);
}
