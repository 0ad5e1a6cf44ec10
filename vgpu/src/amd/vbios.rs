//! The video BIOS: only tables, laid out as the driver's parser reads them (`atom.c`, `atomfirmware.h`).

use super::asic::Asic;
use super::registers::at;

/// Size of the image.
pub const SIZE: usize = 4096;

const STRUCTURE: usize = 0x1c0;
const HEADER: usize = 0x200;
const COMMANDS: usize = 0x280;
const TABLES: usize = 0x300;
const ASIC_INIT: usize = 0x3c0;
/// The instruction that ends a command (`ATOM_OP_EOT`).
const END: u8 = 91;

/// Positions in the list of data tables (`atom_master_list_of_data_tables_v2_1`).
mod index {
    pub(super) const FIRMWARE_INFO: usize = 4;
    pub(super) const SMU_INFO: usize = 8;
    pub(super) const GFX_INFO: usize = 14;
    pub(super) const INDIRECT_IO: usize = 23;
    pub(super) const UMC_INFO: usize = 24;
    pub(super) const VRAM_INFO: usize = 28;
}

struct Image([u8; SIZE]);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn table_header(&mut self, at: usize, size: u16, format: u8, content: u8) {
        self.put16(at, size);
        self.put(at + 2, &[format, content]);
    }

    fn data_table(&mut self, index: usize, at: usize, size: u16, format: u8, content: u8) {
        self.put16(TABLES + 4 + 2 * index, at as u16);
        self.table_header(at, size, format, content);
    }
}

/// Builds the image for a device with `vram` bytes of memory.
pub fn build(asic: &Asic, vram: u64) -> Vec<u8> {
    let mut b = Image([0; SIZE]);
    option_rom(&mut b, asic);
    strings(&mut b, asic);
    b.table_header(HEADER, 0x28, 2, 2);
    b.put(HEADER + 4, b"ATOM");
    b.put16(HEADER + 0x0c, 0x180);
    b.put(0x180, b"vgpu\0v\0");
    b.put16(HEADER + 0x1e, COMMANDS as u16);
    b.put16(HEADER + 0x20, TABLES as u16);
    // One command, asic_init: executed after a reset. It ends at once, nothing needs to be initialised.
    b.table_header(COMMANDS, 4 + 2 * 100, 2, 1);
    b.put16(COMMANDS + 4, ASIC_INIT as u16);
    b.table_header(ASIC_INIT, 8, 2, 1);
    b.put(ASIC_INIT + 6, &[END]);
    b.table_header(TABLES, 4 + 2 * 35, 2, 1);

    // atom_firmware_info_v3_1: clocks at boot in 10 kHz, first scratch register.
    b.data_table(index::FIRMWARE_INFO, 0x400, 80, 3, 1);
    b.put32(0x404, 0x1_0000);
    b.put32(0x408, 85_200);
    b.put32(0x40c, 94_500);
    b.put32(0x418, at::BIOS_SCRATCH_0);
    // atom_smu_info_v3_1: reference clock in 10 kHz.
    b.data_table(index::SMU_INFO, 0x480, 32, 3, 1);
    b.put32(0x490, 2_700);
    gfx_info(&mut b);
    // No indirect access methods.
    b.data_table(index::INDIRECT_IO, 0x4c0, 8, 1, 1);
    // atom_umc_info_v3_1: HBM2 without ECC, reference clock in 10 kHz.
    b.data_table(index::UMC_INFO, 0x500, 36, 3, 1);
    b.put(0x51a, &[0x60]);
    b.put32(0x51c, 2_700);
    // atom_vram_info_header_v2_3 with one module.
    b.data_table(index::VRAM_INFO, 0x580, 256, 2, 3);
    b.put(0x594, &[1]);
    let module = 0x598;
    b.put32(module, (vram >> 20) as u32);
    b.put16(module + 20, 52);
    // HBM2, 16 channels of 1 << 7 bits.
    b.put(module + 23, &[0x60, 16, 7]);
    b.put(module + 28, &[1]);

    let sum = b.0.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    b.0[SIZE - 1] = 0u8.wrapping_sub(sum);
    b.0.to_vec()
}

/// PCI expansion ROM: the signature, an entry that returns at once, and the structure with the identity.
fn option_rom(b: &mut Image, asic: &Asic) {
    b.put(0, &[0x55, 0xaa, (SIZE / 512) as u8, 0xcb]);
    b.put(0x30, b" 761295520");
    b.put16(0x18, STRUCTURE as u16);
    b.put16(0x48, HEADER as u16);
    b.put(STRUCTURE, b"PCIR");
    b.put16(STRUCTURE + 0x04, 0x1002);
    b.put16(STRUCTURE + 0x06, asic.device);
    b.put16(STRUCTURE + 0x0a, 0x18);
    // Class: a display controller; one image, of SIZE bytes, for PC compatibles, the last one.
    b.put(STRUCTURE + 0x0f, &[0x03]);
    b.put16(STRUCTURE + 0x10, (SIZE / 512) as u16);
    b.put(STRUCTURE + 0x15, &[0x80]);
}

/// Part number, name and date that the driver prints.
fn strings(b: &mut Image, asic: &Asic) {
    b.put(0x50, b"01/01/26 00:00");
    b.put(0x2f, &[4]);
    b.put16(0x6e, 0x90);
    let text = format!("113-VGPU-001\0VGPU\0PCI_EXPRESS\0HBM2\0\r\n{}\r\n\0", asic.board);
    b.put(0x90, text.as_bytes());
}

/// atom_gfx_info_v2_4: four engines with one array of 16 compute units each.
fn gfx_info(b: &mut Image) {
    let at = 0x700;
    b.data_table(index::GFX_INFO, at, 80, 2, 4);
    b.put(at + 6, &[4]);
    b.put(at + 8, &[16, 1, 4, 16]);
    b.put32(at + 0x28, 10_000);
    b.put16(at + 0x30, 256);
    b.put16(at + 0x32, 0x700);
    b.put16(at + 0x36, 64);
    b.put16(at + 0x38, 8);
    b.put16(at + 0x3a, 64);
    b.put(at + 0x3c, &[32, 32, 1, 32]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amd::asic::{MI200, VEGA10};

    fn get16(b: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes([b[at], b[at + 1]]))
    }

    #[test]
    fn image_is_what_firmware_and_driver_expect() {
        for asic in [VEGA10, MI200] {
            let b = build(&asic, 1 << 30);
            assert_eq!(b.len(), usize::from(b[2]) * 512);
            assert_eq!(b.iter().fold(0u8, |s, x| s.wrapping_add(*x)), 0, "checksum");
            assert_eq!(b[3], 0xcb, "the entry returns");
            let pcir = get16(&b, 0x18);
            assert_eq!(&b[pcir..pcir + 4], b"PCIR");
            assert_eq!(get16(&b, pcir + 6), usize::from(asic.device));
            let header = get16(&b, 0x48);
            assert_eq!(&b[header + 4..header + 8], b"ATOM");
            let command = get16(&b, get16(&b, header + 0x1e) + 4);
            assert_eq!((b[command + 2], b[command + 3], b[command + 6]), (2, 1, END), "asic_init");
            let tables = get16(&b, header + 0x20);
            for index in [4, 8, 14, 23, 24, 28] {
                let table = get16(&b, tables + 4 + 2 * index);
                assert!(table > tables && table + get16(&b, table) <= b.len(), "table {index}");
            }
            assert!(b[0x2f] > 0 && b[get16(&b, 0x6e)..].starts_with(b"113-"));
        }
    }
}
