//! What DPDK's `net_af_packet` and `net_af_xdp` drivers do not do for an interface they borrow from the kernel: tell
//! whether its link is up, count what the kernel had no room for, keep out what this machine itself sends through it, and
//! ask for multicast groups or a second address in a way that ends with the process.
//!
//! The drivers keep their sockets to themselves, so they are found among the process's descriptors: packet sockets that were
//! not there before the driver was started. Called by [`Port`](crate::Port) with its lock held.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, socklen_t};
use wire::MacAddr;

use crate::Errno;

/// What the kernel takes as the type of packets that this machine sends.
const PACKET_OUTGOING: u32 = 4;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: where a filter finds that type.
const FILTER_PACKET_TYPE: u32 = 0xffff_f004;
/// Bytes a filter lets through: all of any packet.
const WHOLE: u32 = 0x0004_0000;

/// A kernel interface that a driver takes packets from.
#[derive(Debug)]
pub(crate) struct BorrowedInterface {
    name: CString,
    index: c_int,
    /// For questions about the interface.
    control: OwnedFd,
    /// The driver's own sockets; valid as long as its port is open.
    sockets: Vec<RawFd>,
    /// Packets the kernel dropped for want of room; its own counter starts anew with every reading.
    missed: u64,
}

/// An errno-style result as an error.
fn checked(result: c_int) -> Result<c_int, Errno> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

