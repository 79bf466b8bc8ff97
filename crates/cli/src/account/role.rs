//! Roles by their words, as the contract writes them.
//!
//! **What it may not do.** Know a role that `seal` does not. **What always holds.** Word and role are one to one.
//! **Where it is tested.** Below.

use backupengine_seal::Role;

/// All roles.
pub(crate) const ROLES: [Role; 4] = [Role::Owner, Role::Maintainer, Role::Writer, Role::Reader];

/// The word of a role.
pub(crate) const fn word(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Maintainer => "maintainer",
        Role::Writer => "writer",
        Role::Reader => "reader",
    }
}

/// The role of a word.
pub(crate) fn parse(text: &str) -> Option<Role> {
    ROLES.into_iter().find(|role| word(*role) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        assert!(ROLES.into_iter().all(|role| parse(word(role)) == Some(role)));
        assert_eq!(parse("Owner"), None);
    }
}
