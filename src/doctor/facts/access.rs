//! Whether the mode and the access control list of a file let a process read and write it.

use super::process::{Capability, Process};
use crate::doctor::system::FileStatus;

const READ_WRITE: u32 = 0o6;

/// What the file's own rules say, before any other security policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum AccessDecision {
    Allowed,
    Denied,
    /// Who the process is could not be read.
    Unknown,
}

/// Decides as `acl_permission_check` of the kernel does (`fs/namei.c`, `fs/posix_acl.c`).
pub(in crate::doctor) fn decide_access(
    status: &FileStatus,
    acl: Option<&[u8]>,
    process: &Process,
) -> AccessDecision {
    let Ok(ids) = &process.ids else { return AccessDecision::Unknown };
    // In a user namespace the capability counts only for owners that exist there, which cannot be seen from inside.
    if process.has(Capability::DacOverride) == Some(true) && !process.in_user_namespace {
        return AccessDecision::Allowed;
    }
    let in_group = |gid: u32| gid == ids.group || ids.groups.contains(&gid);
    let permissions = if ids.user == status.uid {
        status.mode >> 6
    } else if let Some(permissions) =
        acl.and_then(parse).and_then(|list| by_list(&list, status, ids.user, in_group))
    {
        permissions
    } else if in_group(status.gid) {
        status.mode >> 3
    } else {
        status.mode
    };
    if permissions & READ_WRITE == READ_WRITE { AccessDecision::Allowed } else { AccessDecision::Denied }
}

struct Entry {
    tag: u16,
    permissions: u32,
    id: u32,
}

const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// `struct posix_acl_xattr_header` and entries (`linux/posix_acl_xattr.h`); only version 2 exists.
fn parse(list: &[u8]) -> Option<Vec<Entry>> {
    let (head, entries) = list.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*head) != 2 {
        return None;
    }
    let entry = |bytes: &[u8]| Entry {
        tag: u16::from_le_bytes([bytes[0], bytes[1]]),
        permissions: u16::from_le_bytes([bytes[2], bytes[3]]).into(),
        id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    Some(entries.chunks_exact(8).map(entry).collect())
}

/// The permissions of whoever is neither the owner nor "other"; `None` for "other".
fn by_list(list: &[Entry], status: &FileStatus, user: u32, in_group: impl Fn(u32) -> bool) -> Option<u32> {
    let mask = list.iter().find(|entry| entry.tag == MASK).map_or(0o7, |entry| entry.permissions);
    if let Some(entry) = list.iter().find(|entry| entry.tag == USER && entry.id == user) {
        return Some(entry.permissions & mask);
    }
    let groups = list.iter().filter(|entry| match entry.tag {
        GROUP_OBJ => in_group(status.gid),
        GROUP => in_group(entry.id),
        _ => false,
    });
    // One entry that grants is enough; entries of several groups do not add up.
    groups
        .map(|entry| entry.permissions & mask)
        .max_by_key(|permissions| permissions & READ_WRITE == READ_WRITE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::process::Ids;

    fn process(user: u32, groups: &[u32]) -> Process {
        Process::with_ids(Ok(Ids { user, group: user, groups: groups.to_vec() }))
    }

    fn node(mode: u32) -> FileStatus {
        FileStatus { mode: 0o020_000 | mode, uid: 0, gid: 993, device: Some((226, 128)) }
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn owner_group_and_others_by_mode() {
        let decide = |mode, process: &Process| decide_access(&node(mode), None, process);
        assert_eq!(decide(0o660, &process(1000, &[993])), AccessDecision::Allowed);
        assert_eq!(decide(0o660, &process(1000, &[27])), AccessDecision::Denied);
        assert_eq!(decide(0o666, &process(1000, &[])), AccessDecision::Allowed);
        assert_eq!(decide(0o640, &process(1000, &[993])), AccessDecision::Denied);
        // The owner's bits alone count for the owner, and the group's for its members.
        assert_eq!(decide(0o066, &process(0, &[])), AccessDecision::Denied);
        assert_eq!(decide(0o606, &process(1000, &[993])), AccessDecision::Denied);
    }

    #[test]
    fn lists_grant_within_their_mask() {
        let alice = process(1000, &[]);
        let granted = acl(&[(1, 6, !0), (USER, 6, 1000), (GROUP_OBJ, 6, !0), (MASK, 6, !0), (0x20, 0, !0)]);
        assert_eq!(decide_access(&node(0o660), Some(&granted), &alice), AccessDecision::Allowed);
        let masked = acl(&[(1, 6, !0), (USER, 6, 1000), (GROUP_OBJ, 6, !0), (MASK, 4, !0), (0x20, 0, !0)]);
        assert_eq!(decide_access(&node(0o660), Some(&masked), &alice), AccessDecision::Denied);
        let by_group = acl(&[(1, 6, !0), (GROUP_OBJ, 0, !0), (GROUP, 6, 27), (MASK, 6, !0), (0x20, 0, !0)]);
        assert_eq!(
            decide_access(&node(0o660), Some(&by_group), &process(1000, &[27])),
            AccessDecision::Allowed
        );
        assert_eq!(
            decide_access(&node(0o660), Some(&by_group), &process(1000, &[993])),
            AccessDecision::Denied
        );
        let other_version = [1, 0, 0, 0];
        assert_eq!(decide_access(&node(0o660), Some(&other_version), &alice), AccessDecision::Denied);
    }

    #[test]
    fn who_is_not_known_is_not_judged() {
        assert_eq!(
            decide_access(&node(0o666), None, &Process::with_ids(Err(crate::Errno::ENOENT))),
            AccessDecision::Unknown
        );
    }
}
