//! `[metrics]`: where metrics are read beside the control socket.

use std::net::SocketAddr;

use toml::de::DeValue;

use crate::kind::{Wrong, string};
use crate::nearest::quoted;
use crate::policy::Metrics;
use crate::section::Section;

/// Reads `[metrics]`.
pub(crate) fn metrics(file: &mut Section<'_>) -> Metrics {
    let Some(mut section) = file.table("metrics") else { return Metrics::default() };
    let listen = section.optional("listen", listen);
    section.finish();
    Metrics { listen: listen.map(|listen| listen.value) }
}

/// An address and a port to listen at.
fn listen(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    const WANTED: &str = "an address of this machine with a port, such as \"127.0.0.1:9464\" or \"[::1]:9464\"";
    let written = string(value, WANTED)?;
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 && !address.ip().is_multicast() => Ok(address),
        _ => {
            let predicate = format!("{} is not where one can listen", quoted(written));
            Err(Wrong::new("bad-address", predicate, format!("write {WANTED}")))
        }
    }
}
