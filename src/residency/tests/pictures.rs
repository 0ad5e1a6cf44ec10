//! Residency as text and as a picture.

use super::model::{Mapping, Model, Page};
use crate::range::{PageRange, page_size};
use crate::residency::scanner::Engine;
use crate::residency::{Place, Residency};

fn scanned(content: &[Page]) -> Residency {
    let range = PageRange::new(16 * page_size(), content.len() as u64 * page_size()).unwrap();
    let mut residency = Residency::new();
    let mut engine = Engine::new(Model::new(vec![Mapping::anonymous(16, content)])).unwrap();
    engine.scan(range, &mut residency).unwrap();
    residency
}

fn every_place() -> Residency {
    use Page::{Absent, Device, DeviceHuge, Guard, Huge, SwapCached, Swapped, System, Zero};
    scanned(&[System, Huge, Zero, Absent, Guard, Device, DeviceHuge, Swapped, SwapCached, SwapCached])
}

#[test]
fn a_bar_has_a_character_for_each_place() {
    assert_eq!(every_place().bar(10).to_string(), "▒▒░·#??s??");
    assert_eq!(every_place().bar(20).to_string().chars().count(), 20);
    assert_eq!(every_place().bar(0).to_string(), "");
    assert_eq!(Residency::new().bar(10).to_string(), "");
    assert_eq!(scanned(&[Page::Device, Page::System, Page::Absent]).bar(3).to_string(), "█▒·");
}

#[test]
fn colours_are_off_unless_asked_for_and_always_end() {
    let bar = scanned(&[Page::Device, Page::Device, Page::System]).bar(3);
    assert!(!bar.to_string().contains('\x1b'));
    assert_eq!(bar.coloured(true).to_string(), "\x1b[32m██\x1b[34m▒\x1b[0m");
    assert_eq!(Residency::new().bar(3).coloured(true).to_string(), "");
}

#[test]
fn the_summary_line_names_what_there_is() {
    let page = page_size();
    if page != 4096 {
        return;
    }
    let text = scanned(&[Page::Device, Page::Device, Page::System, Page::Huge]).to_string();
    assert_eq!(
        text,
        "16 KiB at [0x10000, 0x14000): device 8 KiB (50 %), system 8 KiB (50 %) of which 4 KiB in huge pages"
    );
    let doubtful = every_place().to_string();
    assert!(doubtful.ends_with("; exactly 8 KiB are on a device"), "{doubtful}");
    assert_eq!(Residency::new().to_string(), "not scanned");
}

/// Checks the nesting of tags, and gives the attributes of each `rect` of a cell: x, y, width.
fn cells_of(svg: &str) -> Vec<(u64, u64, u64)> {
    let mut open = Vec::new();
    let mut cells = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').expect("each tag ends");
        let name = inside.split([' ', '/']).next().unwrap();
        if let Some(closed) = inside.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "tags nest");
        } else if !inside.ends_with('/') {
            open.push(name);
            if name == "rect" {
                let number = |attribute: &str| {
                    let (_, rest) = inside.split_once(&format!(" {attribute}=\"")).unwrap();
                    rest.split('"').next().unwrap().parse::<u64>().unwrap()
                };
                cells.push((number("x"), number("y"), number("width")));
            }
        }
    }
    assert!(open.is_empty(), "all tags are closed");
    cells
}

#[test]
fn a_picture_is_whole_and_says_in_words_what_it_shows() {
    let residency = every_place();
    let svg = residency.to_svg();
    cells_of(&svg);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    assert!(svg.contains("role=\"img\"") && svg.contains("<title id="));
    assert!(svg.contains(&format!("<desc id=\"residency-description\">{residency}</desc>")));
    for place in Place::ALL.into_iter().filter(|&place| residency.summary().bytes(place) > 0) {
        assert!(svg.contains(&format!(">{place}: ")), "the legend lacks {place}");
    }
    assert!(!svg.contains("href") && !svg.contains("url("), "nothing is fetched from elsewhere");
}

