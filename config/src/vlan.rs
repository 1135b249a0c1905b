//! VLANs and ranges of them as operators write them: `100`, `"200-299"`.

use core::ops::RangeInclusive;

use toml::de::DeValue;
use units::limits::VLAN_MAX;

use crate::kind::{Wrong, integer, string};
use crate::nearest::quoted;

/// A VLAN or a range of VLANs.
pub(crate) fn vlan_range(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Wrong> {
    if value.is_integer() {
        return integer(1..=VLAN_MAX)(value).map(|vlan| vlan..=vlan);
    }
    let written = string(value, "a VLAN such as 100 or a range such as \"200-299\"")?;
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(first), Some(last)) => {
            let turned = format!("write the lower VLAN first: \"{last}-{first}\"");
            Err(Wrong::new("bad-vlan", format!("{} runs backwards", quoted(written)), turned))
        }
        _ => {
            let advice = format!("write a VLAN such as 100 or a range such as \"200-299\", from 1 to {VLAN_MAX}");
            Err(Wrong::new("bad-vlan", format!("{} is not a VLAN or a range of VLANs", quoted(written)), advice))
        }
    }
}

/// Digits only: no sign, no blank.
fn number(written: &str) -> Option<u16> {
    let digits = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    written.parse().ok().filter(|vlan| digits && (1..=VLAN_MAX).contains(vlan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_and_ranges() {
        let read = |written: &str| vlan_range(&DeValue::String(written.into()));
        assert_eq!(read("100"), Ok(100..=100));
        assert_eq!(read("1-4094"), Ok(1..=4_094));
        for bad in ["", "-", "80-", "-80", "0", "0-80", "4095", "80-4095", "+80", " 80", "80 - 90", "any", "1-2-3"] {
            assert_eq!(read(bad).unwrap_err().code, "bad-vlan", "{bad}");
        }
        assert_eq!(read("90-80").unwrap_err().advice, "write the lower VLAN first: \"80-90\"");
    }
}
