//! Running a script on one side, in a process of its own: what it leaves behind, and its death, stay there.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::step::Step;
use super::{LIKE, Model, Side, script};

/// Longest time for one step, far above what any takes: a hang guard.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// Begins the answer of a step that is none.
const BAD: &str = "!bad step: ";

/// What one side answered: one line for each step that was done. Fewer than there are steps if the worker died or hung, and
/// then the last line says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub(crate) answers: Vec<String>,
    /// The script has a step that cannot be understood.
    pub(crate) bad: Option<String>,
}

/// A worker at work.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    lines: Receiver<String>,
    complaints: std::thread::JoinHandle<String>,
}

impl Worker {
    /// Starts a worker on its script.
    pub(crate) fn start(
        model: &dyn Model,
        side: Side,
        steps: &[Step],
        kernel: &str,
    ) -> std::io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .env(LIKE, kernel)
            .args(["worker", "--driver", model.name(), "--side", &side.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let text = script::print(steps);
        let mut stdin = child.stdin.take().expect("piped");
        // The worker reads all of it before it does anything.
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("piped");
        let complaints = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(Self { child, lines, complaints })
    }

    /// Waits for its end and takes its answers.
    pub(crate) fn finish(mut self) -> std::io::Result<Transcript> {
        let mut answers = Vec::new();
        loop {
            match self.lines.recv_timeout(LONGEST_STEP) {
                Ok(line) => match line.strip_prefix(BAD) {
                    Some(why) => {
                        let bad = Some(why.to_owned());
                        self.child.kill()?;
                        self.child.wait()?;
                        return Ok(Transcript { answers, bad });
                    }
                    None => answers.push(line),
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    answers.push(format!("hangs: {}", where_it_is(self.child.id())));
                    self.child.kill()?;
                    break;
                }
            }
        }
        let status = self.child.wait()?;
        let complaints = self.complaints.join().unwrap_or_default();
        if let Some(signal) = status.signal() {
            if !answers.last().is_some_and(|answer| answer.starts_with("hangs")) {
                answers.push(format!("dies of signal {signal}: {}", one_line(&complaints)));
            }
        } else if !status.success() {
            answers.push(format!("dies: {}", one_line(&complaints)));
        }
        Ok(Transcript { answers, bad: None })
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// System call and kernel stack of the process's threads, as far as they may be seen.
fn where_it_is(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let describe = |task: std::path::PathBuf| {
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        one_line(&format!("[{} syscall {} {}]", read("comm"), read("syscall"), read("stack")))
    };
    tasks.map(|task| describe(task.path())).collect::<Vec<_>>().join(" ")
}

/// The answers of one side to a script.
pub(crate) fn transcript(
    model: &dyn Model,
    side: Side,
    steps: &[Step],
    kernel: &str,
) -> std::io::Result<Transcript> {
    Worker::start(model, side, steps, kernel)?.finish()
}

/// The worker's life: the script comes on standard input, the answers go to standard output.
pub(crate) fn serve(model: &dyn Model, side: Side) -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
    let mut out = std::io::stdout().lock();
    let mut tell =
        |line: &str| writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string());
    let steps = match script::parse(&text) {
        Ok(steps) => steps,
        Err(bad) => return tell(&format!("{BAD}{bad}")),
    };
    let mut subject = model.start(side)?;
    for step in &steps {
        match subject.perform(step) {
            Ok(answer) => tell(&answer)?,
            Err(bad) => return tell(&format!("{BAD}{bad}")),
        }
    }
    Ok(())
}
