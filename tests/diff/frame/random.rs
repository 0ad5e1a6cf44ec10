//! Random numbers that are the same for a seed on every machine and for ever, which no library promises of its generators.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // The bias of one in 2^64 / limit does not matter here.
        self.next() % limit
    }

    /// True in `parts` of `of` cases.
    pub(crate) fn chance(&mut self, parts: u64, of: u64) -> bool {
        self.below(of) < parts
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// One of them, each as often as its weight says.
    pub(crate) fn weighted<'a, T>(&mut self, from: &'a [(u64, T)]) -> &'a T {
        let mut left = self.below(from.iter().map(|(weight, _)| weight).sum());
        for (weight, item) in from {
            match left.checked_sub(*weight) {
                Some(less) => left = less,
                None => return item,
            }
        }
        unreachable!("the sum of the weights is above every number below it")
    }
}
