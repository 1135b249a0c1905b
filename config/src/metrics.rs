//! `[metrics]`: where metrics are read beside the control socket.

use std::net::SocketAddr;

use crate::findings::At;
use crate::listen::listen;
use crate::section::Section;

/// Reads `[metrics]`: where it says that one listens.
pub(crate) fn metrics(file: &mut Section<'_>) -> Option<At<SocketAddr>> {
    let mut section = file.table("metrics")?;
    let listen = section.optional("listen", listen);
    section.finish();
    listen
}
