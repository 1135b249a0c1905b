//! How a source NAT rule treats its clients (RFC 4787): for which far ends a mapping holds, and who may answer it.

/// For which far ends one inside address and port keeps its outside address and port (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mapping {
    /// For all: what peer-to-peer applications and games need.
    EndpointIndependent,
    /// For one far address, whatever its port.
    AddressDependent,
    /// For one far address and port. The default: an outside port serves as many clients as there are far ends.
    #[default]
    AddressAndPortDependent,
}

/// Which far ends may open a conversation with a mapping (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Filtering {
    /// All that the firewall allows.
    EndpointIndependent,
    /// Those whose address the client has sent to.
    AddressDependent,
    /// None: only who was asked may answer. The default.
    #[default]
    AddressAndPortDependent,
}

impl Mapping {
    /// The words of the configuration, with what they mean.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("endpoint-independent", Self::EndpointIndependent),
        ("address-dependent", Self::AddressDependent),
        ("address-and-port-dependent", Self::AddressAndPortDependent),
    ];

    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl Filtering {
    /// The words of the configuration, with what they mean.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("endpoint-independent", Self::EndpointIndependent),
        ("address-dependent", Self::AddressDependent),
        ("address-and-port-dependent", Self::AddressAndPortDependent),
    ];

    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_names_agree_and_the_default_is_the_strictest() {
        assert!(Mapping::WORDS.iter().all(|(word, mapping)| *word == mapping.name()));
        assert!(Filtering::WORDS.iter().all(|(word, filtering)| *word == filtering.name()));
        assert!(Mapping::WORDS.iter().all(|(_, mapping)| *mapping <= Mapping::default()));
        assert!(Filtering::WORDS.iter().all(|(_, filtering)| *filtering <= Filtering::default()));
    }
}
