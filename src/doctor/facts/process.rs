//! The process itself: who it is, what it may, how it is limited.

use super::files::text;
use crate::doctor::system::System;
use crate::error::Errno;

/// Capabilities that matter here, by their bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Capability {
    DacOverride = 1,
    SysPtrace = 19,
    SysAdmin = 21,
    Perfmon = 38,
}

/// What `/proc/self` and the user database say.
#[derive(Clone, Debug)]
pub(in crate::doctor) struct Process {
    /// Effective user, group and supplementary groups.
    pub(in crate::doctor) ids: Result<Ids, Errno>,
    effective_capabilities: Option<u64>,
    /// User and group numbers are not those of the host (a user namespace that renumbers).
    pub(in crate::doctor) in_user_namespace: bool,
    /// Limits by the name in `/proc/self/limits`: the soft one, `None` for unlimited.
    limits: Result<Vec<(String, Option<u64>)>, Errno>,
    groups: Vec<(String, u32, Vec<String>)>,
    users: Vec<(String, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Ids {
    pub(in crate::doctor) user: u32,
    pub(in crate::doctor) group: u32,
    pub(in crate::doctor) groups: Vec<u32>,
}

impl Process {
    pub(super) fn read(system: &dyn System) -> Self {
        let status = text(system, "/proc/self/status");
        let field = |name: &str| -> Option<&str> {
            let lines = status.as_deref().ok()?.lines();
            lines
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim())
        };
        let effective = |name: &str| field(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
        let ids = match (effective("Uid"), effective("Gid")) {
            (Some(user), Some(group)) => {
                let groups = field("Groups").unwrap_or_default();
                Ok(Ids {
                    user,
                    group,
                    groups: groups.split_ascii_whitespace().filter_map(|g| g.parse().ok()).collect(),
                })
            }
            _ => Err(status.as_ref().err().copied().unwrap_or(Errno::ENODATA)),
        };
        Self {
            ids,
            effective_capabilities: field("CapEff").and_then(|bits| u64::from_str_radix(bits, 16).ok()),
            in_user_namespace: text(system, "/proc/self/uid_map").is_ok_and(|map| !is_identity(&map)),
            limits: text(system, "/proc/self/limits").map(|limits| parse_limits(&limits)),
            groups: text(system, "/etc/group").map(|groups| parse_groups(&groups)).unwrap_or_default(),
            users: text(system, "/etc/passwd").map(|users| parse_users(&users)).unwrap_or_default(),
        }
    }

    /// Whether the capability is in effect; `None` when that cannot be read.
    pub(in crate::doctor) fn has(&self, capability: Capability) -> Option<bool> {
        self.effective_capabilities.map(|bits| bits & 1 << capability as u32 != 0)
    }

    /// The soft limit of that name in bytes: `Ok(None)` when there is none.
    pub(in crate::doctor) fn limit(&self, name: &str) -> Result<Option<u64>, Errno> {
        let limits = self.limits.as_ref().map_err(|errno| *errno)?;
        limits.iter().find(|(limit, _)| limit == name).map(|(_, value)| *value).ok_or(Errno::ENODATA)
    }

    /// A group for people: its name, or its number where it has none.
    pub(in crate::doctor) fn group_name(&self, gid: u32) -> String {
        self.named_group(gid).map_or_else(|| gid.to_string(), str::to_owned)
    }

    pub(in crate::doctor) fn named_group(&self, gid: u32) -> Option<&str> {
        self.groups.iter().find(|(_, id, _)| *id == gid).map(|(name, ..)| name.as_str())
    }

    pub(in crate::doctor) fn user_name(&self, uid: u32) -> String {
        self.named_user(uid).map_or_else(|| uid.to_string(), str::to_owned)
    }

    pub(in crate::doctor) fn named_user(&self, uid: u32) -> Option<&str> {
        self.users.iter().find(|(_, id)| *id == uid).map(|(name, _)| name.as_str())
    }

    /// Whether the group database has the user as a member, whatever this session was started with.
    pub(in crate::doctor) fn is_listed_member(&self, uid: u32, gid: u32) -> bool {
        let user = self.user_name(uid);
        self.groups.iter().any(|(_, id, members)| *id == gid && members.contains(&user))
    }
}

#[cfg(test)]
impl Process {
    /// A process of which nothing is known but its numbers.
    pub(super) fn with_ids(ids: Result<Ids, Errno>) -> Self {
        Self {
            ids,
            effective_capabilities: Some(0),
            in_user_namespace: false,
            limits: Err(Errno::ENOENT),
            groups: Vec::new(),
            users: Vec::new(),
        }
    }
}

fn is_identity(map: &str) -> bool {
    let mut words = map.split_ascii_whitespace();
    matches!(
        (words.next(), words.next(), words.next(), words.next()),
        (Some("0"), Some("0"), Some("4294967295"), None)
    )
}

/// Columns are separated by two spaces or more, since names contain single ones.
fn parse_limits(text: &str) -> Vec<(String, Option<u64>)> {
    let limit = |line: &str| {
        let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
        let (name, soft) = (columns.next()?, columns.next()?);
        let soft = if soft == "unlimited" { None } else { Some(soft.parse().ok()?) };
        Some((name.to_owned(), soft))
    };
    text.lines().skip(1).filter_map(limit).collect()
}

fn parse_groups(text: &str) -> Vec<(String, u32, Vec<String>)> {
    let group = |line: &str| {
        let mut fields = line.split(':');
        let (name, id, members) = (fields.next()?, fields.nth(1)?, fields.next().unwrap_or_default());
        let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        Some((name.to_owned(), id.parse().ok()?, members))
    };
    text.lines().filter_map(group).collect()
}

fn parse_users(text: &str) -> Vec<(String, u32)> {
    let user = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_with_names_of_several_words() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max address space         unlimited            unlimited            bytes     \n\
                    Max locked memory         8388608              16777216             bytes     \n";
        let limits = parse_limits(text);
        assert_eq!(limits, [("Max address space".into(), None), ("Max locked memory".into(), Some(8 << 20))]);
    }

    #[test]
    fn members_of_groups() {
        let groups = parse_groups("root:x:0:\nrender:x:993:alice,bob\n");
        assert_eq!(groups[1], ("render".into(), 993, vec!["alice".into(), "bob".into()]));
        assert!(groups[0].2.is_empty());
        assert_eq!(parse_users("alice:x:1000:1000::/home/alice:/bin/sh\n"), [("alice".into(), 1000)]);
    }

    #[test]
    fn only_the_whole_identity_is_no_renumbering() {
        assert!(is_identity("         0          0 4294967295"));
        assert!(!is_identity("         0       1000          1"));
        assert!(!is_identity("0 1000 1\n1 100000 65536"));
    }
}
