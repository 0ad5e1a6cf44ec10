//! Stub firmware: the headers that the driver checks (`abi/uc_fw_abi.h`, `parse_css_header` in `xe_uc_fw.c`).
//!
//! The device does not execute firmware, so the code is zeros.

/// A file below `lib/firmware`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Path inside `lib/firmware`.
    pub path: &'static str,
    /// Contents.
    pub bytes: Vec<u8>,
}

const fn version(major: u32, minor: u32, patch: u32) -> u32 {
    major << 16 | minor << 8 | patch
}

const HEADER: usize = 32;
const KEY: u32 = 96;
const MODULUS: u32 = 96;
const EXPONENT: u32 = 1;
const CODE: u32 = 1024;

/// A header, signature and code of zeros; sizes in dwords.
fn css(release: u32, submission: u32) -> Vec<u8> {
    let mut dwords = [0u32; HEADER];
    let header = HEADER as u32 + KEY + MODULUS + EXPONENT;
    dwords[0] = 6;
    dwords[1] = header;
    dwords[2] = 0x1_0000;
    dwords[4] = 0x8086;
    dwords[5] = 0x2026_0101;
    dwords[6] = header + CODE;
    dwords[7] = KEY;
    dwords[8] = MODULUS;
    dwords[9] = EXPONENT;
    dwords[16] = release;
    dwords[17] = submission;
    // Private data of the firmware, in bytes.
    dwords[30] = 0x4000;
    let mut bytes: Vec<u8> = dwords.iter().flat_map(|d| d.to_le_bytes()).collect();
    bytes.resize(4 * (header + CODE) as usize, 0);
    bytes
}

/// Everything the driver asks for.
pub fn blobs() -> Vec<Blob> {
    vec![
        // The submission version selects features; 1.38.1 goes with what this model answers.
        Blob { path: "xe/bmg_guc_70.bin", bytes: css(version(70, 72, 1), version(1, 38, 1)) },
        Blob { path: "xe/bmg_huc.bin", bytes: css(version(8, 2, 10), 0) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_add_up() {
        for blob in blobs() {
            let d = |i: usize| u32::from_le_bytes(blob.bytes[i * 4..i * 4 + 4].try_into().unwrap());
            assert_eq!(d(1) - d(7) - d(8) - d(9), 32, "size of the header proper");
            assert_eq!(d(6) * 4, blob.bytes.len() as u32);
        }
        assert_eq!(blobs()[0].bytes[16 * 4..][..4], [1, 72, 70, 0]);
    }
}