fn last() -> Errno {
    Errno::new(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// The index of a network interface, `None` when there is none of that name.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a string that ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Opens a socket of this family, to see whether the process may; it is closed at once.
pub(crate) fn try_socket(family: c_int, kind: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: three integers; the result is checked.
    let socket = checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// The packet sockets of this process, also those whose interface has vanished.
pub(crate) fn packet_sockets() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    numbers.filter(|&fd| bound_to(fd).is_some()).collect()
}

/// The index of the interface a packet socket is bound to, -1 when that has vanished; `None` for every other descriptor.
fn bound_to(fd: RawFd) -> Option<c_int> {
    // SAFETY: all zeroes is a valid address structure.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    let mut length = length_of(&address);
    let place = (&raw mut address).cast::<libc::sockaddr>();
    // SAFETY: `place` has `length` bytes, of which the kernel writes at most that many; any descriptor may be asked.
    let result = unsafe { libc::getsockname(fd, place, &raw mut length) };
    let is_packet = result == 0 && c_int::from(address.sll_family) == libc::AF_PACKET;
    is_packet.then_some(address.sll_ifindex)
}

/// The size of a structure as socket calls take it.
fn length_of<T>(_: &T) -> socklen_t {
    socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

impl BorrowedInterface {
    /// Takes note of interface `name`, and of the sockets the driver has opened on it.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface; what the kernel says when it refuses a socket.
    pub(crate) fn new(name: &str, sockets: Vec<RawFd>) -> Result<Self, Errno> {
        let index = interface_index(name).ok_or(Errno::new(libc::ENODEV))?;
        let name = CString::new(name).map_err(|_| Errno::new(libc::EINVAL))?;
        let control = try_socket(libc::AF_INET, libc::SOCK_DGRAM)?;
        let index = c_int::try_from(index).map_err(|_| Errno::new(libc::ENODEV))?;
        Ok(Self { name, index, control, sockets, missed: 0 })
    }

    /// Keeps what this machine sends through the interface out of what the port receives.
    ///
    /// # Errors
    /// What the kernel says when it refuses the filter.
    pub(crate) fn ignore_outgoing(&self) -> Result<(), Errno> {
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, FILTER_PACKET_TYPE),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, PACKET_OUTGOING),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, WHOLE),
        ];
        let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
    }

    /// Lets frames for every multicast group through the interface, until the driver closes its sockets.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn hear_all_multicast(&self) -> Result<(), Errno> {
        self.join(libc::PACKET_MR_ALLMULTI, None)
    }

    /// Lets every frame through the interface, until the driver closes its sockets.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn hear_everything(&self) -> Result<(), Errno> {
        self.join(libc::PACKET_MR_PROMISC, None)
    }

    /// Lets frames for a second MAC address through the interface, until the driver closes its sockets. The interface
    /// keeps its own.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn hear_address(&self, mac: MacAddr) -> Result<(), Errno> {
        self.join(libc::PACKET_MR_UNICAST, Some(mac))
    }

    fn join(&self, kind: c_int, mac: Option<MacAddr>) -> Result<(), Errno> {
        let mut wish = libc::packet_mreq {
            mr_ifindex: self.index,
            mr_type: u16::try_from(kind).unwrap_or(0),
            mr_alen: 0,
            mr_address: [0; 8],
        };
        if let Some(mac) = mac {
            let octets = mac.octets();
            for (place, octet) in wish.mr_address.iter_mut().zip(octets) {
                *place = octet;
            }
            wish.mr_alen = 6;
        }
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &wish)
    }

    /// Sets an option on all of the driver's sockets.
    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> Result<(), Errno> {
        let place = (&raw const *value).cast::<c_void>();
        for &socket in &self.sockets {
            // SAFETY: `place` holds a whole `T`, whose size is told and which outlives the call.
            checked(unsafe { libc::setsockopt(socket, level, option, place, length_of(value)) })?;
        }
        Ok(())
    }

    /// Packets the kernel dropped because the driver's ring was full, since the port was opened.
    pub(crate) fn missed(&mut self) -> u64 {
        for &socket in &self.sockets {
            let mut counts = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
            let mut length = length_of(&counts);
            let place = (&raw mut counts).cast::<c_void>();
            // SAFETY: `place` has `length` bytes, of which the kernel writes at most that many.
            let result =
                unsafe { libc::getsockopt(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, place, &raw mut length) };
            if result == 0 {
                self.missed = self.missed.saturating_add(u64::from(counts.tp_drops));
            }
        }
        self.missed
    }

    /// Whether the driver's sockets have lost the interface. The kernel takes it from them when it vanishes (`packet_notifier`),
    /// and they cannot be bound again: whatever has its name afterwards is another.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.sockets.iter().any(|&socket| bound_to(socket) != Some(self.index))
    }

    /// Whether the interface is up and has a carrier. The drivers say "up" whatever happens.
    pub(crate) fn is_up(&self) -> bool {
        if self.is_orphaned() {
            return false;
        }
        let mut request = self.request();
        // SAFETY: the request names an interface; the kernel writes its flags into it.
        let result = unsafe { libc::ioctl(self.control.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
        // SAFETY: the kernel has just written this member of the union; before that it was zero.
        let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        let wanted = libc::IFF_UP | libc::IFF_RUNNING;
        result == 0 && flags & wanted == wanted
    }

    /// The interface's MTU, `None` when it is gone.
    pub(crate) fn mtu(&self) -> Option<u16> {
        let mut request = self.request();
        // SAFETY: the request names an interface; the kernel writes its MTU into it.
        let result = unsafe { libc::ioctl(self.control.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
        // SAFETY: the kernel has just written this member of the union; before that it was zero.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        if result == 0 { Some(u16::try_from(mtu).unwrap_or(u16::MAX)) } else { None }
    }

    /// Whether its frames are Ethernet's. True also when the interface is gone: then there are none.
    pub(crate) fn carries_ethernet(&self) -> bool {
        let mut request = self.request();
        // SAFETY: the request names an interface; the kernel writes its address into it.
        let result = unsafe { libc::ioctl(self.control.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
        // SAFETY: the kernel has just written this member of the union; before that it was zero.
        let kind = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_family;
        result != 0 || [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&kind)
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: all zeroes is a valid request.
        let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
        // The last byte stays zero; names are at most 15 characters, checked when the device was opened.
        let room = libc::IFNAMSIZ - 1;
        for (place, byte) in request.ifr_name.iter_mut().take(room).zip(self.name.as_bytes()) {
            *place = byte.cast_signed();
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_up_and_has_no_packet_sockets() {
        let interface = BorrowedInterface::new("lo", Vec::new()).unwrap();
        assert!(interface.mtu().is_some());
        assert!(interface.sockets.is_empty());
        assert_eq!(BorrowedInterface::new("no-such-if", Vec::new()).unwrap_err(), Errno::new(libc::ENODEV));
    }
}
