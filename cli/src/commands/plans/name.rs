//! Names of plans, and of those who commit them.

use ringcast_proto::record::PlanId;
use ringcast_ring::Op;
use ringcast_ring_store::fresh_op;

/// Letters and digits that nobody takes for one another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 32,768 names for the plans of one version, of which the store keeps 16.
const LETTERS_LEN: usize = 3;
/// What a name in a record may take up.
const WHO_LEN_MAX: usize = 64;
const UNKNOWN: &str = "unknown";

/// A name for a plan that changes version `base` of the ring: short enough to be typed.
pub(crate) fn fresh(base: u64) -> PlanId {
    spell(base, &fresh_op())
}

fn spell(base: u64, random: &Op) -> PlanId {
    let bytes = random.0.as_bytes();
    let letter = |index: usize| {
        // Two hexadecimal digits of the operation's random name are a byte, of which a letter takes five bits.
        let digit = |at: usize| {
            char::from(bytes.get(at).copied().unwrap_or(b'0'))
                .to_digit(16)
                .unwrap_or(0)
        };
        let five = (digit(2 * index) * 16 + digit(2 * index + 1)) % 32;
        char::from(LETTERS[five as usize])
    };
    let letters: String = (0..LETTERS_LEN).map(letter).collect();
    PlanId(format!("p{base}-{letters}"))
}

/// Who runs this command: `user@host`, for the ring's history.
pub(crate) fn who() -> String {
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    spell_who(user.as_deref(), &host)
}

fn spell_who(user: Option<&str>, host: &str) -> String {
    let clean = |part: &str| -> String {
        let printable = part.chars().filter(|c| !c.is_control() && !c.is_whitespace());
        printable.take(WHO_LEN_MAX).collect()
    };
    match (user.map(clean).unwrap_or_default(), clean(host)) {
        (user, host) if user.is_empty() && host.is_empty() => UNKNOWN.to_owned(),
        (user, host) if user.is_empty() => format!("{UNKNOWN}@{host}"),
        (user, host) if host.is_empty() => user,
        (user, host) => format!("{user}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_plan_is_named_by_the_version_it_changes_and_three_letters() {
        let name = spell(7, &Op("000102ff".to_owned()));
        assert_eq!(name.0, "p7-abc");
        assert_eq!(spell(7, &Op(String::new())).0, "p7-aaa");
    }

    #[test]
    fn names_differ() {
        let names: BTreeSet<String> = (0..64).map(|_| fresh(1).0).collect();
        assert!(names.len() >= 60, "{names:?}");
        assert!(names.iter().all(|name| name.len() == 6), "{names:?}");
    }

    #[test]
    fn who_is_told_as_far_as_it_is_known_and_cannot_drive_a_terminal() {
        assert_eq!(spell_who(Some("ann"), "web-1"), "ann@web-1");
        assert_eq!(spell_who(None, "web-1"), "unknown@web-1");
        assert_eq!(spell_who(Some("ann"), ""), "ann");
        assert_eq!(spell_who(None, ""), "unknown");
        assert_eq!(spell_who(Some("a\u{1b}[2Jn\nn"), "h"), "a[2Jnn@h");
        assert_eq!(spell_who(Some(&"x".repeat(500)), "h").len(), WHO_LEN_MAX + 2);
    }
}
