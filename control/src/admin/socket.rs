//! The control socket's file: who may open it, what becomes of one that was left behind, and its removal.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use socket2::{Domain, SockAddr, Socket, Type};

/// Owner and group may connect, nobody else.
const MODE: u32 = 0o660;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// How long somebody else may hold the lock of the folder: one who starts holds it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const LOCK_TRIED: Duration = Duration::from_millis(20);

/// Why the control socket cannot be had, and what the operator should do.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error(
        "another appliance answers at {}; stop it, or give this one another `control_socket` under [appliance]",
        path.display()
    )]
    Busy {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody holds on to the folder.
    #[error(
        "{} has been locked by another program for {} s; find it with `lslocks`, or choose another `control_socket`",
        path.display(),
        LOCK_PATIENCE.as_secs()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{} exists and is not a socket; remove it, or choose another `control_socket`", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The folder, the file or the socket cannot be made.
    #[error("cannot listen at {}: {source}; `control_socket` under [appliance] names the place", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket file that this process made. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    inode: (u64, u64),
}

impl ControlSocket {
    /// Makes the socket, and the folder it is in. A socket that nobody answers at is removed first.
    ///
    /// # Errors
    /// [`SocketError`]; nothing that others made is removed.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let failed = |source| SocketError::Bind { path: path.to_owned(), source };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).map_err(failed)?;
        // Held until this function ends, so that of two that start at once one finds the other's socket answering.
        let _lock = lock(folder).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => SocketError::Locked { path: folder.to_owned() },
            _ => failed(error),
        })?;
        make_way(path)?;
        let listener = listen(path).map_err(failed)?;
        let made = fs::symlink_metadata(path).map_err(failed)?;
        Ok((Self { path: path.to_owned(), inode: (made.dev(), made.ino()) }, listener))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The lock of a folder; with `WouldBlock` when another keeps it.
fn lock(folder: &Path) -> io::Result<File> {
    let (folder, since) = (File::open(folder)?, Instant::now());
    loop {
        match flock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && since.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_TRIED);
            }
            done => return done.map(|()| folder),
        }
    }
}

/// Removes a socket that was left behind; refuses to remove anything else.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !there.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
    match SockAddr::unix(path).and_then(|address| caller.connect(&address)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // Connected, or a queue so full that the call would have waited: somebody is there.
        Ok(()) => Err(SocketError::Busy { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::Busy { path: path.to_owned() }),
        Err(error) => Err(failed(error)),
    }
}

/// A listening socket whose file is at no moment open to others than owner and group.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the file takes the socket's mode, less the umask (unix(7)); what the umask took from it is added after.
    fchmod(&socket, Mode::from_raw_mode(MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/millrace/control.sock");
        (folder, path)
    }

    #[test]
    fn the_folder_is_made_and_only_owner_and_group_may_connect() {
        // API-12: another user on the local socket is refused.
        let (_folder, path) = place();
        let (socket, _listener) = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        UnixStream::connect(socket.path()).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_left_behind_is_replaced() {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_socket, _listener) = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_answers_is_left_alone() {
        let (_folder, path) = place();
        let (_socket, _listener) = ControlSocket::bind(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::Busy { .. }));
        assert!(error.to_string().starts_with("another appliance answers at "), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_full_queue_is_somebody_too() {
        let (_folder, path) = place();
        let (_socket, _listener) = ControlSocket::bind(&path).unwrap();
        let mut callers = Vec::new();
        loop {
            let caller = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            if caller.connect(&SockAddr::unix(&path).unwrap()).is_err() {
                break;
            }
            callers.push(caller);
        }
        assert!(matches!(ControlSocket::bind(&path).unwrap_err(), SocketError::Busy { .. }));
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let (folder, _) = place();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(ControlSocket::bind(&path).unwrap_err(), SocketError::NotASocket { .. }));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(ControlSocket::bind(&link).unwrap_err(), SocketError::NotASocket { .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_socket_that_took_our_place_is_not_removed() {
        let (_folder, path) = place();
        let (socket, _listener) = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (_other, _its_listener) = ControlSocket::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn the_socket_may_be_in_the_folder_of_the_state() {
        let (_folder, path) = place();
        let state = crate::store::Embedded::open(path.parent().unwrap()).unwrap();
        let (_socket, _listener) = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(state);
    }

    #[test]
    fn a_folder_that_stays_locked_is_told() {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let held = lock(path.parent().unwrap()).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::Locked { .. }), "{error}");
        drop(held);
        ControlSocket::bind(&path).unwrap();
    }

    #[test]
    fn of_many_that_start_at_once_one_gets_the_socket() {
        let (_folder, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let starters: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || ControlSocket::bind(&path))
            })
            .collect();
        let outcomes: Vec<_> = starters.into_iter().map(|starter| starter.join().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(SocketError::Busy { .. }))));
        UnixStream::connect(&path).unwrap();
    }
}
