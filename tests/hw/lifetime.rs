//! Mirrors, processes and mappings that come and go while pages are in VRAM.

use drm_pagemap::{Buffer, ErrorKind};

use crate::harness::{Context, Need, Test, TestResult};
use crate::placement::{assert_intact, device_bytes, filled, word_at};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "lifetime/dropped_mirror_leaves_data",
        needs: &[Need::Vram],
        run: dropped_mirror_leaves_data,
    },
    Test { name: "lifetime/forked_child_is_refused", needs: &[], run: forked_child_is_refused },
    Test {
        name: "lifetime/forked_child_sees_the_data",
        needs: &[Need::Vram],
        run: forked_child_sees_the_data,
    },
    Test { name: "lifetime/freed_and_mapped_again", needs: &[Need::Vram], run: freed_and_mapped_again },
    Test { name: "lifetime/two_mirrors_of_one_gpu", needs: &[Need::Vram], run: two_mirrors_of_one_gpu },
];

fn dropped_mirror_leaves_data(context: &Context) -> TestResult {
    let data = filled(4 << 20)?;
    let mirror = context.gpu().mirror()?;
    assert!(mirror.prefetch(&data).to(context.gpu().vram()).run()?.is_complete());
    drop(mirror);
    assert_intact(&data);
    Ok(())
}

/// Runs `child` in a forked process and gives its exit status.
pub(crate) fn in_child(child: impl FnOnce() -> bool) -> nix::sys::wait::WaitStatus {
    // SAFETY: the child makes the calls under test, which take no lock that another thread of the suite may hold: tests run
    // one at a time.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        nix::unistd::ForkResult::Child => {
            let status = i32::from(!child());
            // SAFETY: ends the child at once, without running destructors of the test process.
            unsafe { nix::libc::_exit(status) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).expect("the child ends")
        }
    }
}

pub(crate) fn assert_child_succeeded(status: nix::sys::wait::WaitStatus) {
    assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
}

fn forked_child_is_refused(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(2 << 20)?;
    assert_child_succeeded(in_child(|| {
        let refused = mirror.prefetch(&data).to_system().run();
        refused.is_err_and(|error| error.kind() == ErrorKind::ForeignProcess)
    }));
    let _ = mirror.prefetch(&data).to_system().run()?;
    assert_intact(&data);
    Ok(())
}

fn forked_child_sees_the_data(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    let data = filled(4 << 20)?;
    assert!(mirror.prefetch(&data).to(context.gpu().vram()).run()?.is_complete());
    assert_child_succeeded(in_child(|| data.iter().enumerate().all(|(index, word)| *word == word_at(index))));
    assert_intact(&data);
    Ok(())
}

fn freed_and_mapped_again(context: &Context) -> TestResult {
    let mirror = context.gpu().mirror()?;
    for _ in 0..4 {
        let data = filled(6 << 20)?;
        assert!(mirror.prefetch(&data).to(context.gpu().vram()).run()?.is_complete());
        drop(data);
        let fresh = Buffer::<u64>::zeroed((6 << 20) / 8)?;
        assert_eq!(device_bytes(fresh.range())?, 0, "fresh memory is in no VRAM");
        assert!(fresh.iter().all(|&word| word == 0), "fresh memory is zero");
    }
    Ok(())
}

fn two_mirrors_of_one_gpu(context: &Context) -> TestResult {
    let (first, second) = (context.gpu().mirror()?, context.gpu().mirror()?);
    let data = filled(4 << 20)?;
    assert!(first.prefetch(&data).to(context.gpu().vram()).run()?.is_complete());
    let outcome = second.prefetch(&data).to(context.gpu().vram()).run()?;
    assert!(outcome.is_complete(), "{outcome}");
    drop(first);
    let back = second.prefetch(&data).to_system().run()?;
    assert!(back.is_complete(), "{back}");
    assert_intact(&data);
    Ok(())
}
