//! The mappings of a GPU address space, and the interval arithmetic on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gpu::Pagemap;
use super::object::Object;
use super::sync::Fence;

/// What a mapping is of.
#[derive(Clone, Debug)]
pub(super) enum Backing {
    /// The CPU's addresses themselves.
    Mirror,
    Object {
        object: Arc<Object>,
        offset: u64,
    },
    /// The process's memory at another address.
    Userptr {
        address: u64,
    },
    Null,
}

/// Attributes that `MADVISE` sets.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    /// File number as given, 0 or -1.
    pub(super) fd: i32,
    pub(super) policy: u16,
    /// What the number meant when it was given.
    pub(super) pagemap: Option<Arc<Pagemap>>,
    pub(super) atomic: u32,
    pub(super) pat: u16,
    /// Of mappings of objects: that through this one the content is not needed.
    pub(super) dont_need: bool,
}

impl Attributes {
    pub(super) const fn new(pat: u16) -> Self {
        Self { fd: 0, policy: 0, pagemap: None, atomic: 0, pat, dont_need: false }
    }
}

/// One mapping.
#[derive(Clone, Debug)]
pub(super) struct Vma {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) backing: Backing,
    /// `DRM_XE_VM_BIND_FLAG_*` it was bound with.
    pub(super) flags: u32,
    pub(super) default_pat: u16,
    pub(super) attributes: Attributes,
    /// A user fence that an operation on the mapping will signal.
    pub(super) fence: Option<Arc<Fence>>,
    /// Of mappings of objects: what the page tables say.
    pub(super) tables: Tables,
    /// The last fault that was served was in this mapping, and it is whole since (`last_fault_vma`).
    pub(super) last_fault: bool,
}

/// Page-table entries of a mapping.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables {
    /// The tiles that have them, a bit for each.
    pub(super) tiles: u32,
    /// They let atomics through without a fault.
    pub(super) atomics: bool,
}

impl Vma {
    pub(super) const fn is_mirror(&self) -> bool {
        matches!(self.backing, Backing::Mirror)
    }

    pub(super) const fn has_object(&self) -> bool {
        matches!(self.backing, Backing::Object { .. })
    }

    /// Whether the driver merges the mapping with a new mirror beside it (`xe_vma_has_default_mem_attrs`).
    pub(super) const fn is_default_mirror(&self) -> bool {
        self.is_mirror()
            && self.attributes.atomic == 0
            && self.attributes.pat == self.default_pat
            && self.attributes.fd == 0
            && self.attributes.policy == 0
    }

    /// Whether the two were one user pointer: they touch, and so does the memory that they stand for.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let shift = |vma: &Self| match vma.backing {
            Backing::Userptr { address } => Some(address.wrapping_sub(vma.start)),
            _ => None,
        };
        (self.end == other.start || other.end == self.start)
            && shift(self).is_some()
            && shift(self) == shift(other)
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }

    /// The part `[start, end)`, which must lie inside.
    fn part(&self, start: u64, end: u64) -> Self {
        let shift = start - self.start;
        let backing = match &self.backing {
            Backing::Object { object, offset } => {
                Backing::Object { object: object.clone(), offset: offset + shift }
            }
            Backing::Userptr { address } => Backing::Userptr { address: address + shift },
            other => other.clone(),
        };
        Self { start, end, backing, last_fault: false, ..self.clone() }
    }
}

/// All mappings: disjoint, by start.
#[derive(Clone, Debug, Default)]
pub(super) struct Vmas(BTreeMap<u64, Vma>);

