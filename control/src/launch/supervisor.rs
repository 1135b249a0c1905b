//! What systemd is told (`sd_notify(3)`), where it runs us: ready, reloading, stopping, and that the watchdog need not bite.
//!
//! Told by management, the watchdog's word by control; a full socket makes nobody wait, and a word that is lost is no fault. The
//! crates made for it open a socket for each word and wait where it is full: control may do neither.
//! Nothing is told where nobody asked: outside a unit of `Type=notify` there is no `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use units::Nanos;

/// The way to whoever supervises this process. Clones are the same way.
#[derive(Clone, Debug, Default)]
pub(super) struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// How often it wants to hear that we are well.
    watchdog: Option<Nanos>,
}

impl Supervisor {
    /// The one that the environment names, or nobody.
    pub(super) fn of_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            connected(&address).map_err(|error| log::warn!("systemd cannot be told anything: {error}")).ok()
        });
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC")
            .filter(|_| ours && socket.is_some())
            .map(|micros| Nanos::new(micros.saturating_mul(1_000)));
        Self { socket: socket.map(Arc::new), watchdog }
    }

    /// The ports are up, and the policy is in force.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=packets are treated");
    }

    /// A policy is being read; [`Self::ready`] follows, or [`Self::refused`].
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=the policy is read again"));
    }

    /// The policy that was read is not in force; the one before goes on.
    pub(super) fn refused(&self, why: &str) {
        let first = why.lines().next().unwrap_or_default();
        self.tell(&format!("READY=1\nSTATUS=the policy before goes on: {first}"));
    }

    /// The appliance stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// How often to call the second, if anybody wants to know that we are well.
    pub(super) fn watchdog(&self) -> Option<(Nanos, impl FnMut() + Send + 'static)> {
        let this = self.clone();
        Some((self.watchdog?, move || this.tell("WATCHDOG=1")))
    }

    fn tell(&self, words: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(words.as_bytes());
        }
    }
}

/// A socket that speaks to this address: a path, or an abstract name after an `@`.
fn connected(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut words = [0; 512];
        let len = socket.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..len]).into_owned()
    }

    #[test]
    fn a_supervisor_is_told_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("millrace-test-{}", std::process::id());
        let abstracted = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstracted).unwrap(), format!("@{name}").into()),
        ];
        for (socket, address) in sockets {
            let socket_of = |address: &OsStr| Some(Arc::new(connected(address).unwrap()));
            let supervisor = Supervisor { socket: socket_of(&address), watchdog: Some(Nanos::from_millis(1)) };
            supervisor.reloading();
            let reloading = heard(&socket);
            let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
            assert!(reloading.starts_with("RELOADING=1\n") && stamp.parse::<u64>().unwrap() > 0, "{reloading}");
            supervisor.refused("a fault\nand another");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=the policy before goes on: a fault");
            let (_, mut well) = supervisor.watchdog().unwrap();
            well();
            assert_eq!(heard(&socket), "WATCHDOG=1");
            // Nobody listens any more.
            drop(socket);
            supervisor.stopping();
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asked() {
        Supervisor::default().ready();
        assert!(Supervisor::default().watchdog().is_none());
    }
}