#[test]
fn cells_of_a_picture_fill_their_rows() {
    for count in [1, 255, 256, 257, 8192, 8193, 20_000usize] {
        let content: Vec<Page> =
            (0..count).map(|i| if i / 3 % 2 == 0 { Page::System } else { Page::Absent }).collect();
        let cells = cells_of(&scanned(&content).to_svg());
        let per_cell = count.div_ceil(8192);
        let total: u64 = cells.iter().map(|cell| cell.2).sum();
        assert_eq!(total, 3 * (count.div_ceil(per_cell)) as u64, "{count} pages");
        for pair in cells.windows(2).filter(|pair| pair[0].1 == pair[1].1) {
            assert_eq!(pair[0].0 + pair[0].2, pair[1].0, "no gap and no overlap in a row");
        }
    }
    assert!(cells_of(&Residency::new().to_svg()).is_empty());
    assert!(Residency::new().to_svg().contains("Residency of nothing"));
}

/// The value of an attribute, of each tag of this name, in order.
fn attribute(svg: &str, tag: &str, name: &str) -> Vec<u64> {
    let tags = svg.split('<').filter_map(|rest| rest.strip_prefix(tag)?.split('>').next());
    let value = |inside: &str| {
        let (_, rest) = inside.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()?.parse().ok()
    };
    tags.filter_map(value).collect()
}

#[test]
fn rows_and_legend_of_a_picture_lie_below_each_other_and_within_it() {
    for count in [1, 257, 1000usize] {
        let content: Vec<Page> =
            (0..count).map(|i| if i % 300 < 200 { Page::System } else { Page::Device }).collect();
        let residency = scanned(&content);
        let svg = residency.to_svg();
        let height = attribute(&svg, "svg", "height")[0];
        // The title, the addresses of the rows, and the entries of the legend: where their letters stand.
        let lines = attribute(&svg, "text", "y");
        let places = Place::ALL.into_iter().filter(|&place| residency.summary().bytes(place) > 0).count();
        assert_eq!(lines.len(), 1 + count.div_ceil(256) + places);
        assert!(lines.windows(2).all(|pair| pair[1] - pair[0] >= 14), "no two touch: {lines:?}");
        assert!((16..=60).contains(&(height - lines[lines.len() - 1])), "{lines:?} of {height}");
        // Background, cells, and the squares of the legend, each beside its words.
        let squares = attribute(&svg, "rect", "y");
        for (square, words) in squares[squares.len() - places..].iter().zip(&lines[lines.len() - places..]) {
            assert!(square < words && *words <= square + 14, "{square} {words}");
        }
        let columns = attribute(&svg, "text", "x");
        let edges = attribute(&svg, "rect", "x");
        let widths = attribute(&svg, "rect", "width");
        assert!(columns[columns.len() - places..].iter().all(|&x| x >= edges[edges.len() - 1] + 14));
        assert!(
            edges.iter().zip(&widths[1..]).all(|(x, width)| x + width <= widths[0]),
            "within the picture"
        );
        // The cells begin at the same place in each row, right of the addresses.
        let first = edges.iter().copied().max_by_key(|&x| (x == 144, 0)).unwrap();
        assert_eq!(first, 144);
    }
}

#[test]
fn the_titles_of_the_cells_name_all_of_the_range_in_order() {
    let content: Vec<Page> =
        (0..1000).map(|i| if i % 300 < 200 { Page::System } else { Page::Device }).collect();
    let residency = scanned(&content);
    let svg = residency.to_svg();
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let mut at = residency.range().unwrap().start();
    for title in svg.split("<title>").skip(1) {
        let (_, addresses) = title.split("</title>").next().unwrap().split_once(" at ").unwrap();
        let (start, end) = addresses.split_once(" to ").unwrap();
        assert_eq!(number(start), at);
        at = number(end);
    }
    assert_eq!(at, residency.range().unwrap().end());
}
