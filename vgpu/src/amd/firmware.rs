//! Firmware files with valid headers and nothing behind them: the model itself is the firmware (`amdgpu_ucode.h`).

use super::asic::Asic;

/// A file below `/lib/firmware`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path.
    pub path: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Where the payload starts.
const PAYLOAD: usize = 256;
/// Size of `common_firmware_header`.
const COMMON: usize = 32;
/// Instructions that nothing executes.
const NOTHING: [u8; 64] = [0; 64];

struct Blob<'a> {
    name: &'a str,
    version: (u16, u16),
    microcode: u32,
    extra: Vec<u32>,
    payload: Vec<u8>,
}

impl Blob<'_> {
    fn bytes(&self) -> Vec<u8> {
        let extra: Vec<u8> = self.extra.iter().flat_map(|v| v.to_le_bytes()).collect();
        let size = PAYLOAD + self.payload.len();
        let mut b = Vec::with_capacity(size);
        for value in [size as u32, (COMMON + extra.len()) as u32] {
            b.extend(value.to_le_bytes());
        }
        // Version of the header, then of the IP block (9.0).
        for value in [self.version.0, self.version.1, 9, 0] {
            b.extend(value.to_le_bytes());
        }
        for value in [self.microcode, self.payload.len() as u32, PAYLOAD as u32, 0] {
            b.extend(value.to_le_bytes());
        }
        b.extend(extra);
        b.resize(PAYLOAD, 0);
        b.extend(&self.payload);
        b
    }
}

/// All files that the driver asks for.
pub fn files(asic: &Asic) -> Vec<File> {
    let plain =
        |name, version, microcode, extra| Blob { name, version, microcode, extra, payload: NOTHING.to_vec() };
    // gfx_firmware_header_v1_0: feature version (46 and up needs no workaround), jump table.
    let gfx = |name, microcode| plain(name, (1, 0), microcode, vec![50, 0, 0]);
    // rlc_firmware_header_v2_0: its lists must lie somewhere.
    let rlc =
        || plain("rlc", (2, 0), 100, vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 256, 4, 256, 4, 256, 4, 256]);
    // sdma_firmware_header_v1_0; from 430 on the page rings are used on Vega 10.
    let sdma = |name| plain(name, (1, 0), 440, vec![40, 0, 0, 0]);
    let mut blobs = vec![gfx("mec", 500), gfx("mec2", 500), rlc(), sdma("sdma")];
    if asic.graphics {
        blobs.extend([gfx("pfp", 200), gfx("me", 200), gfx("ce", 200), sdma("sdma1"), gpu_info()]);
    } else {
        // The same for parts that were made differently.
        blobs.extend([gfx("sjt_mec", 500), gfx("sjt_mec2", 500)]);
    }
    let path = |name| format!("amdgpu/{}_{name}.bin", asic.name);
    blobs.iter().map(|blob| File { path: path(blob.name), bytes: blob.bytes() }).collect()
}

/// gpu_info_firmware_v1_0: engines, compute units per array, arrays per engine, render backends, texture caches,
/// registers, threads, fifos, double offset flags, wave size, waves per SIMD, scratch slots, local memory.
fn gpu_info() -> Blob<'static> {
    const SHAPE: [u32; 15] = [4, 16, 1, 4, 16, 256, 32, 32, 0x700, 0x800, 1, 64, 10, 32, 64];
    let payload = SHAPE.iter().flat_map(|v| v.to_le_bytes()).collect();
    Blob { name: "gpu_info", version: (1, 0), microcode: 1, extra: vec![1], payload }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::asic::{MI200, VEGA10};

    #[test]
    fn sizes_agree() {
        for asic in [VEGA10, MI200] {
            for file in files(&asic) {
                let word =
                    |at: usize| u32::from_le_bytes(file.bytes[at..at + 4].try_into().unwrap()) as usize;
                assert_eq!(word(0), file.bytes.len(), "{}", file.path);
                assert!(word(4) > COMMON && word(4) <= PAYLOAD);
                assert_eq!(word(24) + word(20), file.bytes.len(), "payload ends with the file");
                assert!(file.path.starts_with("amdgpu/") && file.path.contains(asic.name));
            }
        }
    }

    #[test]
    fn every_file_is_there() {
        let names = |asic| files(asic).len();
        assert_eq!((names(&VEGA10), names(&MI200)), (9, 6));
        let info = files(&VEGA10).into_iter().find(|f| f.path.ends_with("gpu_info.bin")).unwrap();
        assert_eq!(info.bytes[PAYLOAD + 4], 16, "compute units");
    }
}
