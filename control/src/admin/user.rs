//! Who calls: at the control socket the user that the kernel names, over TCP the certificate; for the record of what was
//! changed, and for what they may do.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use config::policy::Role;

use super::callers::Callers;
use super::guests::Guests;
use super::role::Grant;

/// Who calls the API.
#[derive(Clone, Debug)]
pub(super) enum User {
    /// A user of this machine, by its number: whoever may open the socket may do everything.
    Local(Option<u32>),
    /// A certificate.
    Certified(Grant),
}

impl Connected<IncomingStream<'_, Callers>> for User {
    fn connect_info(stream: IncomingStream<'_, Callers>) -> Self {
        Self::Local(*stream.io().who())
    }
}

impl Connected<IncomingStream<'_, Guests>> for User {
    fn connect_info(stream: IncomingStream<'_, Guests>) -> Self {
        Self::Certified(stream.io().who().clone())
    }
}

impl User {
    /// The user's name, else its number; of a certificate the name that has the role.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Local(Some(number)) => user_name(*number),
            Self::Local(None) => "unknown".to_owned(),
            Self::Certified(grant) => grant.name.clone(),
        }
    }

    /// What they may do.
    pub(super) const fn role(&self) -> Role {
        match self {
            Self::Local(_) => Role::Admin,
            Self::Certified(grant) => grant.role,
        }
    }
}

/// The user this process runs as.
#[must_use]
pub fn own_name() -> String {
    user_name(rustix::process::geteuid().as_raw())
}

/// The name that `/etc/passwd` has for a user, else `uid 1000`. Users from elsewhere keep their number: asking a directory
/// could take as long as the network does.
fn user_name(user: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, user).map_or_else(|| format!("uid {user}"), str::to_owned)
}

/// passwd(5): name, password, number, ...
fn name_in(users: &str, user: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_the_names_of_passwd() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\n::7:\nop:x:1000:1000::/home/op:\n";
        assert_eq!(name_in(users, 0), Some("root"));
        assert_eq!(name_in(users, 1000), Some("op"));
        assert_eq!(name_in(users, 7), None);
        assert_eq!(name_in("", 0), None);
    }
}
