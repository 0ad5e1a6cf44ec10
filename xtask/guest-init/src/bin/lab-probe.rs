//! Behaves in the ways that the lab must notice. `cargo xtask lab check` runs it and looks at what is reported.

use guest_init::RESULTS_VARIABLE;
use rustix::process::{Signal, getgid, getuid, kill_current_process_group};
use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match behave(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("lab-probe {words:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn behave(words: &[&str]) -> io::Result<u8> {
    match words {
        ["exit", code] => Ok(code.parse().unwrap_or(1)),
        ["signal"] => {
            println!("before the signal");
            // Not one that Rust's runtime handles.
            kill_current_process_group(Signal::ABORT)?;
            Ok(1)
        }
        ["hang"] => {
            println!("before hanging");
            loop {
                std::thread::sleep(Duration::from_secs(1000));
            }
        }
        // Leaves a process behind that holds the output open.
        ["leave-child"] => {
            let child = std::process::Command::new("/proc/self/exe").arg("hang").spawn()?;
            println!("left {}", child.id());
            Ok(0)
        }
        ["flood", lines] => {
            let mut out = io::stdout().lock();
            for number in 0..lines.parse::<u32>().unwrap_or(0) {
                writeln!(out, "{number:0>99}")?;
            }
            Ok(0)
        }
        ["results", text] => {
            let path = std::env::var_os(RESULTS_VARIABLE).ok_or(io::ErrorKind::NotFound)?;
            File::options().append(true).create(true).open(path)?.write_all(text.as_bytes())?;
            Ok(0)
        }
        ["identity"] => {
            println!("{} {}", getuid().as_raw(), getgid().as_raw());
            println!("{}", std::env::current_dir()?.display());
            println!("{}", std::env::var("PROBE").unwrap_or_default());
            Ok(0)
        }
        ["read", path] => {
            print!("{}", fs::read_to_string(path)?);
            Ok(0)
        }
        ["kernel-log", text] => {
            // One write is one line of the log.
            File::options().write(true).open("/dev/kmsg")?.write_all(text.as_bytes())?;
            Ok(0)
        }
        ["panic"] => {
            fs::write("/proc/sysrq-trigger", "c")?;
            std::thread::sleep(Duration::from_secs(1000));
            Ok(1)
        }
        _ => Err(io::Error::other("no such behaviour")),
    }
}
