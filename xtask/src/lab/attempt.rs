//! A boot under way: the virtual GPUs, QEMU, the guest's messages and the kernel's log, up to the verdict.

use super::cache::Cache;
use super::device::{self, Device};
use super::klog::{self, Watch};
use super::qemu::{Accel, Console, Machine};
use super::spec::{End, Report, Spec, Tools};
use crate::child::{self, Guarded};
use anyhow::{Context, Result};
use guest_init::{Decoder, Message};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// From one message of the guest to the next, where no program is running.
const STEP_WAIT: Duration = Duration::from_secs(60);
/// What a program may take beyond its own time limit: the guest kills it, collects stacks, reports.
const PROGRAM_GRACE: Duration = Duration::from_secs(60);
/// From the last message to the end of the machine: drivers shut their GPUs down.
const POWER_OFF_WAIT: Duration = Duration::from_secs(60);

/// What the threads around a boot report.
enum Event {
    Channel(Vec<u8>),
    Console(String),
    Errors(String),
}

/// A boot under way. Dropping it ends QEMU and the virtual GPUs.
pub(crate) struct Attempt<'a> {
    spec: &'a Spec,
    // Fields are dropped in order: the machine ends before its GPUs do.
    qemu: Guarded,
    devices: Vec<Device>,
    listener: Option<UnixListener>,
    sender: Option<mpsc::Sender<Event>>,
    events: mpsc::Receiver<Event>,
    decoder: Decoder,
    watch: Watch,
    errors: File,
    console: File,
    started: Instant,
    deadline: Option<Instant>,
    waiting_for: String,
    done: bool,
    stop: bool,
    report: Report,
}

