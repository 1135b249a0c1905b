//! Identifiers: dense indices handed out when a policy is compiled or a device is opened, never taken from the wire.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        pub struct $name($int);

        impl $name {
            /// The identifier with this number.
            #[must_use]
            pub const fn new(number: $int) -> Self {
                Self(number)
            }

            /// The number itself, for formats and foreign calls.
            #[must_use]
            pub const fn get(self) -> $int {
                self.0
            }

            /// The position of what this names in a dense table.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A port of the appliance, by its place in the configuration.
    PortId(u16)
}
id! {
    /// A receive and transmit queue pair of one port.
    QueueId(u16)
}
id! {
    /// A worker, by its place in `[cores] workers`.
    WorkerId(u16)
}
id! {
    /// A zone: 0 is the appliance itself (`appliance` in rules), the others in order of first mention.
    ZoneId(u8)
}
id! {
    /// A firewall rule, by its place in the rule list.
    RuleId(u32)
}
id! {
    /// A virtual service, by its place in the policy.
    ServiceId(u32)
}
id! {
    /// A backend, numbered through all services of the policy.
    BackendId(u32)
}

id! {
    /// A tenant: 0 is nobody's, the others in order of first mention since the start, so that none has another's number.
    TenantId(u16)
}

impl TenantId {
    /// What belongs to no tenant.
    pub const NONE: Self = Self(0);
}

impl ZoneId {
    /// What is addressed to, or comes from, the appliance itself.
    pub const APPLIANCE: Self = Self(0);
}

/// The number of a policy: 1 for the first that was put in force, one more for each that followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The generation that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The low 16 bits, as a session remembers which policy admitted it.
    #[must_use]
    pub const fn short(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
