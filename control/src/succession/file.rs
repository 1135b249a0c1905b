//! The file that sessions are left in: written once, read once, by processes that need not be of one version. A foreign, torn or damaged
//! file is known before anything of it is used.
//!
//! ```text
//! file   frame, one behind the other: length of the rest (u32), sum (u64), then one of
//!   0    "millrace sessions", version (u16), generation (u64), moment: boot (u128), since then (u64), wall clock (u64)
//!   1..  1 (u8), sessions (u32), sessions without an image (u32), images (`worker::SessionImage`)
//!   last 2 (u8), sessions (u64), sessions without an image (u64): of the whole file
//! ```
//!
//! Numbers are in network order, moments in nanoseconds. A frame's sum covers its place, too, so that none can be missing or stand in
//! another's.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use units::Nanos;
use worker::{Block, IMAGE_VERSION, SessionImage};

use super::Moment;
use crate::store::{seal, unseal};

/// What the file is called in the state folder.
const FILE: &str = "sessions";
/// What it is called until it is whole.
const NEW_FILE: &str = "sessions.new";
/// Who speaks to whom is nobody's business but the owner's.
const MODE: u32 = 0o600;

/// What the first frame begins with.
const MAGIC: &[u8] = b"millrace sessions";
/// What a frame of sessions begins with, and the last one.
const SESSIONS: u8 = 1;
const END: u8 = 2;
/// Bytes of a frame at most: its sum, and what is before the images.
const FRAME_MAX: usize = 8 + 9 + Block::LEN_MAX;

/// What is known of all sessions together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The policy in force when they were written down.
    pub generation: u64,
    /// When packets were treated last.
    pub stopped: Moment,
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// With an image.
    pub sessions: u64,
    /// Without.
    pub left_out: u64,
}

/// Why nothing of a file is used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It cannot be removed: what it holds would come back.
    #[error("it cannot be removed: {0}")]
    Stays(io::Error),
    /// It is something else.
    #[error("it is no file of sessions")]
    Foreign,
    /// It is of another version of Millrace.
    #[error("it was written by a version of Millrace with other sessions ({0}; this one has {IMAGE_VERSION})")]
    Version(u16),
    /// It is of the future.
    #[error("the machine's clock was set back since they were written")]
    SetBack,
    /// It is not whole.
    #[error("it is damaged, or was not written to its end")]
    Damaged,
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(IMAGE_VERSION.to_be_bytes());
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.stopped.boot.to_be_bytes());
        bytes.extend(self.stopped.up.get().to_be_bytes());
        bytes.extend(self.stopped.wall.get().to_be_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Result<Self, Unusable> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(Unusable::Foreign)?;
        let (version, rest) = rest.split_first_chunk().ok_or(Unusable::Damaged)?;
        let version = u16::from_be_bytes(*version);
        if version != IMAGE_VERSION {
            return Err(Unusable::Version(version));
        }
        let (generation, rest) = rest.split_first_chunk().ok_or(Unusable::Damaged)?;
        let (boot, rest) = rest.split_first_chunk().ok_or(Unusable::Damaged)?;
        let (up, rest) = rest.split_first_chunk().ok_or(Unusable::Damaged)?;
        let wall = rest.try_into().map_err(|_| Unusable::Damaged)?;
        let nanos = |bytes| Nanos::new(u64::from_be_bytes(bytes));
        let stopped = Moment { boot: u128::from_be_bytes(*boot), up: nanos(*up), wall: nanos(wall) };
        Ok(Self { generation: u64::from_be_bytes(*generation), stopped })
    }
}

/// Writes frames one behind the other.
struct Frames<W: Write> {
    into: W,
    number: u64,
}

impl<W: Write> Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sealed = seal(self.number, bytes);
        self.number += 1;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.into.write_all(&length.to_be_bytes())?;
        self.into.write_all(&sealed)
    }
}

/// Writes a whole file into `into`.
fn write_into(into: impl Write, header: Header, blocks: impl Iterator<Item = Block>) -> io::Result<Count> {
    let mut frames = Frames { into, number: 0 };
    frames.write(&header.to_bytes())?;
    let (mut count, mut frame) = (Count::default(), Vec::new());
    for Block { images, sessions, left_out } in blocks {
        frame.clear();
        frame.push(SESSIONS);
        frame.extend(sessions.to_be_bytes());
        frame.extend(left_out.to_be_bytes());
        frame.extend(&images);
        frames.write(&frame)?;
        count.sessions += u64::from(sessions);
        count.left_out += u64::from(left_out);
    }
    let end = [&[END][..], &count.sessions.to_be_bytes(), &count.left_out.to_be_bytes()].concat();
    frames.write(&end)?;
    frames.into.flush()?;
    Ok(count)
}

