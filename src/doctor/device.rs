//! The checks of each GPU, from the bus to the driver's own answer.

mod addresses;
mod amd;
mod bar;
mod bugs;
mod driver;
mod kfd_state;
mod node;
mod open;
mod subject;
mod xe;
mod xnack;

use kfd_state::KfdState;
pub(super) use subject::Subject;

use super::checks;
use super::facts::Facts;
use super::finding::{Finding, Status};
use super::report::{DeviceReport, Verdict};
use crate::channel::Channel;
use crate::device::Driver;

/// A GPU with what the machine's checks want to know of it.
pub(super) struct Examined<'a> {
    pub(super) report: DeviceReport,
    pub(super) subject: Subject<'a>,
    /// The driver that is bound or answered, if it is one this crate speaks to.
    pub(super) driver: Option<Driver>,
    /// The driver itself said that shared virtual memory works.
    pub(super) confirmed: bool,
}

pub(super) fn examine_all<'a>(facts: &'a Facts<'a>) -> Vec<Examined<'a>> {
    let kfd = KfdState::read(facts);
    subject::subjects(facts, kfd.topology.as_ref().ok())
        .into_iter()
        .map(|subject| examine(facts, &kfd, subject))
        .collect()
}

/// What a driver's checks found.
#[derive(Default)]
struct Answers {
    findings: Vec<Finding>,
    confirmed: bool,
    /// The PCI device id, as the driver tells it.
    device_id: Option<u16>,
}

fn examine<'a>(facts: &Facts<'a>, kfd: &KfdState, subject: Subject<'a>) -> Examined<'a> {
    let (answers, driver) = run(facts, kfd, &subject);
    let Answers { findings, confirmed, device_id } = answers;
    let driver_name = subject.driver_name().or(driver.map(Driver::name));
    Examined {
        report: DeviceReport {
            name: subject.name(driver_name, device_id),
            node: subject.render.map(|render| render.path()),
            driver: driver_name.map(str::to_owned),
            verdict: Verdict::of(&findings, confirmed),
            findings,
        },
        subject,
        driver,
        confirmed,
    }
}

/// Goes on as long as the next check has something to look at.
fn run(facts: &Facts<'_>, kfd: &KfdState, subject: &Subject<'_>) -> (Answers, Option<Driver>) {
    let mut answers = Answers::default();
    let (finding, bound) = driver::check(facts, subject);
    let served = finding.status() != Status::Problem;
    answers.findings.push(finding);
    if !served {
        answers.findings.extend(xe::capable_by_model(subject));
        return (answers, bound);
    }
    let channel = open_node(facts, subject, &mut answers.findings);
    let mut driver = bound;
    if let Some(channel) = &channel {
        match driver::ask(channel, bound) {
            Ok((finding, answered)) => {
                answers.findings.push(finding);
                driver = Some(answered);
            }
            Err(finding) => {
                answers.findings.push(finding);
                return (answers, bound);
            }
        }
    }
    match (driver, channel) {
        (Some(Driver::Xe), Some(channel)) => xe::check(facts, subject, channel, &mut answers),
        (Some(Driver::Xe), None) => answers.findings.extend(xe::capable_by_model(subject)),
        (Some(Driver::Kfd), channel) => amd::check(facts, kfd, subject, channel.is_some(), &mut answers),
        (None, _) => {}
    }
    (answers, driver)
}

/// The open render node, or `None` and the finding that says why not.
fn open_node(facts: &Facts<'_>, subject: &Subject<'_>, findings: &mut Vec<Finding>) -> Option<Channel> {
    let path = match node::check(facts, subject) {
        Ok((finding, path)) => {
            findings.push(finding);
            path
        }
        Err(finding) => {
            findings.push(finding);
            return None;
        }
    };
    match facts.system.open(&path) {
        Ok(channel) => {
            findings.push(open::allowed(facts, &checks::OPEN, &path));
            Some(channel)
        }
        Err(errno) => {
            findings.push(open::refused(facts, &checks::OPEN, &path, errno, subject));
            None
        }
    }
}
