//! Child processes that cannot outlive the task: killed and reaped when dropped, and by the kernel should the task
//! itself be killed.

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a killed child may take to be gone.
const LETTING_GO: Duration = Duration::from_secs(20);

/// When the user first asked to stop.
static INTERRUPTED: OnceLock<Instant> = OnceLock::new();

/// A second request after this time means now.
const PATIENCE: Duration = Duration::from_secs(1);

/// Turns Ctrl-C, SIGTERM and SIGHUP into a request that loops notice, so that every guard is dropped.
pub(crate) fn catch_interrupts() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.get_or_init(Instant::now).elapsed() > PATIENCE {
            // The children have a death signal.
            std::process::exit(130);
        }
    })
    .context("cannot watch for interrupts")
}

/// Whether the user asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get().is_some()
}

/// The user asked to stop.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// A child that is killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    name: String,
    child: Child,
}

impl Guarded {
    /// Starts the command. Only the task's main thread may call this: the death signal is tied to the calling thread.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        // A group of its own: Ctrl-C in the terminal reaches the task, which then ends its children in order.
        command.process_group(0);
        Self::spawn_in_foreground(name, command)
    }

    /// Like [`Guarded::spawn`], for a child that owns the terminal.
    pub(crate) fn spawn_in_foreground(name: &str, command: &mut Command) -> Result<Self> {
        let die_with_parent = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure runs between fork and exec and makes one system call that takes no pointer; it
        // allocates nothing and takes no lock.
        unsafe { command.pre_exec(die_with_parent) };
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().to_string_lossy()))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// The child's status if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot watch {}", self.name))
    }

    /// Waits for the end, at most this long.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + time;
        loop {
            let status = self.ended()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits a moment for the child to end by itself, then asks it to, so that it can write what it still has.
    pub(crate) fn end_gently(&mut self, patience: Duration) -> Result<()> {
        if self.wait(patience)?.is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            self.wait(patience * 4)?;
        }
        Ok(())
    }

    /// Calls `each` with every line the child prints, on a thread of its own, until the stream ends.
    pub(crate) fn stdout_lines(&mut self, each: impl FnMut(&[u8]) + Send + 'static) {
        if let Some(stream) = self.child.stdout.take() {
            lines(stream, each);
        }
    }

    /// [`Guarded::stdout_lines`] for standard error.
    pub(crate) fn stderr_lines(&mut self, each: impl FnMut(&[u8]) + Send + 'static) {
        if let Some(stream) = self.child.stderr.take() {
            lines(stream, each);
        }
    }
}

impl Guarded {
    /// Asks the child and its descendants to end, then makes them. `None`: the kernel does not let go of the child.
    pub(crate) fn kill(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let pid = rustix::process::Pid::from_child(&self.child);
        for signal in [Signal::TERM, Signal::KILL] {
            if self.ended()?.is_some() {
                break;
            }
            let _ = rustix::process::kill_process_group(pid, signal);
            let _ = rustix::process::kill_process(pid, signal);
            self.wait(patience)?;
        }
        self.ended()
    }

    /// The number of the child, for messages.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // A child that a driver holds in the kernel never ends; that must not hold the task too.
        let _ = self.wait(LETTING_GO);
    }
}

fn lines(stream: impl Read + Send + 'static, mut each: impl FnMut(&[u8]) + Send + 'static) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            each(line.strip_suffix(b"\n").unwrap_or(&line));
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::sync::mpsc;

    #[test]
    fn a_dropped_child_is_dead_and_reaped() {
        let child = Guarded::spawn("sleeper", Command::new("sleep").arg("1000")).unwrap();
        let process = format!("/proc/{}", child.child.id());
        assert!(std::path::Path::new(&process).exists());
        drop(child);
        assert!(!std::path::Path::new(&process).exists());
    }

    #[test]
    fn lines_arrive_and_the_status_is_seen() {
        let (sender, receiver) = mpsc::channel();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; printf two; exit 3"]).stdout(Stdio::piped());
        let mut child = Guarded::spawn("talker", &mut command).unwrap();
        child.stdout_lines(move |line| sender.send(line.to_vec()).unwrap());
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(child.wait(Duration::from_secs(60)).unwrap().unwrap().code(), Some(3));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error =
            Guarded::spawn("the device", &mut Command::new("/nonexistent/vgpu")).unwrap_err().to_string();
        assert!(error.contains("the device") && error.contains("/nonexistent/vgpu"), "{error}");
    }
}