/// Writes sessions into the state folder, as they come. Until all are there nothing is.
///
/// # Errors
/// The disk's. Nothing is left in the folder then, neither of these sessions nor of earlier ones.
pub fn write(folder: &Path, header: Header, blocks: impl Iterator<Item = Block>) -> io::Result<Count> {
    let (path, new) = (folder.join(FILE), folder.join(NEW_FILE));
    let removed = |path: &Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    removed(&path)?;
    removed(&new)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)
        .and_then(|file| write_into(BufWriter::new(file), header, blocks))
        .and_then(|count| std::fs::rename(&new, &path).map(|()| count));
    if written.is_err() {
        // What is wrong has been said, or will be.
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// A file that was left, whole and sound, and removed from its folder.
#[derive(Debug)]
pub struct Left {
    file: BufReader<File>,
    header: Header,
    count: Count,
}

impl Left {
    /// Takes the file out of the state folder; `None` when there is none.
    ///
    /// # Errors
    /// Why nothing of it can be used; it is gone all the same, where it could be removed.
    pub fn take(folder: &Path) -> Option<Result<Self, Unusable>> {
        // A file that was never whole.
        let _ = std::fs::remove_file(folder.join(NEW_FILE));
        let path: PathBuf = folder.join(FILE);
        // O_NONBLOCK: of a pipe that nobody writes to, too, it is to be known at once that it is none.
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        let opened = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            opened => opened,
        };
        if let Err(error) = std::fs::remove_file(&path) {
            return Some(Err(Unusable::Stays(error)));
        }
        Some(opened.map_err(Unusable::Io).and_then(Self::of))
    }

    fn of(file: File) -> Result<Self, Unusable> {
        if !file.metadata()?.is_file() {
            return Err(Unusable::Foreign);
        }
        let mut file = BufReader::new(file);
        let (header, count) = read_through(&mut file, &mut |_| {})?;
        file.rewind()?;
        Ok(Self { file, header, count })
    }

    /// What is known of all of them.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> Count {
        self.count
    }

    /// Hands out every session.
    ///
    /// # Errors
    /// The disk's, which could still read it a moment ago.
    pub fn each(mut self, take: &mut impl FnMut(&SessionImage)) -> Result<(), Unusable> {
        read_through(&mut self.file, take).map(|_| ())
    }
}

/// Reads a whole file, and hands out every session on the way.
fn read_through(from: &mut impl Read, take: &mut impl FnMut(&SessionImage)) -> Result<(Header, Count), Unusable> {
    let mut frame = Vec::new();
    let header = match next_frame(from, 0, &mut frame) {
        Ok(bytes) => Header::of(bytes)?,
        // Whatever it is: the sum of its beginning is not ours.
        Err(Unusable::Damaged) => return Err(Unusable::Foreign),
        Err(other) => return Err(other),
    };
    let mut count = Count::default();
    for number in 1.. {
        match next_frame(from, number, &mut frame)?.split_first() {
            Some((&SESSIONS, rest)) => {
                let of_block = read_block(rest, take).ok_or(Unusable::Damaged)?;
                count.sessions += of_block.sessions;
                count.left_out += of_block.left_out;
            }
            Some((&END, rest)) => {
                let says = [count.sessions.to_be_bytes(), count.left_out.to_be_bytes()].concat();
                let over = from.read(&mut [0])? == 0;
                return if over && rest == says { Ok((header, count)) } else { Err(Unusable::Damaged) };
            }
            _ => return Err(Unusable::Damaged),
        }
    }
    Err(Unusable::Damaged)
}

/// Hands out the sessions of a frame; `None` when they are not what it says.
fn read_block(bytes: &[u8], take: &mut impl FnMut(&SessionImage)) -> Option<Count> {
    let (sessions, rest) = bytes.split_first_chunk()?;
    let (left_out, mut images) = rest.split_first_chunk()?;
    let sessions = u32::from_be_bytes(*sessions);
    for _ in 0..sessions {
        let (image, rest) = SessionImage::decode(images)?;
        take(&image);
        images = rest;
    }
    let count = Count { sessions: u64::from(sessions), left_out: u64::from(u32::from_be_bytes(*left_out)) };
    images.is_empty().then_some(count)
}

/// The next frame, in `buffer`.
fn next_frame<'b>(from: &mut impl Read, number: u64, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Unusable> {
    let mut whole = |into: &mut [u8]| {
        from.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Unusable::Damaged,
            _ => Unusable::Io(error),
        })
    };
    let mut length = [0; 4];
    whole(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_MAX {
        return Err(Unusable::Damaged);
    }
    buffer.resize(length, 0);
    whole(buffer)?;
    unseal(number, buffer).ok_or(Unusable::Damaged)
}

#[cfg(test)]
mod tests;