impl Vmas {
    /// The mappings that share a byte with `[start, end)`; for an empty range, the one that has `start` strictly inside.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.0.range(..=start).next_back().map_or(start, |(&first, _)| first);
        self.0.range(first..).map(|(_, vma)| vma).take_while(move |vma| vma.start < end.max(start)).filter(
            move |vma| {
                if start == end { vma.start < start && start < vma.end } else { vma.overlaps(start, end) }
            },
        )
    }

    pub(super) fn first_overlapping(&self, start: u64, end: u64) -> Option<&Vma> {
        self.overlapping(start, end).next()
    }

    pub(super) fn at(&self, address: u64) -> Option<&Vma> {
        self.0.range(..=address).next_back().map(|(_, vma)| vma).filter(|vma| address < vma.end)
    }

    /// Takes `[start, end)` out: what overlapped it is returned in order, cut to it, and the remnants at both sides stay
    /// with their attributes.
    pub(super) fn carve(&mut self, start: u64, end: u64) -> Vec<Vma> {
        let starts: Vec<u64> = self.overlapping(start, end).map(|vma| vma.start).collect();
        let mut taken = Vec::with_capacity(starts.len());
        for key in starts {
            let Some(vma) = self.0.remove(&key) else { continue };
            if vma.start < start {
                self.insert(vma.part(vma.start, start));
            }
            if end < vma.end {
                self.insert(vma.part(end, vma.end));
            }
            taken.push(vma.part(vma.start.max(start), vma.end.min(end)));
        }
        taken
    }

    /// Splits every mapping without a buffer object at `start` and `end` (`drm_gpuvm_madvise_ops_create`).
    pub(super) fn split_for_advice(&mut self, start: u64, end: u64) {
        for at in [start, end] {
            let Some(vma) = self.at(at).filter(|vma| vma.start < at && !vma.has_object()) else { continue };
            let (low, high) = (vma.part(vma.start, at), vma.part(at, vma.end));
            self.insert(low);
            self.insert(high);
        }
    }

    /// Puts a mapping where nothing is.
    pub(super) fn insert(&mut self, vma: Vma) {
        self.0.insert(vma.start, vma);
    }

    /// Changes each mapping that shares a byte with `[start, end)`.
    pub(super) fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        let starts: Vec<u64> = self.overlapping(start, end).map(|vma| vma.start).collect();
        for key in starts {
            if let Some(vma) = self.0.get_mut(&key) {
                change(vma);
            }
        }
    }

    /// Whether an object is mapped, and all who map it say that its content is not needed.
    pub(super) fn nobody_needs(&self, object: &Arc<Object>) -> bool {
        let of_object =
            |vma: &&Vma| matches!(&vma.backing, Backing::Object { object: o, .. } if Arc::ptr_eq(o, object));
        let mut mappings = self.0.values().filter(of_object).peekable();
        mappings.peek().is_some() && mappings.all(|vma| vma.attributes.dont_need)
    }

    /// Takes out every mapping of an object.
    pub(super) fn remove_object(&mut self, object: &Arc<Object>) -> Vec<Vma> {
        let of_object =
            |vma: &Vma| matches!(&vma.backing, Backing::Object { object: o, .. } if Arc::ptr_eq(o, object));
        let starts: Vec<u64> = self.0.values().filter(|vma| of_object(vma)).map(|vma| vma.start).collect();
        starts.iter().filter_map(|start| self.0.remove(start)).collect()
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;

    fn mirror(start: u64, end: u64, pat: u16) -> Vma {
        Vma {
            start: start * PAGE,
            end: end * PAGE,
            backing: Backing::Userptr { address: (start + 1000) * PAGE },
            flags: 0,
            default_pat: pat,
            attributes: Attributes::new(pat),
            fence: None,
            tables: Tables::default(),
            last_fault: false,
        }
    }

    /// What each page means: the tag of the mapping and the address it stands for.
    type Model = Vec<Option<(u16, u64)>>;

    fn flat(vmas: &Vmas, pages: u64) -> Model {
        (0..pages)
            .map(|page| {
                let vma = vmas.at(page * PAGE)?;
                let Backing::Userptr { address } = vma.backing else { panic!("{vma:?}") };
                Some((vma.default_pat, address + page * PAGE - vma.start))
            })
            .collect()
    }

    #[derive(Clone, Debug)]
    enum Op {
        Map(u16),
        Unmap,
        Split,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![(0u16..9).prop_map(Op::Map), Just(Op::Unmap), Just(Op::Split)]
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_a_page_map(ops in prop::collection::vec((op(), 0u64..40, 1u64..20), 1..60)) {
            let mut vmas = Vmas::default();
            let mut model: Model = vec![None; 64];
            for (op, start, len) in ops {
                let end = start + len;
                let expected: Model = model[start as usize..end as usize].to_vec();
                match op {
                    Op::Map(tag) => {
                        let taken = vmas.carve(start * PAGE, end * PAGE);
                        let mut seen: Model = vec![None; len as usize];
                        for part in taken {
                            for page in part.start / PAGE..part.end / PAGE {
                                let Backing::Userptr { address } = part.backing else { unreachable!() };
                                let at = address + page * PAGE - part.start;
                                seen[(page - start) as usize] = Some((part.default_pat, at));
                            }
                        }
                        prop_assert_eq!(seen, expected);
                        vmas.insert(mirror(start, end, tag));
                        for page in start..end {
                            model[page as usize] = Some((tag, (page + 1000) * PAGE));
                        }
                    }
                    Op::Unmap => {
                        vmas.carve(start * PAGE, end * PAGE);
                        model[start as usize..end as usize].fill(None);
                    }
                    Op::Split => {
                        vmas.split_for_advice(start * PAGE, end * PAGE);
                        for at in [start, end] {
                            let straddles = vmas.at(at * PAGE).is_some_and(|vma| vma.start < at * PAGE);
                            prop_assert!(!straddles);
                        }
                    }
                }
                prop_assert_eq!(flat(&vmas, 64), model.clone());
                let ends: Vec<(u64, u64)> = vmas.iter().map(|vma| (vma.start, vma.end)).collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
                for (from, to) in [(start, end), (start, start + 1), (0, 64)] {
                    let found: Vec<u64> = vmas.overlapping(from * PAGE, to * PAGE).map(|vma| vma.start).collect();
                    let naive: Vec<u64> = vmas
                        .iter()
                        .filter(|vma| vma.start < to * PAGE && from * PAGE < vma.end)
                        .map(|vma| vma.start)
                        .collect();
                    prop_assert_eq!(found, naive);
                }
            }
        }
    }

    #[test]
    fn an_empty_range_overlaps_what_it_lies_strictly_inside() {
        let mut vmas = Vmas::default();
        vmas.insert(mirror(2, 6, 0));
        let at = |page: u64| vmas.overlapping(page * PAGE, page * PAGE).count();
        assert_eq!([at(1), at(2), at(3), at(6)], [0, 0, 1, 0]);
    }
}
