//! Files as they should be, and as they should not.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use session::{HashSecret, Kind, NewSession, Table, Tuple};
use units::Tick;
use worker::{Course, Ends, Lease};

use super::*;

/// A session between these ports.
fn image(from: u16) -> SessionImage {
    let (source, destination) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let tuple = Tuple { source, destination, source_port: from, destination_port: 53 };
    let mut table = Table::new(1, HashSecret::from_seed(1)).unwrap();
    let slot = table.insert(&NewSession::new(Kind::Udp, tuple, tuple.reversed()), Tick::new(4)).unwrap();
    let original =
        Ends { source: source.into(), source_port: from, destination: destination.into(), destination_port: 53 };
    let history = table.session(slot).history(Tick::new(9));
    SessionImage {
        kind: Kind::Udp,
        original,
        reply: original.reversed(),
        history,
        flags: 0,
        one_sided: false,
        one_shot: false,
        lingers: false,
        course: Course::Routed,
        ports: [7, 8],
        backend: None,
        tenant: None,
        lease: Lease::None,
        splice: None,
    }
}

fn blocks(count: u16) -> Vec<Block> {
    let block = |from: u16| {
        let mut block = Block { left_out: 1, ..Block::default() };
        for port in from..count.min(from + 3) {
            image(port).encode(&mut block.images);
            block.sessions += 1;
        }
        block
    };
    (0..count).step_by(3).map(block).collect()
}

fn header() -> Header {
    Header { generation: 12, stopped: Moment { boot: 5, up: Nanos::new(6), wall: Nanos::new(7) } }
}

fn bytes(count: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_into(&mut bytes, header(), blocks(count).into_iter()).unwrap();
    bytes
}

fn read(mut bytes: &[u8]) -> Result<Vec<SessionImage>, Unusable> {
    let mut images = Vec::new();
    read_through(&mut bytes, &mut |image| images.push(*image)).map(|_| images)
}

#[test]
fn what_was_left_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path(), header(), blocks(10).into_iter()).unwrap();
    assert_eq!(written, Count { sessions: 10, left_out: 4 });
    let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, MODE);
    let left = Left::take(folder.path()).unwrap().unwrap();
    assert_eq!((*left.header(), left.count()), (header(), written));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it is gone before it is used");
    let mut images = Vec::new();
    left.each(&mut |image| images.push(*image)).unwrap();
    assert_eq!(images, (0..10).map(image).collect::<Vec<_>>());
    assert!(Left::take(folder.path()).is_none());
}

/// CRS-07, FLD: a full disk, and a process that was killed while it wrote.
#[test]
fn what_is_not_whole_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), header(), blocks(3).into_iter()).unwrap();
    std::fs::write(folder.path().join(NEW_FILE), &bytes(9)[..70]).unwrap();
    // Sessions of an earlier stop do not come back when a later one fails.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(write_into(BufWriter::new(full), header(), blocks(3).into_iter()).is_err());
    std::fs::create_dir(folder.path().join("locked")).unwrap();
    assert!(write(&folder.path().join("nowhere"), header(), blocks(3).into_iter()).is_err());
    let left = Left::take(folder.path()).unwrap().unwrap();
    assert_eq!(left.count().sessions, 3);
    assert!(!folder.path().join(NEW_FILE).exists());
}

#[test]
fn what_is_something_else_is_told_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut other = bytes(2);
    let place = 4 + 8 + MAGIC.len() + 1;
    other[place] += 1;
    let resealed = seal(0, &other[12..12 + MAGIC.len() + 2 + 8 + 16 + 16]);
    other[4..4 + resealed.len()].copy_from_slice(&resealed);
    for (content, said) in [
        (&b""[..], "no file of sessions"),
        (b"\x7fELF and more of the kind, much more of the kind", "no file of sessions"),
        (&[0xff; 4_096], "no file of sessions"),
        (&other, "a version of Millrace with other sessions (2; this one has 1)"),
        (&bytes(4)[..200], "damaged"),
        (&[&bytes(4)[..], b"more"].concat(), "damaged"),
    ] {
        std::fs::write(&path, content).unwrap();
        let why = Left::take(folder.path()).unwrap().unwrap_err().to_string();
        assert!(why.contains(said), "{why}");
        assert!(!path.exists());
    }
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(Left::take(folder.path()), Some(Err(Unusable::Stays(_)))));
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert!(matches!(Left::take(folder.path()), Some(Err(Unusable::Io(_)))), "another's file is not followed to");
    assert!(Path::new("/etc/hostname").exists() && !path.is_symlink());
}

/// Every single bit counts, and every byte has to be there.
#[test]
fn no_damage_goes_unnoticed() {
    let sound = bytes(4);
    assert_eq!(read(&sound).unwrap().len(), 4);
    for place in 0..sound.len() {
        assert!(read(&sound[..place]).is_err(), "cut at {place}");
        for bit in 0..8 {
            let mut flipped = sound.clone();
            flipped[place] ^= 1 << bit;
            assert!(read(&flipped).is_err(), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn frames_have_their_places() {
    let sound = bytes(9);
    let mut frames = Vec::new();
    let mut rest = &sound[..];
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = 4 + u32::from_be_bytes(*length) as usize;
        frames.push(&rest[..length]);
        let _ = behind;
        rest = &rest[length..];
    }
    assert_eq!(frames.len(), 5);
    for order in [&[0, 2, 1, 3, 4][..], &[0, 1, 3, 4], &[0, 1, 1, 2, 3, 4], &[1, 2, 3, 4], &[0, 4]] {
        let other: Vec<u8> = order.iter().flat_map(|&frame| frames[frame].iter().copied()).collect();
        assert!(read(&other).is_err(), "{order:?}");
    }
}

proptest! {
    /// Whatever stands in frames with right sums: sessions, or a sentence.
    #[test]
    fn sums_alone_prove_nothing(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4), kind in 0_u8..4) {
        let mut bytes = Vec::new();
        let mut frames = Frames { into: &mut bytes, number: 0 };
        frames.write(&header().to_bytes()).unwrap();
        for mut content in contents {
            content.insert(0, kind);
            frames.write(&content).unwrap();
        }
        prop_assert!(read(&bytes).is_err());
    }
}
