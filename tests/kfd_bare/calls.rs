//! The same calls on the real `/dev/kfd` and on a simulated one without a GPU, answer by answer.

use drm_pagemap::channel::{Channel, Retry};
use drm_pagemap::kfd::open_device;
use drm_pagemap::sim::kfd::{Kernel, Kfd, KfdConfig};
use drm_pagemap::uapi::kfd as abi;
use drm_pagemap::{Buffer, Errno};
use libtest_mimic::Failed;

/// A GPU's number that no machine without a GPU knows.
const GPU: u32 = 0x4a3f;

/// A call: a name, a request number, and its bytes.
struct Call {
    name: String,
    request: u32,
    bytes: Vec<u8>,
}

const fn request(nr: u32, size: usize) -> u32 {
    3 << 30 | (size as u32) << 16 | 0x4b << 8 | nr
}

fn plain(name: &str, nr: u32, words: &[u32]) -> Call {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Call { name: name.to_owned(), request: request(nr, bytes.len()), bytes }
}

fn svm(name: &str, op: u32, (start, size): (u64, u64), attrs: &[(u32, u32)]) -> Call {
    let mut bytes = [start.to_le_bytes(), size.to_le_bytes()].concat();
    bytes.extend([op, attrs.len() as u32].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(attrs.iter().flat_map(|&(kind, value)| [kind.to_le_bytes(), value.to_le_bytes()].concat()));
    Call { name: format!("{name} {attrs:x?}"), request: request(0x20, bytes.len()), bytes }
}

/// Every call whose answer the facts about KFD tell without a GPU. None that would set attributes gets past the kernel's first
/// checks: behind them kernels before 7 dereference NULL.
fn calls(page: (u64, u64)) -> Vec<Call> {
    const SET: u32 = abi::KFD_IOCTL_SVM_OP_SET_ATTR;
    const GET: u32 = abi::KFD_IOCTL_SVM_OP_GET_ATTR;
    let (start, size) = page;
    let mut calls = vec![
        plain("GET_VERSION", 1, &[7, 7]),
        plain("GET_VERSION, short", 1, &[7]),
        plain("GET_VERSION, long", 1, &[7, 7, 7, 7]),
        plain("number 0", 0, &[0, 0]),
        plain("number 0xff", 0xff, &[0, 0]),
        plain("XNACK?", 0x21, &[u32::MAX]),
        plain("XNACK off", 0x21, &[0]),
        plain("XNACK?", 0x21, &[u32::MAX]),
        plain("XNACK off again", 0x21, &[0]),
        plain("XNACK on", 0x21, &[1]),
        plain("XNACK, long", 0x21, &[u32::MAX, 9]),
        plain("apertures", 0x14, &[0, 0, 0, 0]),
        plain("apertures for 100", 0x14, &[0, 0, 100, 0]),
        plain("ACQUIRE_VM", 0x15, &[u32::MAX, GPU]),
        plain("ACQUIRE_VM of no GPU", 0x15, &[0, 0]),
        plain("AVAILABLE_MEMORY", 0x23, &[0, 0, GPU, 0]),
        plain("SMI_EVENTS", 0x1f, &[GPU, 0]),
        plain("ALLOC_MEMORY of nothing", 0x16, &[0; 10]),
        plain("ALLOC_MEMORY", 0x16, &[0, 0x10, 4096, 0, 0, 0, 0, 0, GPU, 2]),
        plain("FREE_MEMORY", 0x17, &[1, GPU]),
        plain("MAP_MEMORY on nothing", 0x18, &[1, GPU, 0, 0, 0, 0]),
        plain("CREATE_QUEUE", 2, &[0; 24]),
        plain("DESTROY_QUEUE", 3, &[5, 0]),
    ];
    let everything = [(0, 1), (1, 1), (5, 0), (6, 0), (7, 0)];
    calls.push(svm("GET", GET, page, &everything));
    calls.push(svm("GET", GET, page, &[]));
    for attr in [(2, GPU), (2, 0), (3, GPU), (4, GPU), (8, 0), (99, 0)] {
        calls.push(svm("GET", GET, page, &[attr]));
        calls.push(svm("GET", GET, page, &[(0, 0), attr, (7, 0)]));
    }
    for (what, place) in [
        ("misaligned", (start + 1, size)),
        ("of half a page", (start, size / 2)),
        ("of nothing", (start, 0)),
        ("at 0", (0, size)),
        ("beyond all", (start, 0u64.wrapping_sub(4096))),
    ] {
        calls.push(svm(&format!("GET {what}"), GET, place, &everything));
        // A wrong type would be refused as well, should a kernel not see what is wrong with the place.
        calls.push(svm(&format!("SET {what}"), SET, place, &[(99, 0)]));
    }
    calls.push(svm("GET of a hole", GET, (0x10000, 4096), &everything));
    calls.push(svm("an operation of tomorrow", 2, page, &[(99, 0)]));
    for attr in [(0, GPU), (1, GPU), (1, u32::MAX), (2, GPU), (2, 0), (3, 0), (4, GPU), (8, 0), (u32::MAX, 1)]
    {
        calls.push(svm("SET", SET, page, &[attr]));
        calls.push(svm("SET", SET, page, &[(5, 1), attr]));
    }
    calls
}

fn answer(channel: &Channel, call: &Call) -> String {
    let mut bytes = call.bytes.clone();
    // SAFETY: the buffer is as long as the request says. No call gets as far as using an address, but to look whether it is mapped.
    let answer = unsafe { channel.call_sized("raw", call.request, &mut bytes, Retry::Interrupted) };
    let errno = answer.err().map_or(Errno::from_raw(0), |error| error.errno().unwrap_or(Errno::from_raw(-1)));
    format!("errno {} bytes {bytes:02x?}", errno.raw())
}

/// The simulated KFD of this kernel without a GPU.
fn simulated(version: u32, svm: bool) -> Result<Channel, Failed> {
    let like = match super::release() {
        (6, ..=15) => Kernel::V6_12,
        (6, 16) => Kernel::V6_16,
        (6, 17) => Kernel::V6_17,
        (6, _) => Kernel::V6_18,
        _ => Kernel::V7_3,
    };
    let config =
        KfdConfig { kernel: Kernel { minor: version, svm, ..like }, ..KfdConfig::with_gpus(Vec::new()) };
    let kfd = Kfd::new(config)?;
    match kfd.open() {
        Ok(channel) => Ok(channel),
        Err(error) => Err(format!("the simulated one does not open: {error}").into()),
    }
}

pub(crate) fn agree() -> Result<(), Failed> {
    let real = match open_device() {
        Ok(real) => real,
        Err(error) => {
            assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
            let refused = simulated(23, true).expect_err("the simulated one refuses as well");
            assert!(refused.message().is_some_and(|text| text.contains("EINVAL")), "{refused:?}");
            return Ok(());
        }
    };
    let mut version = abi::GetVersion::default();
    // SAFETY: the argument holds no address.
    unsafe { real.call(&mut version, Retry::Interrupted) }?;
    let memory = Buffer::<u8>::zeroed(4096)?;
    let page = (memory.range().start(), memory.range().len());
    let all = calls(page);
    let probe = answer(&real, &svm("GET", abi::KFD_IOCTL_SVM_OP_GET_ATTR, page, &[]));
    let has_svm = !probe.starts_with("errno 1 ");
    let simulated = simulated(version.minor_version, has_svm)?;
    let mut differing = Vec::new();
    for call in &all {
        let (real, simulated) = (answer(&real, call), answer(&simulated, call));
        if real != simulated {
            differing.push(format!("{}:\n  real {real}\n  sim  {simulated}", call.name));
        }
    }
    println!("{} calls, with SVM: {has_svm}", all.len());
    if differing.is_empty() { Ok(()) } else { Err(differing.join("\n").into()) }
}
