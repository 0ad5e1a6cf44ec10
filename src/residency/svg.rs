//! Residency as a picture.

use std::fmt::Write;

use super::cells::{bytes, cells_between, percent};
use super::map::Residency;
use super::place::Place;
use crate::range::page_size;

const WIDTH: usize = 960;
const MARGIN: usize = 16;
/// Room for the address of a row.
const GUTTER: usize = 128;
const COLUMNS: usize = 256;
const CELL: usize = 3;
const ROW: usize = 20;
const ROW_GAP: usize = 4;
const MOST_ROWS: usize = 32;
const TOP: usize = 56;
const LEGEND_ROW: usize = 22;

impl Place {
    /// Colours of Okabe and Ito, which stay distinct for colour-blind people.
    const fn fill(self) -> &'static str {
        match self {
            Self::Device => "#009e73",
            Self::System => "#0072b2",
            Self::Zero => "#56b4e9",
            Self::Swap => "#e69f00",
            Self::Ambiguous => "#cc79a7",
            Self::Marker => "#d55e00",
            Self::Guard => "#000000",
            Self::Absent => "#e4e4e4",
        }
    }
}

impl Residency {
    /// The range as a self-contained SVG document: rows of cells from low to high addresses, each cell in the colour of
    /// the place that most of it is in, with a legend, and a title and description for readers who do not see it.
    ///
    /// A row has 256 cells. Up to 8192 pages have a cell each; of larger ranges a cell shows several.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let range = self.range().filter(|range| !range.is_empty());
        let pages = range.map_or(0, |range| range.pages());
        let pages_per_cell = pages.div_ceil((COLUMNS * MOST_ROWS) as u64).max(1);
        let count = pages.div_ceil(pages_per_cell) as usize;
        let rows = count.div_ceil(COLUMNS);
        let summary = self.summary();
        let shown: Vec<Place> = Place::ALL.into_iter().filter(|&place| summary.bytes(place) > 0).collect();
        let legend_top = TOP + rows * (ROW + ROW_GAP) + 12;
        let height = legend_top + shown.len().max(1) * LEGEND_ROW + MARGIN;

        let mut svg = String::with_capacity(4096 + rows * 1024);
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="residency-title residency-description" font-family="sans-serif" font-size="13">"##
        );
        let title = match range {
            Some(range) => format!("Residency of {} at {range}", bytes(range.len())),
            None => "Residency of nothing".into(),
        };
        let _ = writeln!(svg, r#"<title id="residency-title">{title}</title>"#);
        let _ = writeln!(svg, r#"<desc id="residency-description">{self}</desc>"#);
        let _ = writeln!(svg, r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##);
        let _ = writeln!(svg, r##"<text x="{MARGIN}" y="34" font-size="16" fill="#1a1a1a">{title}</text>"##);
        self.write_rows(&mut svg, count, pages_per_cell * page_size());
        for (index, &place) in shown.iter().enumerate() {
            let y = legend_top + index * LEGEND_ROW;
            let count = summary.bytes(place);
            let _ = writeln!(
                svg,
                r##"<rect x="{MARGIN}" y="{y}" width="14" height="14" fill="{}"/><text x="{}" y="{}" fill="#1a1a1a">{place}: {} ({})</text>"##,
                place.fill(),
                MARGIN + 22,
                y + 12,
                bytes(count),
                percent(count, summary.total()),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn write_rows(&self, svg: &mut String, count: usize, bytes_per_cell: u64) {
        let Some(range) = self.range() else { return };
        let edge = |cell: usize| (range.start() + cell as u64 * bytes_per_cell).min(range.end());
        let cells = cells_between(self, count, edge);
        for (row, line) in cells.chunks(COLUMNS).enumerate() {
            let y = TOP + row * (ROW + ROW_GAP);
            let _ = writeln!(
                svg,
                r##"<text x="{MARGIN}" y="{}" font-family="monospace" font-size="12" fill="#595959">{:#x}</text>"##,
                y + 14,
                edge(row * COLUMNS)
            );
            let mut column = 0;
            for same in line.chunk_by(|a, b| a == b) {
                let first = row * COLUMNS + column;
                let _ = writeln!(
                    svg,
                    r#"<rect x="{}" y="{y}" width="{}" height="{ROW}" fill="{}"><title>{} at {:#x} to {:#x}</title></rect>"#,
                    MARGIN + GUTTER + column * CELL,
                    same.len() * CELL,
                    same[0].fill(),
                    same[0],
                    edge(first),
                    edge(first + same.len()),
                );
                column += same.len();
            }
        }
    }
}
