//! A range cut into equal cells, each shown as the place that most of it is in.

use super::map::Residency;
use super::place::Place;
use super::run::Run;

/// The places of `count` equal cells of the whole range. Empty when nothing was scanned.
pub(super) fn cells(residency: &Residency, count: usize) -> Vec<Place> {
    let Some(range) = residency.range() else { return Vec::new() };
    cells_between(residency, count, |index| {
        let offset = u128::from(range.len()) * index as u128 / count as u128;
        range.start() + offset as u64
    })
}

/// The places of `count` cells, each from one edge to the next. Where two places share a cell equally, the one that comes
/// first in [`Place::ALL`] wins. Empty when nothing was scanned.
pub(super) fn cells_between(residency: &Residency, count: usize, edge: impl Fn(usize) -> u64) -> Vec<Place> {
    let mut runs = residency.runs();
    if runs.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|index| {
            let start = edge(index);
            // More cells than bytes would make empty ones.
            let end = edge(index + 1).max(start + 1);
            let passed = runs.iter().take_while(|run| run.end() <= start).count();
            runs = &runs[passed..];
            dominant(runs, start, end)
        })
        .collect()
}

fn dominant(runs: &[Run], start: u64, end: u64) -> Place {
    let mut bytes = [0; Place::ALL.len()];
    for run in runs.iter().take_while(|run| run.start() < end) {
        bytes[run.place().index()] += run.end().min(end) - run.start().max(start);
    }
    let most = bytes.iter().copied().max().unwrap_or(0);
    let index = bytes.iter().position(|&count| count == most).unwrap_or(0);
    Place::ALL[index]
}

/// `1536` as `1.5 KiB`, `0` as `0 B`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value.fract() != 0.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `part` of `whole` for people: `12.5 %`, and `<0.1 %` for what would look like nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let value = 100.0 * part as f64 / whole.max(1) as f64;
    if part > 0 && value < 0.1 {
        "<0.1 %".into()
    } else if part < whole && value > 99.9 {
        ">99.9 %".into()
    } else if value.fract() == 0.0 {
        format!("{value:.0} %")
    } else {
        format!("{value:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::{PageRange, page_size};
    use crate::residency::place::Class;

    fn residency(classes: &[Class]) -> Residency {
        let page = page_size();
        let runs =
            classes.iter().zip(1..).map(|(&class, at)| Run::new(at * page, (at + 1) * page, class, false));
        Residency {
            range: Some(PageRange::new(page, classes.len() as u64 * page).unwrap()),
            runs: runs.collect(),
            ambiguities: Vec::new(),
        }
    }

    #[test]
    fn a_cell_shows_what_most_of_it_is() {
        use Class::{Absent, Device, System};
        let six = residency(&[Device, System, System, Absent, Absent, Device]);
        assert_eq!(cells(&six, 2), [Place::System, Place::Absent]);
        assert_eq!(cells(&six, 3), [Place::Device, Place::System, Place::Device]);
        assert_eq!(cells(&six, 1), [Place::Device], "of equal shares the first in the list");
        let places: Vec<Place> = six.pages().collect();
        assert_eq!(cells(&six, 6), places);
        assert_eq!(cells(&six, 12), places.iter().flat_map(|&p| [p, p]).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_scanned_has_no_cells() {
        assert!(cells(&Residency::new(), 10).is_empty());
        assert!(cells(&residency(&[]), 10).is_empty());
    }

    #[test]
    fn numbers_read_well() {
        let sizes =
            [(0, "0 B"), (1023, "1023 B"), (4096, "4 KiB"), (1536 << 10, "1.5 MiB"), (3 << 50, "3 PiB")];
        for (count, text) in sizes {
            assert_eq!(bytes(count), text);
        }
        let shares =
            [(0, 8, "0 %"), (1, 8, "12.5 %"), (8, 8, "100 %"), (1, 1 << 20, "<0.1 %"), (0, 0, "0 %")];
        for (part, whole, text) in shares {
            assert_eq!(percent(part, whole), text);
        }
        assert_eq!(percent((1 << 20) - 1, 1 << 20), ">99.9 %");
        assert_eq!((percent(1, 1000), percent(999, 1000)), ("0.1 %".into(), "99.9 %".into()));
    }
}
