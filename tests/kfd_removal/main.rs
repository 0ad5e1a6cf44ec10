//! What a process meets when amdgpu is taken off a GPU that it uses, with data in VRAM. For the lab:
//!
//! ```text
//! cargo xtask lab run --gpu amd -- kfd_removal --unbind
//! ```
//!
//! Since the driver ends every process that uses the GPU, this is a program of its own: it starts those processes, and uses no
//! GPU itself. Without `--unbind` it does nothing, so that no GPU of a real machine is lost by accident.
//!
//! Linux 7.3.4 sends `SIGBUS` to the lead thread of each such process and waits without limit for its end. The handler that Rust's
//! standard library has for stack overflows takes the first one and returns, so that a Rust program goes on, and the driver goes
//! on waiting; this program sends another after a while. Then `kfd_process_wq_release` uses the driver's own DRM file
//! (`drm_gem_handle_delete`), which the removal has freed, and the guest locks up: there is nothing to pass on that kernel.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use drm_pagemap::{Buffer, Driver, ErrorKind, Gpu};
use nix::sys::signal::Signal;

const DRIVER: &str = "/sys/bus/pci/drivers/amdgpu";
/// Makes this program the user of the GPU.
const USER: &str = "--user";
const READY: &str = "ready";
/// A hang guard.
const LIMIT: Duration = Duration::from_secs(50);
/// How long a process is left with the first `SIGBUS`.
const PATIENCE: Duration = Duration::from_secs(5);
const WORDS: usize = (4 << 20) / 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == USER) {
        use_the_gpu();
    } else if arguments.iter().any(|argument| argument == "--unbind") {
        take_the_driver_away();
    } else {
        println!("ignored: takes the driver off a GPU; for the lab, with --unbind");
    }
    ExitCode::SUCCESS
}

fn word(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Puts data into VRAM, waits for a line on standard input, and sees what has become of data and GPU.
fn use_the_gpu() {
    let found = Gpu::discover().expect("GPUs");
    let gpu = found.gpus().iter().find(|gpu| gpu.driver() == Driver::Kfd).expect("a GPU of amdgpu");
    let mirror = gpu.mirror().expect("a mirror");
    let mut data = Buffer::<u64>::zeroed(WORDS).expect("memory");
    data.iter_mut().enumerate().for_each(|(index, it)| *it = word(index));
    let outcome = mirror.prefetch(&data).to(gpu.vram()).run().expect("a prefetch");
    assert!(outcome.is_complete(), "{outcome}");
    println!("{READY}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("standard input");
    let wrong = data.iter().enumerate().find(|&(index, it)| *it != word(index));
    assert_eq!(wrong, None, "first wrong word");
    if line.trim() == "lost" {
        let error = mirror.prefetch(&data).to(gpu.vram()).run().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

/// A process that uses the GPU.
struct User {
    child: Child,
    input: ChildStdin,
    _output: BufReader<ChildStdout>,
}

impl User {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .arg(USER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let input = child.stdin.take().expect("a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line of the process");
        assert_eq!(line.trim(), READY);
        Self { child, input, _output: output }
    }

    /// Asks it to look at its data and the GPU, and to end.
    fn ask(&mut self, line: &str) {
        // It may have ended already.
        let _ = writeln!(self.input, "{line}");
    }
}

fn take_the_driver_away() {
    let address = bound();
    println!("{address}: data in VRAM, then unbound");
    let mut user = User::start();
    let unbinding = std::thread::spawn({
        let address = address.clone();
        move || tell("unbind", &address)
    });
    let started = Instant::now();
    let (mut asked, mut signalled) = (false, false);
    let status = loop {
        if let Some(status) = user.child.try_wait().expect("the process can be waited for") {
            break status;
        }
        if unbinding.is_finished() && !asked {
            // The driver let go of the GPU and of the process.
            user.ask("lost");
            asked = true;
        }
        if !unbinding.is_finished() && !signalled && started.elapsed() > PATIENCE {
            println!("the process lives and the driver waits: SIGBUS again");
            let process = nix::unistd::Pid::from_raw(user.child.id() as i32);
            nix::sys::signal::kill(process, Signal::SIGBUS).expect("the process can be signalled");
            signalled = true;
        }
        assert!(started.elapsed() < LIMIT, "neither has the process ended nor the driver let go");
        std::thread::sleep(Duration::from_millis(10));
    };
    match status.signal() {
        Some(signal) if signal == Signal::SIGBUS as i32 => println!("the driver ended the process by SIGBUS"),
        _ => {
            assert!(status.success(), "the process ended with {status}");
            println!("the process has its data, and was told that the device is lost");
        }
    }
    while !unbinding.is_finished() {
        assert!(started.elapsed() < LIMIT, "the driver does not let go after the process has ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    unbinding.join().expect("the driver is unbound");
    assert!(!Path::new(DRIVER).join(&address).exists(), "it is off");

    println!("{address}: bound again");
    tell("bind", &address);
    let started = Instant::now();
    while !has_render_node(&address) {
        assert!(started.elapsed() < LIMIT, "no render node again");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut user = User::start();
    user.ask("done");
    let status = user.child.wait().expect("the process can be waited for");
    assert!(status.success(), "the next process ended with {status}");
    println!("the next process used the GPU");
}

/// The device that the driver is bound to.
fn bound() -> String {
    let entries = fs::read_dir(DRIVER).unwrap_or_else(|error| panic!("{DRIVER}: {error}"));
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut addresses: Vec<String> = names.filter(|name| name.contains(':')).collect();
    addresses.sort();
    addresses.into_iter().next().expect("amdgpu has a GPU")
}

fn tell(what: &str, address: &str) {
    let file: PathBuf = Path::new(DRIVER).join(what);
    fs::write(&file, address).unwrap_or_else(|error| panic!("{address} to {}: {error}", file.display()));
}

fn has_render_node(address: &str) -> bool {
    let folder = Path::new("/sys/bus/pci/devices").join(address).join("drm");
    let mut nodes = fs::read_dir(folder).into_iter().flatten().flatten().map(|node| node.file_name());
    nodes.any(|node| {
        node.as_encoded_bytes().starts_with(b"render") && Path::new("/dev/dri").join(&node).exists()
    })
}
