//! Rates over size as a picture, both axes logarithmic.

use super::figures::{Curve, size};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 300.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 56.0;

/// Colours of Okabe and Ito, which stay distinct for colour-blind people.
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"];

/// A self-contained SVG document.
pub(super) fn render(title: &str, caution: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let logs = |values: Vec<f64>| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min).log2().floor();
        let high = values.iter().copied().fold(1.0, f64::max).log2().ceil();
        (low, high.max(low + 1.0))
    };
    let across = logs(points().map(|&(bytes, _)| bytes as f64).collect());
    let up = logs(points().map(|&(_, rate)| rate.max(1.0)).collect());
    let x = |bytes: f64| LEFT + (bytes.log2() - across.0) / (across.1 - across.0) * (WIDTH - LEFT - RIGHT);
    let y =
        |rate: f64| HEIGHT - BOTTOM - (rate.max(1.0).log2() - up.0) / (up.1 - up.0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n<title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n<text x=\"16\" y=\"28\" font-size=\"16\">{title}</text>\n"
    );
    // Writing to a string does not fail.
    if !caution.is_empty() {
        let _ = writeln!(svg, "<text x=\"16\" y=\"48\" fill=\"#d55e00\">{caution}</text>");
    }
    for power in (across.0 as i32)..=(across.1 as i32) {
        let bytes = 2f64.powi(power);
        let at = x(bytes);
        grid_line(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM));
        if power % 4 == 0 {
            label(&mut svg, (at, HEIGHT - BOTTOM + 20.0), "middle", &size(bytes as u64));
        }
    }
    for power in (up.0 as i32)..=(up.1 as i32) {
        let rate = 2f64.powi(power);
        let at = y(rate);
        grid_line(&mut svg, (LEFT, at), (WIDTH - RIGHT, at));
        if power % 2 == 0 {
            label(&mut svg, (LEFT - 8.0, at + 4.0), "end", &format!("{}/s", size(rate as u64)));
        }
    }
    for (index, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        // Beyond the colours there are, and for memory in small pages, lines are dashed.
        let dash = if index >= COLOURS.len() { " stroke-dasharray=\"6 4\"" } else { "" };
        let path: Vec<String> =
            points.iter().map(|&(bytes, rate)| format!("{:.1},{:.1}", x(bytes as f64), y(rate))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash} points=\"{}\"><title>{name}</title></polyline>",
            path.join(" ")
        );
        let row = TOP + 12.0 + 22.0 * index as f64;
        let _ = writeln!(
            svg,
            "<line x1=\"{0}\" y1=\"{row}\" x2=\"{1}\" y2=\"{row}\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/><text x=\"{2}\" y=\"{3}\">{name}</text>",
            WIDTH - RIGHT + 16.0,
            WIDTH - RIGHT + 44.0,
            WIDTH - RIGHT + 52.0,
            row + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid_line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#e4e4e4\"/>"
    );
}

fn label(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_lie_inside_and_are_named() {
        let curves = vec![
            ("prefetch".to_owned(), vec![(4096, 1e6), (1 << 30, 16e9)]),
            ("copy".to_owned(), vec![(4096, 0.0), (1 << 20, 2e9)]),
        ];
        let svg = render("xe0", "NOT hardware figures", &curves);
        assert!(
            svg.contains("NOT hardware figures")
                && svg.contains(">prefetch</text>")
                && svg.ends_with("</svg>\n")
        );
        assert_eq!(svg.matches("<polyline").count(), 2);
        for points in svg.split("points=\"").skip(1) {
            for point in points.split('"').next().unwrap().split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!(
                    (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y),
                    "{point}"
                );
            }
        }
    }
}
