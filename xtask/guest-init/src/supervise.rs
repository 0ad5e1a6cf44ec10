//! Running one program: its output, its time limit, its end.

use crate::channel::Channel;
use guest_init::{Message, Program, RESULTS_VARIABLE, User};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a killed program may take to die.
const DEATH_WAIT: Duration = Duration::from_secs(10);

/// One stream of the program and the message its bytes travel in.
struct Stream {
    source: Option<OwnedFd>,
    wrap: fn(u32, Vec<u8>) -> Message,
}

/// Runs the program to its end and reports it. An error means that no further program can run.
pub(crate) fn run(channel: &Channel, number: u32, program: &Program) -> Result<(), String> {
    channel.send(&Message::Started(number));
    let (pid, mut streams) = match start(program) {
        Ok(started) => started,
        Err(why) => {
            channel.send(&Message::NotStarted(number, why));
            return Ok(());
        }
    };
    let mut child = Child::adopt(pid)?;
    let deadline = Instant::now() + Duration::from_millis(program.timeout_ms);
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break None;
        }
        forward(channel, number, &mut streams, Some((&child.pidfd, left)));
    };
    let message = match ended {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Message::Exited(number, code),
            (None, signal) => Message::Signaled(number, signal.unwrap_or(0)),
        },
        None => Message::TimedOut(number, describe_threads(child.pid)),
    };
    // Whatever the program left running must not disturb the next one.
    let _ = rustix::process::kill_process_group(child.pid, Signal::KILL);
    let died = ended.is_some() || child.wait_for(DEATH_WAIT)?;
    forward(channel, number, &mut streams, None);
    channel.send(&message);
    reap_orphans();
    if died { Ok(()) } else { Err(format!("{} cannot be killed: it is stuck in the kernel", program.path)) }
}

fn start(program: &Program) -> Result<(Pid, [Stream; 3]), String> {
    let failed = |error: std::io::Error| format!("cannot start {}: {error}", program.path);
    let mut command = Command::new(&program.path);
    command.args(&program.args).env_clear().envs(program.env.iter().map(|(key, value)| (key, value)));
    command.current_dir(&program.cwd).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(user) = program.user {
        command.uid(user.uid).gid(user.gid);
    }
    // Without close-on-exec, so that the program inherits the writing end under its present number.
    let (results, inherited) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
    rustix::io::fcntl_setfd(&results, rustix::io::FdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    // Opening it by this path is subject to the pipe's owner.
    if let Some(User { uid, gid }) = program.user {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::fchown(&inherited, owner.0, owner.1).map_err(|error| failed(error.into()))?;
    }
    command.env(RESULTS_VARIABLE, format!("/proc/self/fd/{}", inherited.as_raw_fd()));
    let mut child = command.spawn().map_err(failed)?;
    drop(inherited);
    let pid = Pid::from_child(&child);
    let streams = [
        Stream { source: child.stdout.take().map(OwnedFd::from), wrap: Message::Stdout },
        Stream { source: child.stderr.take().map(OwnedFd::from), wrap: Message::Stderr },
        Stream { source: Some(results), wrap: Message::Results },
    ];
    for source in streams.iter().filter_map(|stream| stream.source.as_ref()) {
        rustix::fs::fcntl_setfl(source, OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    }
    Ok((pid, streams))
}

/// A started program, waited for by its descriptor.
struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    fn adopt(pid: Pid) -> Result<Self, String> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| format!("cannot watch process {}: {error}", pid.as_raw_nonzero()))?;
        Ok(Self { pid, pidfd })
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, String> {
        let waited = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG)
            .map_err(|error| format!("cannot wait for process {}: {error}", self.pid.as_raw_nonzero()))?;
        Ok(waited.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
    }

    /// Whether the process ended within `time`.
    fn wait_for(&mut self, time: Duration) -> Result<bool, String> {
        let deadline = Instant::now() + time;
        while self.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(true)
    }
}

/// Sends on what the streams hold. With a process given, first waits for bytes or for its end.
fn forward(channel: &Channel, number: u32, streams: &mut [Stream; 3], wait: Option<(&OwnedFd, Duration)>) {
    if let Some((pidfd, left)) = wait {
        let mut watched = vec![PollFd::new(pidfd, PollFlags::IN)];
        let sources = streams.iter().filter_map(|stream| stream.source.as_ref());
        watched.extend(sources.map(|source| PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN)));
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        // An interrupted wait only means another round of the caller.
        let _ = poll(&mut watched, Some(&left));
    }
    let mut buffer = [0; 16 << 10];
    for stream in streams {
        // After the program's end everything must go out; before it, one helping of each stream at a time.
        while let Some(source) = &stream.source {
            match rustix::io::read(source, &mut buffer) {
                Ok(0) => stream.source = None,
                Ok(length) => channel.send(&(stream.wrap)(number, buffer[..length].to_vec())),
                Err(Errno::INTR) => continue,
                Err(_) => break,
            }
            if wait.is_some() {
                break;
            }
        }
    }
}

/// Where every thread of the process group is, and what is blocked in the kernel (into the kernel's log).
fn describe_threads(group: Pid) -> String {
    let _ = fs::write("/proc/sysrq-trigger", "w");
    let mut text = String::new();
    for process in numbered_entries("/proc") {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // After the command in parentheses: state, parent, process group.
        let in_group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2));
        if in_group != Some(&group.as_raw_nonzero().to_string()) {
            continue;
        }
        for thread in numbered_entries(&format!("/proc/{process}/task")) {
            let read = |name| {
                fs::read_to_string(format!("/proc/{process}/task/{thread}/{name}")).unwrap_or_default()
            };
            let (name, system_call) = (read("comm"), read("syscall"));
            let _ = writeln!(text, "thread {thread} {}: {}", name.trim(), system_call.trim());
            for line in read("stack").lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    text
}

fn numbered_entries(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    numbers.sort_unstable();
    numbers
}

/// The first process inherits every orphan.
fn reap_orphans() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}
