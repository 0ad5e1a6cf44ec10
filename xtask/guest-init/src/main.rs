//! The first process of a lab guest: mounts, loads the modules of the job, runs its programs, powers off.
//!
//! Everything it has to tell goes to the host as [`Message`]s; the console belongs to the kernel's log.

mod channel;
mod guest;
mod supervise;

use channel::Channel;
use guest_init::{JOB_PATH, Job, Message, Shell};
use std::process::Command;

fn main() {
    if std::process::id() != 1 {
        eprintln!("guest-init is the first process of a virtual machine and does nothing elsewhere");
        std::process::exit(2);
    }
    let outcome = guest::mount_all().and_then(|()| Channel::open()).map(|channel| {
        channel.send(&Message::Ready(guest::uptime_ms()));
        if let Err(why) = work(&channel) {
            channel.send(&Message::Fatal(why));
        }
        channel.send(&Message::Done(guest::uptime_ms()));
        channel.drain();
    });
    if let Err(why) = outcome {
        eprintln!("guest-init: {why}");
    }
    guest::power_off();
}

/// The job, from its first module to its last program.
fn work(channel: &Channel) -> Result<(), String> {
    let text = std::fs::read(JOB_PATH).map_err(|error| format!("cannot read {JOB_PATH}: {error}"))?;
    let job: Job =
        serde_json::from_slice(&text).map_err(|error| format!("cannot understand {JOB_PATH}: {error}"))?;
    for module in &job.modules {
        guest::load_module(module)?;
    }
    guest::wait_for_render_nodes(job.render_nodes, job.render_wait_ms)?;
    guest::open_nodes_to_the_render_group();
    channel.send(&Message::Prepared(guest::uptime_ms()));
    for (program, number) in job.programs.iter().zip(0..) {
        supervise::run(channel, number, program)?;
    }
    match &job.shell {
        Some(shell) => run_shell(shell),
        None => Ok(()),
    }
}

/// Gives the console to an interactive program until it ends.
fn run_shell(shell: &Shell) -> Result<(), String> {
    let open = || std::fs::File::options().read(true).write(true).open("/dev/ttyS0");
    let failed = |error| format!("cannot run {} on the console: {error}", shell.path);
    let terminal = open().map_err(failed)?;
    if let Some((rows, columns)) = shell.size {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).map_err(|error| failed(error.into()))?;
    }
    let mut command = Command::new(&shell.path);
    command.args(&shell.args).env_clear().envs([("PATH", "/bin"), ("HOME", "/root"), ("TERM", "vt100")]);
    command
        .current_dir("/root")
        .stdin(open().map_err(failed)?)
        .stdout(open().map_err(failed)?)
        .stderr(terminal);
    command.status().map(drop).map_err(failed)
}
