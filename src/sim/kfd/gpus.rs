//! A set of GPUs of a process, by index.

/// A set of GPU indices below 64, which is the most that KFD has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gpus(u64);

impl Gpus {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn one(index: usize) -> Self {
        Self(1 << index)
    }

    pub(super) const fn has(self, index: usize) -> bool {
        self.0 >> index & 1 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.0 &= !(1 << index);
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |&index| self.has(index))
    }
}

impl FromIterator<usize> for Gpus {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        indices.into_iter().fold(Self::NONE, |set, index| set.or(Self::one(index)))
    }
}