impl<'a> Attempt<'a> {
    pub(crate) fn start(tools: &Tools, spec: &'a Spec, folder: &Path, image: &Path) -> Result<Self> {
        let logs = log_folder(&tools.cache)?;
        let mut devices = Vec::new();
        for gpus in spec.gpus.iter().filter(|gpus| gpus.count > 0) {
            let log = logs.join(format!("vgpu-{}.log", gpus.vendor));
            devices.push(Device::start(tools.vgpu()?, gpus, &spec.device, folder, &log)?);
        }
        let channel = folder.join("channel");
        let _ = fs::remove_file(&channel);
        let listener = UnixListener::bind(&channel)
            .with_context(|| format!("cannot listen on {}", channel.display()))?;
        listener.set_nonblocking(true)?;
        let interactive = spec.shell.is_some();
        let several = spec.gpus.iter().any(|gpus| gpus.count > 1);
        let preset = match spec.accel {
            // The kernel maps one GPU's memory for another only below chipsets it knows, or on this processor.
            _ if several => "EPYC",
            Accel::Kvm => "host",
            Accel::Tcg => "max",
        };
        // The log must be whole for the judgement; on a shell's console only errors are welcome.
        let verbosity = if interactive { "quiet" } else { "ignore_loglevel" };
        let timer = match spec.accel {
            Accel::Kvm => "",
            // The kernel tests its timer against the time that instructions take, which on a busy host says nothing.
            Accel::Tcg => "no_timer_check",
        };
        let append = format!("console=ttyS0 {verbosity} panic=-1 {timer} {}", spec.append.join(" "));
        let needed = spec.gpus.iter().map(|gpus| gpus.vendor.memory_mib()).max().unwrap_or(512);
        let machine = Machine {
            accel: spec.accel,
            cpu: spec.cpu.as_deref().unwrap_or(preset),
            cpus: spec.cpus,
            memory_mib: spec.memory_mib.unwrap_or(needed),
            kernel: &spec.kernel.image,
            initramfs: image,
            cmdline: append.trim_end(),
            channel: &channel,
            gpus: devices.iter().flat_map(|device| &device.sockets).map(PathBuf::as_path).collect(),
            console: if interactive { Console::Interactive } else { Console::Captured },
        };
        let mut command = machine.command(&tools.qemu);
        let (sender, events) = mpsc::channel();
        let mut qemu = if interactive {
            Guarded::spawn_in_foreground("QEMU", &mut command)?
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            Guarded::spawn("QEMU", &mut command)?
        };
        let console = sender.clone();
        qemu.stdout_lines(move |line| drop(console.send(Event::Console(klog::clean(line)))));
        let errors = sender.clone();
        qemu.stderr_lines(move |line| drop(errors.send(Event::Errors(klog::clean(line)))));
        let create = |name: &str| {
            let path = logs.join(name);
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let started = Instant::now();
        Ok(Self {
            spec,
            qemu,
            devices,
            listener: Some(listener),
            sender: Some(sender),
            events,
            decoder: Decoder::default(),
            watch: Watch::new(spec.expected.clone()),
            errors: create("qemu.log")?,
            console: create("kernel.log")?,
            started,
            deadline: Some(started + spec.boot_wait),
            waiting_for: "the kernel to reach its first process".into(),
            done: false,
            stop: false,
            report: Report {
                programs: vec![End::Unknown; spec.programs.len()],
                trouble: Vec::new(),
                complaints: Vec::new(),
                unknown: Vec::new(),
                logs,
                ready_ms: None,
                prepared_ms: None,
                to_first_program: None,
                attempts: 1,
            },
        })
    }

    pub(crate) fn follow(mut self, sink: &mut dyn FnMut(&Message)) -> Result<Report> {
        while self.step(sink)? {}
        self.finish()
    }

    /// Handles what has come; false when the boot is over.
    fn step(&mut self, sink: &mut dyn FnMut(&Message)) -> Result<bool> {
        if child::interrupted() {
            return Err(child::Interrupted.into());
        }
        self.accept()?;
        match self.events.recv_timeout(Duration::from_millis(20)) {
            Ok(event) => {
                self.handle(event, sink);
                return Ok(!self.stop);
            }
            // With all streams at their end the machine is about to end too.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(20)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(status) = self.qemu.ended()? {
            self.drain(sink);
            let left_by_user = self.spec.shell.is_some() && self.deadline.is_none() && status.success();
            if !self.done && !left_by_user {
                let exit = if status.success() { String::new() } else { format!(" (QEMU: {status})") };
                self.trouble(format!("the guest ended while the lab waited for {}{exit}", self.waiting_for));
            }
            return Ok(false);
        }
        if !self.done {
            self.check_devices()?;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            let waited = self.started.elapsed().as_secs();
            let text = format!("gave up after {waited} s: still waiting for {}", self.waiting_for);
            self.trouble(text);
        }
        Ok(!self.stop)
    }

    /// Takes the machine's connection, once it comes.
    fn accept(&mut self) -> Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                self.listener = None;
                if let Some(sender) = self.sender.take() {
                    std::thread::spawn(move || read_channel(stream, &sender));
                }
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("cannot accept the guest's message stream"),
        }
    }

    fn handle(&mut self, event: Event, sink: &mut dyn FnMut(&Message)) {
        match event {
            Event::Console(line) => {
                let _ = writeln!(self.console, "{line}");
                self.watch.line(&line);
            }
            Event::Errors(line) => {
                let _ = writeln!(self.errors, "{line}");
                if line.contains("KVM internal error") {
                    self.trouble("KVM of this machine cannot run the guest (KVM internal error)".into());
                }
            }
            Event::Channel(bytes) => {
                self.decoder.push(&bytes);
                loop {
                    match self.decoder.next_message() {
                        Ok(Some(message)) => {
                            self.note(&message);
                            sink(&message);
                        }
                        Ok(None) => break,
                        Err(error) => {
                            self.trouble(error.to_string());
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Keeps what a message tells, and sets what is waited for next.
    fn note(&mut self, message: &Message) {
        let mut next = (STEP_WAIT, "the next message of the guest".to_owned());
        match message {
            Message::Ready(ms) => {
                self.report.ready_ms = Some(*ms);
                next = (self.spec.boot_wait, "the drivers to bind their GPUs".into());
            }
            Message::Prepared(ms) => {
                self.report.prepared_ms = Some(*ms);
                self.report.to_first_program = Some(self.started.elapsed());
            }
            Message::Started(program) => {
                let Some(program) = self.spec.programs.get(*program as usize) else { return };
                let limit = Duration::from_millis(program.timeout_ms);
                next = (limit + PROGRAM_GRACE, format!("{} to end", program.path));
            }
            Message::Exited(program, code) => self.end(*program, End::Exited(*code)),
            Message::Signaled(program, signal) => self.end(*program, End::Signaled(*signal)),
            Message::TimedOut(program, threads) => self.end(*program, End::TimedOut(threads.clone())),
            Message::NotStarted(program, why) => self.end(*program, End::NotStarted(why.clone())),
            // The guest gave up, but it still ends in order.
            Message::Fatal(why) => self.report.trouble.push(format!("the guest gave up: {why}")),
            Message::Done(_) => {
                self.done = true;
                next = (POWER_OFF_WAIT, "the guest to power off".into());
            }
            Message::Note(_) | Message::Stdout(..) | Message::Stderr(..) | Message::Results(..) => return,
        }
        let last = self.spec.programs.len() as u64;
        let at_shell = self.spec.shell.is_some()
            && !self.done
            && self.report.prepared_ms.is_some()
            && self.report.programs.iter().filter(|end| **end != End::Unknown).count() as u64 == last;
        self.deadline = if at_shell { None } else { Some(Instant::now() + next.0) };
        self.waiting_for = next.1;
    }

    fn end(&mut self, program: u32, end: End) {
        if let Some(slot) = self.report.programs.get_mut(program as usize) {
            *slot = end;
        }
    }

    /// Something went wrong that makes it useless to go on.
    fn trouble(&mut self, text: String) {
        self.report.trouble.push(text);
        self.stop = true;
    }

    /// A device model that ends before its guest has failed.
    fn check_devices(&mut self) -> Result<()> {
        for number in 0..self.devices.len() {
            let Some(status) = self.devices[number].process.ended()? else { continue };
            // When the machine ends, its GPUs end too, and may be seen to do so first.
            if self.qemu.wait(Duration::from_secs(2))?.is_none() {
                let device = &self.devices[number];
                let text = format!(
                    "the virtual {} GPU ended ({status}) while the lab waited for {}:\n{}",
                    device.vendor,
                    self.waiting_for,
                    device::tail(&device.log, 20)
                );
                self.trouble(text);
            }
            return Ok(());
        }
        Ok(())
    }

    /// Handles everything still on its way after the machine's end.
    fn drain(&mut self, sink: &mut dyn FnMut(&Message)) {
        self.sender = None;
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(event) => self.handle(event, sink),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if !self.decoder.is_empty() {
            self.trouble("the guest's message stream ended in the middle of a message".into());
        }
    }

    fn finish(mut self) -> Result<Report> {
        let mut troubles = Vec::new();
        for device in &mut self.devices {
            if self.done {
                device.process.end_gently(Duration::from_millis(500))?;
            }
            self.report.unknown.extend(device.unknown());
            let log = fs::read(&device.log).unwrap_or_default();
            if String::from_utf8_lossy(&log).contains("panicked at") {
                troubles.push(format!(
                    "the virtual {} GPU panicked:\n{}",
                    device.vendor,
                    device::tail(&device.log, 20)
                ));
            }
        }
        self.report.trouble.append(&mut troubles);
        self.report.complaints = self.watch.into_complaints();
        Ok(self.report)
    }
}

fn read_channel(mut stream: UnixStream, sender: &mpsc::Sender<Event>) {
    let mut buffer = [0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if sender.send(Event::Channel(buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Runs whose logs are kept.
const KEPT_LOGS: usize = 40;

/// A new folder for the logs of one boot; the oldest ones go.
fn log_folder(cache: &Cache) -> Result<PathBuf> {
    let parent = cache.folder("logs")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let path = parent.join(format!("{:013}-{}", now.as_millis(), std::process::id()));
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let all = cache.entries("logs");
    for old in &all[..all.len().saturating_sub(KEPT_LOGS)] {
        let _ = fs::remove_dir_all(old);
    }
    Ok(path)
}
