//! Devices are one appliance's at a time. A device of vfio-pci says so itself; a Linux interface would be read by two without
//! either noticing. So each device is claimed first: by a socket with an abstract name (unix(7)), which only one process
//! of a network namespace can have, and which goes with the process however it ends.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use config::Policy;

use super::Refused;

/// The devices of a policy, claimed until this is dropped.
#[derive(Debug)]
pub(super) struct Claims {
    _sockets: Vec<UnixListener>,
}

/// Claims every device of the policy that only one process can have.
///
/// # Errors
/// A sentence that names the port whose device another appliance has.
pub(super) fn claim(policy: &Policy) -> Result<Claims, Refused> {
    let mut sockets = Vec::new();
    for port in &policy.ports {
        let Some(device) = port.exclusive_device() else { continue };
        let name = format!("millrace/device/{device}");
        let socket = SocketAddr::from_abstract_name(name).and_then(|address| UnixListener::bind_addr(&address));
        sockets.push(socket.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => format!(
                "port {}: another appliance has {device}; stop it, or give this port another `device`",
                port.name
            ),
            _ => format!("port {}: {device} cannot be claimed: {error}", port.name),
        })?);
    }
    Ok(Claims { _sockets: sockets })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// CRS-08.
    #[test]
    fn a_device_is_one_appliances_at_a_time() {
        let text = include_str!("../../../config/examples/edge.toml")
            .replace("mr-out0", "mr-claimed0")
            .replace("mr-in0", "mr-claimed1");
        let policy = config::load(&text, Path::new("edge.toml")).unwrap().policy;
        let claims = claim(&policy).unwrap();
        let refused = claim(&policy).unwrap_err().to_string();
        assert_eq!(
            refused,
            "port outside: another appliance has mr-claimed0; stop it, or give this port another `device`"
        );
        drop(claims);
        claim(&policy).unwrap();
    }
}
