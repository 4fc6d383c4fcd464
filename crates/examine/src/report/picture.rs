//! Pictures: a layout as one SVG or HTML file that needs nothing else, of bounded size.

use std::io::{self, Write};

use calve_disk::Result;
use quick_xml::Writer;
use quick_xml::events::{BytesText, Event};

use super::dfxml::text;
use super::{Report, unwritten};
use crate::layout::{Label, Totals};
use crate::map::{COLUMNS, Cell, Map};

/// Units of the drawing along the side of a cell.
const SIDE: u64 = 12;
/// Units around everything.
const MARGIN: u64 = 16;
/// Units above the map, for the title.
const TITLE: u64 = 56;
/// Units from one line of the legend to the next.
const LINE: u64 = 22;

const WIDTH: u64 = COLUMNS * SIDE;

/// The colours of the labels in the order of [`Label::ALL`], on a light and on a dark ground.
const COLOURS: [(&str, &str); Label::ALL.len()] = [
    ("#a4161a", "#ff6b6b"),
    ("#e4572e", "#ff9770"),
    ("#c2589b", "#f2a0d0"),
    ("#d98e04", "#ffb703"),
    ("#f2c230", "#ffe08a"),
    ("#2f6fb0", "#5aa2e6"),
    ("#1f8a7a", "#3fc7b0"),
    ("#c9ced6", "#4a5058"),
    ("#ff2d95", "#ff5fb0"),
    ("#7a3fb5", "#b48ae8"),
];

/// Writes a layout as a picture: the file row by row, each cell in the colour of the label that
/// most of its bytes bear, padding aside. No script, no font and no network is needed for it.
///
/// # Errors
/// As of [`crate::layout()`], and where `out` fails.
pub fn write_svg(report: &Report, out: &mut dyn Write) -> Result<()> {
    let map = Map::new(report.image)?;
    let mut xml = Writer::new_with_indent(io::BufWriter::new(out), b' ', 1);
    svg(report, &map, &mut xml).and_then(|()| end(&mut xml)).map_err(unwritten)
}

/// Writes a layout as a page: the picture of [`write_svg`], and the totals as a table. No script
/// and no network is needed for it.
///
/// # Errors
/// As of [`crate::layout()`], and where `out` fails.
pub fn write_html(report: &Report, out: &mut dyn Write) -> Result<()> {
    let map = Map::new(report.image)?;
    let mut xml = Writer::new_with_indent(io::BufWriter::new(out), b' ', 1);
    html(report, &map, &mut xml).and_then(|()| end(&mut xml)).map_err(unwritten)
}

fn end<W: Write>(xml: &mut Writer<W>) -> io::Result<()> {
    xml.get_mut().write_all(b"\n")?;
    xml.get_mut().flush()
}

fn title(report: &Report) -> String {
    text(&format!("Layout of {}", report.name()))
}

/// What a cell stands for, in a few words.
fn scale(map: &Map) -> String {
    format!("{} bytes in all; each cell is {} bytes", map.totals.file_size, map.cell_length)
}

fn svg<W: Write>(report: &Report, map: &Map, xml: &mut Writer<W>) -> io::Result<()> {
    let told: Vec<Label> = told(&map.totals).collect();
    let legend = TITLE + rows(map) * SIDE + MARGIN;
    let height = legend + (told.len() as u64 + 1) * LINE + MARGIN;
    let width = WIDTH + 2 * MARGIN;
    xml.create_element("svg")
        .with_attributes([
            ("xmlns", "http://www.w3.org/2000/svg"),
            ("viewBox", &format!("0 0 {width} {height}")),
            ("width", &width.to_string()),
            ("height", &height.to_string()),
            ("role", "img"),
        ])
        .write_inner_content(|xml| {
            element("title", &title(report), xml)?;
            element("style", &style(), xml)?;
            rectangle(xml, "ground", [0, 0, width, height], None)?;
            words(xml, "name", MARGIN, 26, &title(report))?;
            words(xml, "quiet", MARGIN, 45, &scale(map))?;
            cells(map, TITLE, xml)?;
            for (number, label) in (0..).zip(told) {
                let y = legend + number * LINE;
                let class = format!("cell c{}", label.number());
                rectangle(xml, &class, [MARGIN, y, SIDE, SIDE], None)?;
                let line = format!("{}: {}", label.words(), share(&map.totals, label));
                words(xml, "", MARGIN + 2 * SIDE, y + 11, &line)?;
            }
            let y = legend + height_of_legend(&map.totals);
            words(xml, "quiet", MARGIN, y + 11, &notes(&map.totals))
        })?;
    Ok(())
}

fn height_of_legend(totals: &Totals) -> u64 {
    told(totals).count() as u64 * LINE
}

fn html<W: Write>(report: &Report, map: &Map, xml: &mut Writer<W>) -> io::Result<()> {
    xml.write_event(Event::DocType(BytesText::from_escaped("html")))?;
    let height = rows(map) * SIDE;
    let frame = format!("{MARGIN} 0 {WIDTH} {height}");
    xml.create_element("html").with_attribute(("lang", "en")).write_inner_content(|xml| {
        xml.create_element("head").write_inner_content(|xml| {
            xml.create_element("meta").with_attribute(("charset", "utf-8")).write_empty()?;
            xml.create_element("meta")
                .with_attributes([
                    ("name", "viewport"),
                    ("content", "width=device-width, initial-scale=1"),
                ])
                .write_empty()?;
            element("title", &title(report), xml)?;
            element("style", &style(), xml)
        })?;
        xml.create_element("body").write_inner_content(|xml| {
            element("h1", &title(report), xml)?;
            element("p", &scale(map), xml)?;
            xml.create_element("svg")
                .with_attributes([("viewBox", frame.as_str()), ("role", "img")])
                .write_inner_content(|xml| cells(map, 0, xml))?;
            table(&map.totals, xml)?;
            element("p", &notes(&map.totals), xml)
        })?;
        Ok(())
    })?;
    Ok(())
}

