//! Transport ports and ranges of them as operators write them: `"80"`, `"8000-8100"`, `443`.

use stage::PortRange;
use toml::de::DeValue;

use crate::kind::{Wrong, integer, string};
use crate::nearest::quoted;

/// One port, 1 to 65535.
pub(crate) fn port(value: &DeValue<'_>) -> Result<u16, Wrong> {
    integer(1..=u16::MAX)(value)
}

/// A port or a range of ports. A bare number is one port.
pub(crate) fn port_range(value: &DeValue<'_>) -> Result<PortRange, Wrong> {
    if value.is_integer() {
        return port(value).map(PortRange::single);
    }
    let written = string(value, "a port such as \"80\" or a range such as \"8000-8100\"")?;
    let advice = "write a port such as \"80\" or a range such as \"8000-8100\", from 1 to 65535";
    let refused = |why: &str| Wrong::new("bad-port", format!("{} {why}", quoted(written)), advice);
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            PortRange::new(first, last).ok_or_else(|| refused("is not a port or a range of ports"))
        }
        (Some(first), Some(last)) => {
            let turned = format!("write the lower port first: \"{last}-{first}\"");
            Err(Wrong::new("bad-port", format!("{} runs backwards", quoted(written)), turned))
        }
        _ => Err(refused("is not a port or a range of ports")),
    }
}

/// Digits only: no sign, no blank.
fn number(written: &str) -> Option<u16> {
    let digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    written.parse().ok().filter(|&port| digits && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Result<PortRange, Wrong> {
        port_range(&DeValue::String(written.into()))
    }

    #[test]
    fn ports_and_ranges() {
        assert_eq!(read("80"), Ok(PortRange::single(80)));
        assert_eq!(read("8000-8100"), Ok(PortRange::new(8000, 8100).unwrap()));
        assert_eq!(read("1-65535").unwrap().last(), 65_535);
        for bad in ["", "-", "80-", "-80", "0", "0-80", "65536", "80-65536", "+80", " 80", "80 - 90", "http", "1-2-3"] {
            assert_eq!(read(bad).unwrap_err().code, "bad-port", "{bad}");
        }
        assert_eq!(read("90-80").unwrap_err().advice, "write the lower port first: \"80-90\"");
    }
}
