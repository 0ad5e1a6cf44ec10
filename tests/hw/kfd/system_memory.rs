//! Memory that the GPU reaches where it is, or that cannot move at all.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;

use drm_pagemap::Buffer;
use drm_pagemap::ErrorKind;
use drm_pagemap::kfd::{Granularity, SvmAttribute, Xnack};
use drm_pagemap::range::page_size;
use nix::sys::mman::MapFlags;

use super::bench::{Kfd, part};
use crate::harness::{Context, Need, Test, TestResult};
use crate::mapping::Mapping;
use crate::placement::{assert_intact, device_bytes, fill, filled, word_at};

pub(super) const TESTS: &[Test] = &[
    Test { name: "kfd/KFDSVMRangeTest.BasicSystemMemTest", needs: &[Need::Kfd], run: basic_system_mem },
    Test { name: "kfd/KFDSVMRangeTest.SplitSystemRangeTest", needs: &[Need::Kfd], run: split_system_range },
    Test { name: "kfd/KFDSVMRangeTest.EvictSystemRangeTest", needs: &[Need::Kfd], run: evict_system_range },
    Test { name: "kfd/KFDSVMRangeTest.PartialUnmapSysMemTest", needs: &[Need::Kfd], run: partial_unmap },
    Test { name: "kfd/KFDSVMRangeTest.MigrateFileBackedRangeTest", needs: &[Need::Kfd], run: file_backed },
    Test {
        name: "kfd/KFDSVMRangeTest.PrefaultPartialRangeTest",
        needs: &[Need::Kfd, Need::Vram],
        run: prefault_partial_range,
    },
];

const LEN: usize = 1 << 20;

fn basic_system_mem(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (source, target) = (filled(LEN)?, Buffer::<u64>::zeroed(LEN / 8)?);
    kfd.grant(source.range())?;
    kfd.grant(target.range())?;
    kfd.engine()?.copy(source.range().start(), target.range().start(), LEN as u64)?;
    if kfd.xnack == Xnack::Off {
        assert_eq!(device_bytes(source.range())? + device_bytes(target.range())?, 0, "nobody moved them");
    }
    assert_intact(&target);
    assert_intact(&source);
    Ok(())
}

fn split_system_range(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (source, target) = (filled(LEN)?, Buffer::<u64>::zeroed(LEN / 8)?);
    let (from, to) = (source.range(), target.range());
    kfd.grant(from)?;
    kfd.grant(to)?;
    // The middle of one and the end of the other get attributes of their own.
    let own = SvmAttribute::Granularity(Granularity::PAGE);
    kfd.set(part(from, 16 * page_size(), 16 * page_size()), &[own])?;
    kfd.set(
        part(to, to.len() - 8 * page_size(), 8 * page_size()),
        &[own, SvmAttribute::AccessInPlace(kfd.id())],
    )?;
    kfd.engine()?.copy(from.start(), to.start(), from.len())?;
    assert_intact(&target);
    assert_eq!(kfd.attributes(part(from, 0, 16 * page_size()))?.granularity, Granularity::from_pages_log2(9));
    assert_eq!(kfd.attributes(from)?.granularity, Granularity::PAGE);
    Ok(())
}

/// A child that only lives, so that pages are shared with it until they are written to.
struct Living {
    child: nix::unistd::Pid,
    end: Option<OwnedFd>,
}

impl Living {
    fn fork() -> Self {
        let (wait, end) = nix::unistd::pipe().expect("a pipe");
        // SAFETY: the child makes two system calls, which take no lock.
        match unsafe { nix::unistd::fork() }.expect("fork") {
            nix::unistd::ForkResult::Child => {
                drop(end);
                let mut byte = [0];
                // Ends when the parent closes its side.
                let _ = nix::unistd::read(&wait, &mut byte);
                // SAFETY: ends the child at once, without running destructors of the test process.
                unsafe { nix::libc::_exit(0) }
            }
            nix::unistd::ForkResult::Parent { child } => Self { child, end: Some(end) },
        }
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.end = None;
        nix::sys::wait::waitpid(self.child, None).expect("the child ends");
    }
}

fn evict_system_range(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let (mut source, target) = (filled(LEN)?, Buffer::<u64>::zeroed(LEN / 8)?);
    kfd.grant(source.range())?;
    kfd.grant(target.range())?;
    let mut engine = kfd.engine()?;
    engine.copy(source.range().start(), target.range().start(), LEN as u64)?;
    assert_intact(&target);
    let child = Living::fork();
    // Each write gets a page of its own: what the engine had mapped is the child's now.
    for word in source.iter_mut() {
        *word = !*word;
    }
    engine.copy(source.range().start(), target.range().start(), LEN as u64)?;
    drop(child);
    let wrong = target.iter().enumerate().find(|&(index, word)| *word != !word_at(index));
    assert_eq!(wrong, None, "the engine reads the page that the process writes");
    Ok(())
}

fn partial_unmap(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let page = page_size();
    let mut memory = Mapping::anonymous(16 * page as usize, MapFlags::MAP_PRIVATE).expect("memory");
    fill(memory.words());
    let whole = memory.range();
    kfd.grant(whole)?;
    memory.punch(4 * page as usize..12 * page as usize);
    let error = kfd.process().get_attributes(whole, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMapped);
    let target = Buffer::<u64>::zeroed(8 * page as usize / 8)?;
    kfd.grant(target.range())?;
    let mut engine = kfd.engine()?;
    let to = target.range().start();
    engine.copy(whole.start(), to, 4 * page)?;
    engine.copy(whole.start() + 12 * page, to + 4 * page, 4 * page)?;
    let words = 4 * page as usize / 8;
    for (index, &word) in target.iter().enumerate() {
        let source = if index < words { index } else { index + 2 * words };
        assert_eq!(word, word_at(source), "word {index}");
    }
    Ok(())
}

fn file_backed(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.set_len(LEN as u64).expect("room for the file");
    let memory = Mapping::of_file(&file, LEN, MapFlags::MAP_SHARED).expect("a mapped file");
    let range = memory.range();
    kfd.grant(range)?;
    // Accepted, and without effect: pages of files stay in the page cache.
    kfd.prefetch(range, kfd.here())?;
    assert_eq!(device_bytes(range)?, 0);
    kfd.engine()?.fill(range, 0x5a5a_1234)?;
    drop(memory);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("files can be rewound");
    file.read_to_end(&mut bytes).expect("files can be read");
    assert_eq!(bytes.len(), LEN);
    assert!(
        bytes.chunks(4).all(|word| word == 0x5a5a_1234u32.to_le_bytes()),
        "the file has what the GPU wrote"
    );
    Ok(())
}

fn prefault_partial_range(context: &Context) -> TestResult {
    let kfd = Kfd::of(context.gpu())?;
    let page = page_size();
    let mut memory = Mapping::anonymous(4 * page as usize, MapFlags::MAP_PRIVATE).expect("memory");
    let words = page as usize / 8;
    memory.words()[words] = 1;
    memory.words()[2 * words] = 2;
    let range = memory.range();
    kfd.place(range)?;
    let mut engine = kfd.engine()?;
    engine.write(range.start(), &[10])?;
    engine.write(range.start() + 3 * page, &[13])?;
    let firsts = [0, 1, 2, 3].map(|number| memory.words()[number * words]);
    assert_eq!(firsts, [10, 1, 2, 13]);
    Ok(())
}
