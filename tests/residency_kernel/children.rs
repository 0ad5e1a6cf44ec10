//! What needs a process of its own: credentials, and `fork`.

use std::process::Command;

use drm_pagemap::ErrorKind;
use drm_pagemap::residency::{self, Residency, Scanner};

use rustix::mm::MprotectFlags;

use crate::case::Case;
use crate::memory::Memory;
use crate::places::{letters, look};

const VARIABLE: &str = "RESIDENCY_TEST_CHILD";
const ORDINARY_USER: u32 = 65534;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a process that is not dumpable gets an error and no guess", || run_child("dumpable")),
        Case::new("holes", || run_child("holes")),
        Case::new("a scanner works in a forked child", || run_child("fork")),
    ]
}

fn run_child(name: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).env(VARIABLE, name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"done\n", "the child ran its test");
}

/// Runs the child's part when this is one: a process with a single thread.
pub(crate) fn is_child() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Ok("dumpable") => dumpable(),
        Ok("fork") => fork(),
        Ok("holes") => holes(),
        _ => return false,
    }
    println!("done");
    true
}

fn dumpable() {
    if rustix::process::getuid().is_root() {
        // Root reads every file; the privilege has to go, and with it the process stops being dumpable.
        nix::unistd::setresuid(ORDINARY_USER.into(), ORDINARY_USER.into(), ORDINARY_USER.into()).unwrap();
    } else {
        nix::sys::prctl::set_dumpable(false).unwrap();
    }
    let error = Scanner::new().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("/proc/self/pagemap") && text.contains("dumpable"), "{text}");
    assert_eq!(residency::of(&[1u8; 64]).unwrap_err().kind(), ErrorKind::Unsupported);

    nix::sys::prctl::set_dumpable(true).unwrap();
    assert_eq!(letters(&residency::of(&[1u8]).unwrap()), "s", "the cure named by the error works");
}

/// In a process with one thread, where nobody maps anything into the hole.
fn holes() {
    let memory = Memory::private(5);
    memory.write(0..5);
    memory.protect(3..4, MprotectFlags::READ);
    let range = memory.range();
    let parts = memory.split(1..2);
    assert_eq!(look(range), "s.sss");
    assert_eq!((look(parts.0.range()), look(parts.1.range())), ("s".into(), "sss".into()));
}

fn fork() {
    let memory = Memory::private(3);
    memory.write(0..2);
    let mut scanner = Scanner::new().unwrap();
    let mut residency = Residency::new();
    scanner.scan(memory.range(), &mut residency).unwrap();
    assert_eq!(letters(&residency), "ss.");
    // SAFETY: this process has one thread, so the child may do what it likes.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            memory.advise(0..1, libc::MADV_DONTNEED).unwrap();
            memory.write(2..3);
            scanner.scan(memory.range(), &mut residency).unwrap();
            let code = i32::from(letters(&residency) != ".ss");
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(code) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0), "the child saw its own memory");
            scanner.scan(memory.range(), &mut residency).unwrap();
            assert_eq!(letters(&residency), "ss.");
        }
    }
}
