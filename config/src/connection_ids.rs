//! QUIC connection ids that name backends: their shape in `persistence`, and what each backend is called.

use std::collections::HashMap;

use stage::balancer::QuicIds;
use toml::de::DeValue;

use crate::findings::{Finding, Spot};
use crate::kind::{Wrong, integer, string};
use crate::section::Section;

/// Longest server id: a connection id has 20 bytes at most, one of which is the first and four a nonce.
const SERVER_ID_MAX: u8 = 15;

/// Largest rotation that names servers; 7 is for ids that name nobody.
const ROTATION_MAX: u8 = 6;

/// Reads the shape of connection ids.
pub(crate) fn quic_ids(section: &mut Section<'_>) -> Option<QuicIds> {
    let rotation = section.or("config_rotation", integer(0..=ROTATION_MAX), 0);
    let advice = "say how many bytes: server_id_length = 2, as the servers are configured";
    let length = section.required("server_id_length", integer(1..=SERVER_ID_MAX), advice)?;
    Some(QuicIds { rotation, length: length.value })
}

/// Reads a backend's `server_id`, and reports one that is another's as well.
pub(crate) fn server_id(
    section: &mut Section<'_>,
    quic: Option<QuicIds>,
    taken: &mut HashMap<u128, Spot>,
) -> Option<u128> {
    let written = section.optional("server_id", hexadecimal)?;
    let (length, id) = written.value;
    let Some(quic) = quic else {
        let message = format!("{} has a `server_id`, but its service has no QUIC connection ids", section.title);
        let finding = Finding::error("meaningless-key", &written.spot, message);
        section.report(finding.advice("write persistence = { by = \"quic-cid\", ... } for the service, or remove it"));
        return None;
    };
    if length != usize::from(quic.length) {
        let message = format!("the server id of {} has {length} bytes instead of {}", section.title, quic.length);
        let finding = Finding::error("out-of-bounds", &written.spot, message);
        section.report(finding.advice("write two digits a byte, as many as `server_id_length` says"));
    } else if let Some(first) = taken.insert(id, written.spot.clone()) {
        let message = format!("{} has the server id of another backend", section.title);
        let finding = Finding::error("duplicate-server-id", &written.spot, message).contradicts(&first);
        section.report(finding.advice("each backend needs one of its own"));
    }
    Some(id)
}

/// Bytes as hexadecimal digits: how many, and their value.
fn hexadecimal(value: &DeValue<'_>) -> Result<(usize, u128), Wrong> {
    let written = string(value, "hexadecimal digits such as \"0a0b\"")?;
    let digits = !written.is_empty() && written.bytes().all(|digit| digit.is_ascii_hexdigit());
    let fits = written.len().is_multiple_of(2) && written.len() <= 2 * usize::from(SERVER_ID_MAX);
    match u128::from_str_radix(written, 16) {
        Ok(id) if digits && fits => Ok((written.len() / 2, id)),
        Ok(_) | Err(_) => Err(Wrong::new(
            "bad-server-id",
            format!("{} is not a server id", crate::nearest::quoted(written)),
            "write one to fifteen bytes, two hexadecimal digits each: \"0a0b\"",
        )),
    }
}
