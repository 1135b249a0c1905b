//! Where the appliance listens over TCP: the reader of `listen`, and two such places that are one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use toml::de::DeValue;

use crate::findings::{At, Finding, Findings};
use crate::kind::{Wrong, string};
use crate::nearest::quoted;
use crate::policy::Api;

/// An address and a port to listen at.
pub(crate) fn listen(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    const WANTED: &str = "an address of this machine with a port, such as \"192.0.2.1:8443\" or \"[::1]:9464\"";
    let written = string(value, WANTED)?;
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 && !address.ip().is_multicast() => Ok(address),
        Ok(_) | Err(_) => {
            let predicate = format!("{} is not where one can listen", quoted(written));
            Err(Wrong::new("bad-address", predicate, format!("write {WANTED}")))
        }
    }
}

/// Reports metrics that would be read where the API is.
pub(crate) fn apart(api: Option<&At<Api>>, metrics: Option<&At<SocketAddr>>, findings: &Findings) {
    let (Some(api), Some(metrics)) = (api, metrics) else { return };
    if meet(api.value.listen, metrics.value) {
        let message = format!("metrics cannot be read at {}: the API listens there", metrics.value);
        let finding = Finding::error("listens-twice", &metrics.spot, message).contradicts(&api.spot);
        findings.report(finding.advice("write another port; the API answers /metrics, too"));
    }
}

/// Whether the kernel refuses the second of these. `::` is every address of IPv6 for the API, and of IPv4, too, for metrics.
fn meet(api: SocketAddr, metrics: SocketAddr) -> bool {
    let (of_api, of_metrics) = (api.ip(), metrics.ip());
    let alike = of_api.is_ipv4() == of_metrics.is_ipv4()
        && (of_api == of_metrics || of_api.is_unspecified() || of_metrics.is_unspecified());
    api.port() == metrics.port() && (alike || of_metrics == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_meet_where_the_kernel_says_so() {
        let meet = |api: &str, metrics: &str| meet(api.parse().unwrap(), metrics.parse().unwrap());
        for (api, metrics) in [
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("0.0.0.0:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "0.0.0.0:80"),
            ("192.0.2.1:80", "[::]:80"),
            ("[::]:80", "[::1]:80"),
        ] {
            assert!(meet(api, metrics), "{api} {metrics}");
        }
        for (api, metrics) in
            [("192.0.2.1:80", "192.0.2.1:81"), ("192.0.2.1:80", "192.0.2.2:80"), ("[::]:80", "0.0.0.0:80")]
        {
            assert!(!meet(api, metrics), "{api} {metrics}");
        }
    }
}
