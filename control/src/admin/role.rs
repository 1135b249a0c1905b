//! What a certificate may do: the role that the configuration gives one of its names.

use config::policy::{ApiRole, Role};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who a certificate is, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    /// The name that has the role: `CN=alice`.
    pub(super) name: String,
    /// The role.
    pub(super) role: Role,
}

/// What the roles grant a certificate (DER); nothing where none of its names has a role. Of several the least is taken.
pub(super) fn grant(roles: &[ApiRole], certificate: &[u8]) -> Option<Grant> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let of = |name: String| {
        let role = roles.iter().find(|role| role.certificates.contains(&name))?.role;
        Some(Grant { name, role })
    };
    names(&certificate).into_iter().filter_map(of).min_by_key(|grant| grant.role)
}

/// The names of a certificate, as the configuration writes them (RFC 5280 sections 4.1.2.6 and 4.2.1.6).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(|name| format!("CN={name}")).collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
            GeneralName::URI(name) => Some(format!("URI:{name}")),
            GeneralName::RFC822Name(name) => Some(format!("email:{name}")),
            _ => None,
        }));
    }
    names
}