fn table<W: Write>(totals: &Totals, xml: &mut Writer<W>) -> io::Result<()> {
    xml.create_element("table").write_inner_content(|xml| {
        for label in told(totals) {
            xml.create_element("tr").write_inner_content(|xml| {
                xml.create_element("td").write_inner_content(|xml| {
                    xml.create_element("svg")
                        .with_attributes([("class", "swatch"), ("viewBox", "0 0 12 12")])
                        .write_inner_content(|xml| {
                            let class = format!("cell c{}", label.number());
                            rectangle(xml, &class, [0, 0, SIDE, SIDE], None)
                        })
                        .map(drop)
                })?;
                element("td", label.words(), xml)?;
                element("td", &share(totals, label), xml)
            })?;
        }
        Ok(())
    })?;
    Ok(())
}

fn told(totals: &Totals) -> impl Iterator<Item = Label> {
    Label::ALL.into_iter().filter(|label| totals.of(*label) > 0)
}

fn rows(map: &Map) -> u64 {
    (map.cells.len() as u64).div_ceil(COLUMNS)
}

fn share(totals: &Totals, label: Label) -> String {
    let bytes = totals.of(label);
    // In hundredths of a percent; the product of two file sizes would not fit in 64 bits.
    let part = u128::from(bytes) * 10_000 / u128::from(totals.file_size.max(1));
    format!("{bytes} bytes, {}.{:02} %", part / 100, part % 100)
}

fn notes(totals: &Totals) -> String {
    let mut text = match totals.shared {
        0 => "No byte is claimed more than once.".to_owned(),
        shared => format!("Framed cells: {shared} bytes in all are claimed more than once."),
    };
    if totals.behind_end > 0 {
        text += &format!(" Claims reach {} bytes behind the end.", totals.behind_end);
    }
    text
}

fn cells<W: Write>(map: &Map, top: u64, xml: &mut Writer<W>) -> io::Result<()> {
    for (number, count, cell) in map.strips() {
        let (column, row) = (number % COLUMNS, number / COLUMNS);
        let shared = if cell.is_shared { " shared" } else { "" };
        let class = format!("cell c{}{shared}", cell.dominating().number());
        let place = [MARGIN + column * SIDE, top + row * SIDE, count * SIDE, SIDE];
        rectangle(xml, &class, place, Some(&told_of(map, number, count, &cell)))?;
    }
    Ok(())
}

/// The host range of some cells, and what is in them.
fn told_of(map: &Map, number: u64, count: u64, cell: &Cell) -> String {
    let start = number * map.cell_length;
    let end = (start + count * map.cell_length).min(map.totals.file_size);
    let mut text = format!("{start:#x} to {end:#x}");
    for label in Label::ALL {
        let bytes = cell.bytes[label.number()];
        if bytes > 0 {
            text += &format!("; {}: {bytes}", label.words());
        }
    }
    text
}

fn rectangle<W: Write>(
    xml: &mut Writer<W>,
    class: &str,
    place: [u64; 4],
    title: Option<&str>,
) -> io::Result<()> {
    let [x, y, width, height] = place.map(|number| number.to_string());
    let drawn = xml.create_element("rect").with_attributes([
        ("class", class),
        ("x", &x),
        ("y", &y),
        ("width", &width),
        ("height", &height),
    ]);
    match title {
        Some(title) => drawn.write_inner_content(|xml| element("title", title, xml))?,
        None => drawn.write_empty()?,
    };
    Ok(())
}

fn words<W: Write>(
    xml: &mut Writer<W>,
    class: &str,
    x: u64,
    y: u64,
    content: &str,
) -> io::Result<()> {
    xml.create_element("text")
        .with_attributes([("class", class), ("x", &x.to_string()), ("y", &y.to_string())])
        .write_text_content(BytesText::new(content))
        .map(drop)
}

fn element<W: Write>(name: &str, content: &str, xml: &mut Writer<W>) -> io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(content)).map(drop)
}

/// The style sheet. None of its characters has a meaning in XML or HTML.
fn style() -> String {
    let colours = |is_dark: bool| -> String {
        let rules = (0..).zip(COLOURS).map(|(number, (light, dark)): (u32, _)| {
            format!(".c{number}{{fill:{}}}", if is_dark { dark } else { light })
        });
        rules.collect()
    };
    format!(
        ":root{{color-scheme:light dark}}\
         body{{margin:2rem auto;max-width:60rem;padding:0 1rem;font:15px sans-serif;\
         background:#fff;color:#1b1f24}}\
         h1{{font-size:1.3rem;overflow-wrap:anywhere}}\
         td{{padding:.15rem .8rem .15rem 0}}.swatch{{width:12px;height:12px}}\
         .ground{{fill:#fff}}text{{fill:#1b1f24;font:14px sans-serif}}\
         .name{{font-size:18px;font-weight:bold}}.quiet{{fill:#57606a}}\
         .cell{{stroke:#fff;stroke-width:.5}}.shared{{stroke:#d00000;stroke-width:2}}{}\
         @media (prefers-color-scheme:dark){{body{{background:#14171b;color:#e6e9ed}}\
         .ground{{fill:#14171b}}text{{fill:#e6e9ed}}.quiet{{fill:#9aa4ae}}\
         .cell{{stroke:#14171b}}.shared{{stroke:#ff4d4d}}{}}}",
        colours(false),
        colours(true)
    )
}
