//! `[api]` and `[[api.role]]`: the API over TCP, and what each certificate may do there. Only where the files are: they are
//! read when the appliance starts, and again when they change.

use toml::de::DeValue;

use crate::findings::{At, Finding, Findings, Spot};
use crate::kind::{Wrong, choice, string};
use crate::listen::listen;
use crate::names::Names;
use crate::nearest::quoted;
use crate::path::file;
use crate::policy::{Api, ApiRole, Role};
use crate::section::Section;

const ROLES: &[(&str, Role)] = &[("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];

/// Kinds of names a certificate can have, as they are written in front of them.
const KINDS: [&str; 4] = ["CN=", "DNS:", "URI:", "email:"];

/// Longest name.
const NAME_BYTES_MAX: usize = 512;

/// Reads `[api]`, with the place of its `listen`; without it the API is at the control socket alone.
pub(crate) fn api(root: &mut Section<'_>, findings: &Findings) -> Option<At<Api>> {
    let mut section = root.table("api")?;
    let pem = |section: &mut Section<'_>, key: &'static str, advice: &str| {
        section.required(key, file, advice).map(|path| path.value).unwrap_or_default()
    };
    let place = section.required("listen", listen, "say where: listen = \"192.0.2.1:8443\"");
    let certificate = pem(&mut section, "certificate", "name its file: certificate = \"/etc/millrace/api.pem\"");
    let key = pem(&mut section, "key", "name its file: key = \"/etc/millrace/api.key\"");
    let client_ca = pem(&mut section, "client_ca", "name its file: client_ca = \"/etc/millrace/clients.pem\"");
    let sections = section.tables("role");
    if sections.is_empty() {
        let message = "nobody could call the API: it has no [[api.role]]";
        let finding = Finding::error("missing-key", &section.spot, message);
        findings.report(
            finding.advice("say whose certificates may do what: [[api.role]] with name, role and certificates"),
        );
    }
    let mut names = Names::of("roles", findings);
    let mut given: Vec<(String, Spot)> = Vec::new();
    let roles = sections.into_iter().map(|section| role(section, &mut names, &mut given)).collect();
    section.finish();
    place.map(|At { value: listen, spot }| At { value: Api { listen, certificate, key, client_ca, roles }, spot })
}

fn role(mut section: Section<'_>, names: &mut Names<'_>, given: &mut Vec<(String, Spot)>) -> ApiRole {
    let name = section.name();
    names.take(&name);
    let role =
        section.required("role", choice(ROLES), "say what they may: role = \"viewer\", \"operator\" or \"admin\"");
    let advice = "name their certificates: certificates = [\"CN=alice\", \"DNS:ci.example\"]";
    let certificates = section.required_list("certificates", certificate_name, advice);
    for certificate in &certificates {
        if let Some((_, first)) = given.iter().find(|(name, _)| *name == certificate.value) {
            let message = format!("{} has a role already", quoted(&certificate.value));
            let finding = Finding::error("duplicate-name", &certificate.spot, message).contradicts(first);
            section.report(finding.advice("a certificate has one role: leave it in one of the two"));
        } else {
            given.push((certificate.value.clone(), certificate.spot.clone()));
        }
    }
    section.finish();
    ApiRole {
        name: name.value,
        role: role.map_or(Role::Viewer, |role| role.value),
        certificates: certificates.into_iter().map(|certificate| certificate.value).collect(),
    }
}

/// One name of a certificate, whole: `"CN=alice"`, `"DNS:ci.example"`, `"URI:spiffe://example/ops"`, `"email:a@b.example"`.
fn certificate_name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let example = "\"CN=alice\", \"DNS:ci.example\", \"URI:spiffe://example/ops\" or \"email:alice@example.net\"";
    let written = string(value, &format!("a name of a certificate such as {example}"))?;
    let named = KINDS.iter().any(|kind| written.len() > kind.len() && written.starts_with(kind));
    if named && written.len() <= NAME_BYTES_MAX && !written.contains(char::is_control) {
        return Ok(written.to_owned());
    }
    let predicate = format!("{} is not a name of a certificate", quoted(written));
    Err(Wrong::new("bad-name", predicate, format!("write one such as {example}")))
}
