//! Instructions for tests.

pub(crate) use super::image::testing as image;

fn halves(address: u64) -> [u32; 2] {
    [address as u32, (address >> 32) as u32]
}

pub(crate) const END: u32 = 0x0a << 23;
pub(crate) const INTERRUPT: u32 = 0x02 << 23;
pub(crate) const SECOND_LEVEL: u32 = 1 << 22;

/// STORE_DATA_IMM of a dword.
pub(crate) fn store(address: u64, value: u32) -> Vec<u32> {
    let [low, high] = halves(address);
    vec![0x20 << 23 | 2, low, high, value]
}

/// BATCH_BUFFER_START in the process's address space.
pub(crate) fn start(address: u64) -> Vec<u32> {
    let [low, high] = halves(address);
    vec![0x31 << 23 | 1 << 8 | 1, low, high]
}

/// BATCH_BUFFER_START that comes back.
pub(crate) fn call(address: u64) -> Vec<u32> {
    let mut d = start(address);
    d[0] |= SECOND_LEVEL;
    d
}

/// ATOMIC increment.
pub(crate) fn increment(address: u64) -> Vec<u32> {
    let [low, high] = halves(address);
    vec![0x2f << 23 | 5 << 8 | 1, low, high]
}

/// SEMAPHORE_WAIT until the memory equals a value.
pub(crate) fn wait_equal(address: u64, value: u32) -> Vec<u32> {
    let [low, high] = halves(address);
    vec![0x1c << 23 | 1 << 15 | 4 << 12 | 2, value, low, high]
}

/// MEM_COPY of bytes.
pub(crate) fn copy(from: u64, to: u64, len: u32) -> Vec<u32> {
    let ([from_low, from_high], [to_low, to_high]) = (halves(from), halves(to));
    vec![2 << 29 | 0x5a << 22 | 8, len - 1, 0, len - 1, len - 1, from_low, from_high, to_low, to_high, 0]
}

/// FLUSH_DW with an invalidation of translations, and no store.
pub(crate) fn flush_translations() -> Vec<u32> {
    vec![0x26 << 23 | 1 << 18 | 2, 0, 0, 0]
}
