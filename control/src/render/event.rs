//! `millrace events`: one line for each.

use crate::bulletin::{Happening, Told};
use crate::status::{HealthStatus, Link, RedirectionStatus};

/// One event: when, and what.
#[must_use]
pub fn event(told: &Told) -> String {
    format!("{} {}", told.at, words(&told.happening))
}

fn words(happening: &Happening) -> String {
    match happening {
        Happening::Generation { generation, who, source, .. } if who.is_empty() => {
            format!("generation {generation} is in force, from {source}")
        }
        Happening::Generation { generation, who, source, .. } => {
            format!("generation {generation} is in force, from {source}, by {who}")
        }
        Happening::Backend { service, backend, health } => {
            let health = match health {
                HealthStatus::Unknown => "not probed yet",
                HealthStatus::Up => "up",
                HealthStatus::Failed => "failed",
                HealthStatus::Draining => "draining",
                HealthStatus::Disabled => "disabled",
            };
            format!("backend {backend} of service {service} is {health}")
        }
        Happening::Redirection { service, redirection: None } => {
            format!("service {service} is not directed here any more")
        }
        Happening::Redirection { service, redirection: Some(RedirectionStatus { state, reason, why }) } => {
            let because = [reason, why].into_iter().flatten().map(|words| format!(": {words}"));
            format!("redirection of service {service}: {state}{}", because.collect::<String>())
        }
        Happening::Port { port, link: Link::Up } => format!("port {port} has carrier"),
        Happening::Port { port, link: Link::Down } => format!("port {port} has no carrier"),
        Happening::Threshold { what, exceeded: true, percent } => format!("{what}: {percent} % are in use"),
        Happening::Threshold { what, exceeded: false, percent } => format!("{what}: {percent} % are in use again"),
        Happening::Worker { core, alive: true } => format!("the worker on core {core} turns again"),
        Happening::Worker { core, alive: false } => format!("the worker on core {core} stands still"),
        Happening::Collector { collector, reachable: true } => format!("the collector {collector} takes records again"),
        Happening::Collector { collector, reachable: false } => format!("the collector {collector} cannot be reached"),
        Happening::Lost { count } => format!("{count} events were missed"),
    }
}
