//! ICMP types and codes as operators write them: `"echo-request"`, `"ipv4:3/4"`, `"ipv6:135"`.

use stage::firewall::IcmpMatch;
use toml::de::DeValue;

use crate::kind::{Wrong, string};
use crate::nearest::{did_you_mean, quoted};

/// A type and, when only one is meant, its code.
type Kind = (u8, Option<u8>);

/// The names, with what they are in ICMPv4 and ICMPv6 (IANA, "ICMP Type Numbers" and "`ICMPv6` type Numbers").
const NAMES: [(&str, Option<Kind>, Option<Kind>); 16] = [
    ("echo-request", Some((8, None)), Some((128, None))),
    ("echo-reply", Some((0, None)), Some((129, None))),
    ("destination-unreachable", Some((3, None)), Some((1, None))),
    ("packet-too-big", Some((3, Some(4))), Some((2, None))),
    ("time-exceeded", Some((11, None)), Some((3, None))),
    ("parameter-problem", Some((12, None)), Some((4, None))),
    ("redirect", Some((5, None)), Some((137, None))),
    ("router-solicitation", Some((10, None)), Some((133, None))),
    ("router-advertisement", Some((9, None)), Some((134, None))),
    ("neighbor-solicitation", None, Some((135, None))),
    ("neighbor-advertisement", None, Some((136, None))),
    ("timestamp-request", Some((13, None)), None),
    ("timestamp-reply", Some((14, None)), None),
    ("multicast-listener-query", None, Some((130, None))),
    ("multicast-listener-report", None, Some((131, None))),
    ("multicast-listener-done", None, Some((132, None))),
];

/// What a name or a number means: in one family, or one in each.
pub(crate) fn icmp_type(value: &DeValue<'_>) -> Result<Vec<IcmpMatch>, Wrong> {
    let wanted = "an ICMP type such as \"echo-request\", \"ipv4:3/4\" or \"ipv6:135\"";
    if let Some(bare) = value.as_integer() {
        let advice = format!("say of which version it is: \"ipv4:{bare}\" or \"ipv6:{bare}\"");
        return Err(Wrong::new("wrong-type", "is a number", advice));
    }
    let written = string(value, wanted)?;
    if let Some(&(_, v4, v6)) = NAMES.iter().find(|&&(name, _, _)| name == written) {
        let of = |v6, kind: Option<Kind>| kind.map(|(kind, code)| IcmpMatch { v6, kind, code });
        return Ok(of(false, v4).into_iter().chain(of(true, v6)).collect());
    }
    match written.split_once(':') {
        Some(("ipv4", numbers)) => numbered(false, numbers),
        Some(("ipv6", numbers)) => numbered(true, numbers),
        _ => None,
    }
    .map(|one| vec![one])
    .ok_or_else(|| {
        let advice =
            did_you_mean(written, NAMES.iter().map(|&(name, _, _)| name), "write \"ipv4:3/4\", \"ipv6:135\" or a name");
        Wrong::new("unknown-word", format!("{} is not an ICMP type", quoted(written)), advice)
    })
}

/// A type, and a code behind a slash.
fn numbered(v6: bool, numbers: &str) -> Option<IcmpMatch> {
    let number = |digits: &str| digits.parse().ok().filter(|_: &u8| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let (kind, code) = match numbers.split_once('/') {
        Some((kind, code)) => (kind, Some(number(code)?)),
        None => (numbers, None),
    };
    Some(IcmpMatch { v6, kind: number(kind)?, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Result<Vec<IcmpMatch>, Wrong> {
        icmp_type(&DeValue::String(written.into()))
    }

    #[test]
    fn names_mean_both_families_and_numbers_one() {
        let four = |kind, code| IcmpMatch { v6: false, kind, code };
        let six = |kind, code| IcmpMatch { v6: true, kind, code };
        assert_eq!(read("echo-request").unwrap(), [four(8, None), six(128, None)]);
        assert_eq!(read("packet-too-big").unwrap(), [four(3, Some(4)), six(2, None)]);
        assert_eq!(read("neighbor-solicitation").unwrap(), [six(135, None)]);
        assert_eq!(read("ipv4:3/4").unwrap(), [four(3, Some(4))]);
        assert_eq!(read("ipv6:1").unwrap(), [six(1, None)]);
        for bad in ["", "8", "ipv4:", "ipv4:256", "ipv4:8/", "ipv4:+8", "ipv5:8", "ipv6:1/2/3"] {
            assert_eq!(read(bad).unwrap_err().code, "unknown-word", "{bad}");
        }
        assert_eq!(read("echo-requst").unwrap_err().advice, "did you mean `echo-request`?");
    }
}
