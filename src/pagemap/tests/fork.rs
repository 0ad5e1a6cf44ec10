//! Children see what the device has.

use super::*;

/// A forked child. Between fork and exit it may only touch memory and make system calls: other threads of this process may
/// have held any lock.
pub(super) struct Child {
    pid: libc::pid_t,
    go: std::os::fd::OwnedFd,
}

impl Child {
    /// Forks; the child waits for [`finish`](Self::finish), then runs `work` and exits with its result.
    pub(super) fn start(work: impl FnOnce() -> i32) -> Self {
        // SAFETY: the child does as the type says.
        Self::start_with(work, || unsafe { libc::fork() })
    }

    fn start_with(work: impl FnOnce() -> i32, fork: impl FnOnce() -> libc::pid_t) -> Self {
        use std::os::fd::AsRawFd;
        let (wait, go) = rustix::pipe::pipe().unwrap();
        let (wait_fd, go_fd) = (wait.as_raw_fd(), go.as_raw_fd());
        let pid = fork();
        if pid == 0 {
            let mut byte = 0u8;
            // SAFETY: the child's copy of a descriptor that nothing in the child uses.
            unsafe { libc::close(go_fd) };
            // SAFETY: reads at most one byte into a local variable.
            unsafe { libc::read(wait_fd, std::ptr::from_mut(&mut byte).cast(), 1) };
            let code = work();
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) };
        }
        assert!(pid > 0);
        Self { pid, go }
    }

    /// Lets the child go on, and tells its exit code; `None` if a signal ended it.
    pub(super) fn finish(self) -> Option<i32> {
        drop(self.go);
        let mut status = 0;
        // SAFETY: waits for the test's own child.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, 0) }, self.pid);
        libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
    }
}

/// Whether all pages are as they were filled, as an exit code.
fn looks_filled(memory: &Memory) -> i32 {
    let right = (0..memory.pages()).all(|page| memory.get(page * page_size()) == Memory::pattern(page));
    i32::from(!right)
}

#[test]
fn a_child_sees_the_data_and_the_parent_keeps_it() {
    if !alone!(a_child_sees_the_data_and_the_parent_keeps_it) {
        return;
    }
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let child = Child::start(|| looks_filled(&memory));
    // The parent changes its own copy, and migrates it, while the child still looks at the old one.
    assert_eq!(device_bytes(&space, memory.range()), 0, "everything is in system memory during a fork");
    memory.set(0, 99);
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2);
    assert_eq!(child.finish(), Some(0));
    assert_eq!(memory.get(0), 99);
    memory.check_pages(1..memory.pages());
}

#[test]
fn handles_are_foreign_in_a_child() {
    if !alone!(handles_are_foreign_in_a_child) {
        return;
    }
    let Some((space, vram)) = simulated(8 * MB2) else { return };
    let memory = Memory::filled(MB2);
    let range = memory.range();
    let child = Child::start(|| {
        // Errors allocate, and the allocator's locks may be taken: only the check itself is asked.
        i32::from(space.inner().is_owner() || vram.space().inner().is_owner())
    });
    assert_eq!(child.finish(), Some(0));
    space.migrate_to_devmem(&vram, range, &MigrateOptions::new()).unwrap();
    assert_eq!(device_bytes(&space, range), MB2);
    memory.check();
}

#[test]
fn a_fork_that_bypasses_the_library_is_covered_where_forks_are_reported() {
    if !alone!(a_fork_that_bypasses_the_library_is_covered_where_forks_are_reported) {
        return;
    }
    let Some(space) = space_with(KernelTouch::IfPermitted) else { return };
    if !space.capabilities().fork_events {
        return eprintln!(
            "SKIPPED a_fork_that_bypasses_the_library: forks are not reported without CAP_SYS_PTRACE"
        );
    }
    let vram = VramRegion::new(&space, 8 * MB2).unwrap();
    let memory = Memory::filled(2 * MB2);
    memory.advise(memory.part(7, 1), rustix::mm::Advice::LinuxDontNeed).unwrap();
    space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new()).unwrap();
    let raw_fork = || {
        // SAFETY: as fork(2), without the library's handlers; the child does as `Child` says.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        pid as libc::pid_t
    };
    let child = Child::start_with(
        || {
            let holes_are_zero = memory.get(7 * page_size()) == 0;
            let rest = (0..memory.pages()).filter(|&page| page != 7);
            let right = rest.into_iter().all(|page| memory.get(page * page_size()) == Memory::pattern(page));
            i32::from(!(holes_are_zero && right))
        },
        raw_fork,
    );
    assert_eq!(device_bytes(&space, memory.range()), 2 * MB2, "nothing had to come back");
    memory.set(page_size(), 200);
    assert_eq!(child.finish(), Some(0));
    assert_eq!(memory.get(page_size()), 200);
}

#[test]
fn forks_while_pages_move_lose_nothing() {
    if !alone!(forks_while_pages_move_lose_nothing) {
        return;
    }
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some((space, vram)) = simulated(4 * MB2) else { return };
    let memory = Memory::filled(2 * MB2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Pages that a fork shared a moment ago do not move, not even after a retry if there was another fork.
                let _ = space.migrate_to_devmem(&vram, memory.range(), &MigrateOptions::new());
                memory.check();
            }
        });
        let moved = || vram.usage().unwrap().counters.windows_in > 0;
        // On a busy machine it may take more forks until pages move between two of them.
        for forks in 1..=5000 {
            assert_eq!(Child::start(|| looks_filled(&memory)).finish(), Some(0));
            if forks >= 20 && moved() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(moved());
    });
}
