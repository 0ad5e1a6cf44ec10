//! Which devices reach each other's memory.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use super::dev::Dev;

/// Groups of devices of which each reaches the memory of each other: the counterpart of `drm_pagemap_owner_list`.
///
/// The kernel gives all pagemaps of a group one owner; device pages of the same owner are mapped where they are, those of
/// another go back to system memory first. A device joins the first group *all* of whose members it connects to, or
/// founds one. Groups are cliques: that A reaches B and B reaches C says nothing of A and C.
///
/// ```
/// use drm_pagemap::pagemap::{Dev, OwnerList};
///
/// let (a, b, c) = (Dev::new(), Dev::new(), Dev::new());
/// let linked = |x: Dev, y: Dev| (x, y) != (a, c) && (x, y) != (c, a);
/// let owners = OwnerList::new();
/// assert_eq!(owners.join(a, linked), owners.join(b, linked));
/// assert_ne!(owners.join(c, linked), owners.join(a, linked));
/// ```
#[doc(alias = "drm_pagemap_owner_list")]
#[derive(Debug, Default)]
pub struct OwnerList {
    groups: Mutex<Vec<Vec<Dev>>>,
}

/// A group of an [`OwnerList`].
#[doc(alias = "drm_pagemap_owner")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(usize);

impl OwnerList {
    /// No groups.
    #[must_use]
    pub const fn new() -> Self {
        Self { groups: Mutex::new(Vec::new()) }
    }

    /// The group of a device, which it joins or founds if it has none. `connected` is taken to be symmetric.
    #[doc(alias = "drm_pagemap_acquire_owner")]
    pub fn join(&self, dev: Dev, connected: impl Fn(Dev, Dev) -> bool) -> Owner {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.iter().position(|members| members.contains(&dev)) {
            return Owner(group);
        }
        let fits =
            |members: &Vec<Dev>| !members.is_empty() && members.iter().all(|&member| connected(dev, member));
        let group = groups.iter().position(fits).unwrap_or_else(|| {
            // Empty groups stay, so that numbers keep their meaning, and are founded anew.
            groups.iter().position(Vec::is_empty).unwrap_or_else(|| {
                groups.push(Vec::new());
                groups.len() - 1
            })
        });
        groups[group].push(dev);
        Owner(group)
    }

    /// Takes a device out of its group.
    #[doc(alias = "drm_pagemap_release_owner")]
    pub fn leave(&self, dev: Dev) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for members in groups.iter_mut() {
            members.retain(|&member| member != dev);
        }
    }

    /// Whether the two are in one group.
    #[must_use]
    pub fn same_owner(&self, a: Dev, b: Dev) -> bool {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        a == b || groups.iter().any(|members| members.contains(&a) && members.contains(&b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_cliques() {
        let devs: Vec<Dev> = (0..4).map(|_| Dev::new()).collect();
        let index = |dev| devs.iter().position(|&d| d == dev).unwrap();
        // A chain: each reaches its neighbours only.
        let chain = |a: Dev, b: Dev| index(a).abs_diff(index(b)) == 1;
        let owners = OwnerList::new();
        let groups: Vec<Owner> = devs.iter().map(|&dev| owners.join(dev, chain)).collect();
        assert_eq!(groups[0], groups[1]);
        assert_ne!(groups[1], groups[2]);
        assert_eq!(groups[2], groups[3]);
        assert!(owners.same_owner(devs[0], devs[1]) && !owners.same_owner(devs[1], devs[2]));
        assert_eq!(owners.join(devs[1], chain), groups[1], "joining twice changes nothing");
    }

    #[test]
    fn who_leaves_no_longer_stands_in_the_way() {
        let (a, b, c) = (Dev::new(), Dev::new(), Dev::new());
        let not_b = |x: Dev, y: Dev| x != b && y != b;
        let owners = OwnerList::new();
        let first = owners.join(b, not_b);
        assert_ne!(owners.join(a, not_b), first);
        owners.leave(b);
        assert!(!owners.same_owner(a, b));
        assert_eq!(owners.join(c, not_b), owners.join(a, not_b));
    }
}
