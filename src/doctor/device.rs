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
use super::finding::Finding;
use super::report::{DeviceReport, Verdict};
use crate::device::Driver;

/// A GPU with what the machine's checks want to know of it.
pub(super) struct Examined<'a> {
    pub(super) report: DeviceReport,
    pub(super) subject: Subject<'a>,
    /// The driver that is bound or answered, if it is one this crate speaks to.
    pub(super) driver: Option<Driver>,
    /// The driver itself said that shared virtual memory works.
    pub(super) confirmed: bool,
    /// The XGMI hive of a KFD GPU.
    pub(super) hive: Option<u64>,
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
}

fn examine<'a>(facts: &Facts<'a>, kfd: &KfdState, subject: Subject<'a>) -> Examined<'a> {
    let (answers, driver) = run(facts, kfd, &subject);
    let Answers { findings, confirmed } = answers;
    Examined {
        report: DeviceReport {
            name: subject.name(),
            node: subject.render.map(|render| render.path()),
            driver: subject.driver_name().or(driver.map(Driver::name)).map(str::to_owned),
            verdict: Verdict::of(&findings, confirmed),
            findings,
        },
        hive: subject.kfd.as_ref().and_then(|node| node.hive_id()).map(|hive| hive.get()),
        subject,
        driver,
        confirmed,
    }
}

/// Goes on as long as the next check has something to look at.
fn run(facts: &Facts<'_>, kfd: &KfdState, subject: &Subject<'_>) -> (Answers, Option<Driver>) {
    let mut answers = Answers::default();
    let (finding, bound) = driver::check(facts, subject);
    let proceed = finding.status() != crate::doctor::Status::Problem;
    answers.findings.push(finding);
    if !proceed {
        answers.findings.extend(xe::capable_by_model(subject));
        return (answers, bound);
    }
    let channel = match node::check(facts, subject) {
        Ok((finding, path)) => {
            answers.findings.push(finding);
            match facts.system.open(&path) {
                Ok(channel) => {
                    answers.findings.push(open::allowed(facts, &checks::OPEN, &path));
                    Some(channel)
                }
                Err(errno) => {
                    let numbers = subject.render.and_then(|render| render.numbers);
                    answers.findings.push(open::refused(facts, &checks::OPEN, &path, errno, numbers));
                    None
                }
            }
        }
        Err(finding) => {
            answers.findings.push(finding);
            None
        }
    };
    let answered = match &channel {
        None => None,
        Some(channel) => match driver::ask(channel, bound) {
            Ok((finding, answered)) => {
                answers.findings.push(finding);
                answered
            }
            Err(finding) => {
                answers.findings.push(finding);
                return (answers, bound);
            }
        },
    };
    let driver = answered.or(bound);
    match (driver, channel) {
        (Some(Driver::Xe), Some(channel)) => xe::check(facts, subject, channel, &mut answers),
        (Some(Driver::Xe), None) => {
            answers.findings.extend(xe::capable_by_model(subject));
            answers.findings.extend(bugs::check(facts, Driver::Xe, true));
        }
        (Some(Driver::Kfd), channel) => amd::check(facts, kfd, subject, channel.is_some(), &mut answers),
        _ => {}
    }
    (answers, driver)
}
