//! Every shape of a report is what its readers take it for, whatever the names are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{HOSTILE, Made, hostile, planned, put, record};
use calve_disk::open::escaped;
use calve_migrate::{Cause, FamilyState, ImageRecord};
use calve_plan::{Kept, Strategy};
use calve_report::{human, write_bag, write_csv, write_html, write_json, write_premis};
use calve_testkit::qemu;
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{StartTag, Token, Tokenizer};
use quick_xml::events::Event;
use serde_json::Value;

type Shape = fn(&calve_report::Report<'_>, &mut dyn std::io::Write) -> calve_report::Result<()>;

fn text(made: &Made, name: &str, shape: Shape) -> String {
    let mut text = Vec::new();
    made.report(name, |report| shape(report, &mut text)).expect("memory");
    String::from_utf8(text).expect("UTF-8")
}

/// The names as they are told.
fn told(made: &Made) -> Vec<String> {
    HOSTILE.iter().map(|name| escaped(made.below(name).as_os_str().as_encoded_bytes())).collect()
}

/// Elements without an end.
const VOID: [&str; 3] = ["br", "input", "meta"];

/// All tokens of a page, which has no error of syntax, and of which each end tag ends what was
/// begun last.
fn tokens(page: &str) -> Vec<Token> {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut open: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let token = token.expect("memory");
        match &token {
            Token::Error(error) => panic!("{error:?} within {open:?}"),
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                if !VOID.contains(&&*name) {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                assert_eq!(open.pop(), Some(name));
            }
            _ => {}
        }
        all.push(token);
    }
    assert_eq!(open, Vec::<String>::new());
    all
}

/// The names of elements and attributes that there are.
fn names(tokens: &[Token]) -> (BTreeSet<String>, BTreeSet<String>) {
    let tags = tokens.iter().filter_map(|token| match token {
        Token::StartTag(tag) => Some(tag),
        _ => None,
    });
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let attributes = |tag: &StartTag<()>| tag.attributes.keys().map(|it| text(it)).collect();
    let attributes = tags.clone().flat_map::<Vec<String>, _>(attributes).collect();
    (tags.map(|tag| text(&tag.name)).collect(), attributes)
}

#[test]
fn the_page_is_well_formed_and_names_are_nothing_but_text_in_it() {
    let made = hostile();
    for file in ["plan", "catalogue"] {
        let tokens = tokens(&text(&made, file, write_html));
        let scripts = tokens
            .iter()
            .filter(|token| matches!(token, Token::StartTag(tag) if &**tag.name == b"script"));
        assert_eq!(scripts.count(), 1);
        assert!(!tokens.iter().any(|token| matches!(token, Token::Comment(_))));
        let (elements, attributes) = names(&tokens);
        for element in ["img", "b", "iframe", "svg", "a", "link"] {
            assert!(!elements.contains(element), "{element}");
        }
        let known =
            ["charset", "class", "content", "data-s", "http-equiv", "id", "lang", "name", "title"];
        let strange = attributes.iter().find(|name| !known.contains(&&***name));
        assert_eq!(strange, None);
        // A name is the text of one element, letter for letter.
        let texts: BTreeSet<String> = tokens
            .iter()
            .filter_map(|token| match token {
                Token::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            })
            .collect();
        for name in told(&made) {
            assert!(texts.contains(&name), "{name}");
        }
    }
}

#[test]
fn csv_has_a_line_for_each_image_and_no_cell_that_is_a_formula() {
    let made = hostile();
    let text = text(&made, "plan", write_csv);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let heads = reader.headers().expect("a head").clone();
    let place = |head: &str| heads.iter().position(|it| it == head).expect("a column");
    let (name, hex) = (place("filename"), place("filename-hex"));
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.iter().map(|row| row[name].to_owned()).collect::<Vec<_>>(), told(&made));
    for (row, bytes) in rows.iter().zip(HOSTILE) {
        for cell in row {
            let first = cell.chars().next().unwrap_or(' ');
            let is_number = cell.parse::<f64>().is_ok();
            assert!(!"=+-@\t\r\n".contains(first) || is_number, "{cell}");
        }
        // What is told can be turned back into the bytes: by the text, or by these.
        let path = made.below(bytes);
        let path = path.as_os_str().as_encoded_bytes();
        let bytes = match row[hex].is_empty() {
            true => row[name].as_bytes().to_vec(),
            false => (0..row[hex].len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&row[hex][at..at + 2], 16).expect("digits"))
                .collect(),
        };
        assert_eq!(bytes, path);
    }
}

#[test]
fn json_says_of_each_image_what_the_run_came_to() {
    let made = hostile();
    let told = told(&made);
    let report: Value = serde_json::from_str(&text(&made, "plan", write_json)).expect("JSON");
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|it| it["filename"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&report["images"]), told);
    let results: Vec<&str> = report["images"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|image| image["result"].as_str().expect("a word"))
        .collect();
    let expected: Vec<&str> = (1..=HOSTILE.len())
        .map(|number| match number {
            3 => "left",
            4 => "not-begun",
            number if number % 3 == 0 => "failed",
            _ => "migrated",
        })
        .collect();
    assert_eq!(results, expected);
    let failed = &report["failed"][0];
    assert_eq!(
        (&failed["cause"], report["failed"].as_array().map(Vec::len)),
        (&"no-space".into(), Some(1))
    );
    let topmost: Vec<String> = [6, 9, 12].map(|number: usize| told[number - 1].clone()).to_vec();
    assert_eq!(names(&failed["families"]), topmost);
    // The reason without the image's name is that of many images.
    assert_eq!(report["left"][0]["reason"], "an image <b>&\u{202e}\x1b[31m");
    // Nothing lies at any of these paths: an original that is gone is missing too.
    let missing = names(&report["certificate"]["remaining"]);
    assert!(told.iter().all(|name| missing.contains(name)));
    let sorted: BTreeSet<&String> = missing.iter().collect();
    assert_eq!(sorted.len(), missing.len(), "a path is told twice");
    assert_eq!(report["certificate"]["given"], false);
}

fn lines(report: &calve_report::Report<'_>) -> String {
    human(report).expect("lines")
}

/// A plan of families of one image, which are left for these reasons.
fn left(reasons: &[&str]) -> Made {
    let made = Made::new();
    made.scan();
    let families = (1..).zip(reasons).map(|(number, reason)| {
        let path = made.below(format!("{number}.qcow").as_bytes());
        let mut family = planned(number, &path, Strategy::Leave);
        family.images[0].reason = (*reason).to_owned();
        family
    });
    made.begin(families.collect(), Kept::Beside);
    made
}

#[test]
fn people_are_told_the_most_frequent_reasons_and_how_many_there_are_beside() {
    let reasons = ["b", "f", "a\x1b[31m", "b", "c", "b", "d", "c", "e", "g"];
    let human = left(&reasons).report("plan", lines);
    let told: Vec<&str> = human.lines().filter(|line| line.contains("because")).collect();
    assert_eq!(told.len(), 5, "{human}");
    assert_eq!((told[0].trim(), told[1].trim()), ("3, because: b", "2, because: c"));
    assert_eq!(told[2].trim(), "1, because: a\\u{1b}[31m");
    assert!(human.contains("\n          and 2 more reasons: --output html\n"), "{human}");
    let human = left(&reasons[..1]).report("plan", lines);
    assert!(human.contains("1, because: b") && !human.contains("more reason"), "{human}");
}

#[test]
fn what_the_file_system_refuses_for_ever_is_planned_in_another_way() {
    for (strategy, command) in [
        (Strategy::Reflink, "calve plan --way convert --save NEW.plan "),
        (Strategy::Convert, "calve migrate "),
    ] {
        let made = Made::new();
        made.scan();
        let path = made.below(b"one.qcow");
        let (journal, run) = made.begin(vec![planned(1, &path, strategy)], Kept::Beside);
        let image = ImageRecord { strategy, ..record(1, &path, None) };
        let failure = Some((Cause::Refused, "makes no clones"));
        put((&journal, &run), FamilyState::Failed, failure, &image);
        made.report("plan", |report| {
            let next = &report.failed[0].next;
            assert!(next.command.starts_with(command), "{}", next.command);
            assert!(next.words.contains("another --way"), "{}", next.words);
        });
    }
}

/// Asserts that a document is what the schema of PREMIS 3 allows, which comes with a package of Python
/// that `scripts/test` unpacks.
fn assert_by_the_schema(document: &str) {
    let schema = "../../target/premis/eulxml/schema_data/premis.xsd";
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join(schema);
    if !qemu::has("xmllint") || !qemu::is_installed(&schema) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("premis.xml");
    std::fs::write(&path, document).expect("a file");
    let mut lint = Command::new("xmllint");
    let lint = lint.args(["--nonet", "--noout", "--schema"]).args([&schema, &path]);
    let said = lint.output().expect("xmllint runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// An element, whether there are others in it, and its text.
struct Met {
    name: String,
    is_parent: bool,
    text: String,
}

/// Asserts what the schema wants, and returns each element that has only text.
fn leaves(document: &str) -> Vec<(String, String)> {
    // XML 1.0 has no escape for what it does not allow.
    let is_allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}')
            || c >= '\u{10000}'
    };
    assert_eq!(document.chars().find(|c| !is_allowed(*c)), None);
    assert_by_the_schema(document);
    let mut reader = quick_xml::Reader::from_str(document);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Met> = Vec::new();
    let mut leaves = Vec::new();
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Start(tag) => {
                let name = tag.name().as_ref().to_owned();
                if let Some(parent) = open.last_mut() {
                    parent.is_parent = true;
                }
                open.push(Met { name, is_parent: false, text: String::new() });
            }
            Event::End(_) => {
                let met = open.pop().expect("an element");
                if !met.is_parent {
                    leaves.push((met.name, met.text));
                }
            }
            Event::Text(text) => {
                open.iter_mut().rev().take(1).for_each(|met| met.text.push_str(&text));
            }
            Event::GeneralRef(reference) => {
                let text = match &*reference {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    "apos" => '\'',
                    _ => reference.resolve_char_ref().expect("a number").expect("a character"),
                };
                open.iter_mut().rev().take(1).for_each(|met| met.text.push(text));
            }
            Event::Decl(_) => {}
            Event::Eof => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(open.is_empty());
    leaves
}

#[test]
fn premis_is_what_its_schema_allows_and_tells_of_all_images() {
    let made = hostile();
    for file in ["plan", "catalogue"] {
        let leaves = leaves(&text(&made, file, write_premis));
        let of = |element: &str| -> Vec<&str> {
            let leaves = leaves.iter().filter(|(name, _)| name == element);
            leaves.map(|(_, text)| &**text).collect()
        };
        assert_eq!(of("originalName"), told(&made));
        // Each migration of 8 images is an event, and so is its validation; each failure is one.
        let count = |kind: &str| of("eventType").iter().filter(|it| **it == kind).count();
        let (failed, migrated) = (3, HOSTILE.len() - 5);
        assert_eq!((count("migration"), count("validation")), (migrated + failed, migrated));
        let outcomes = of("eventOutcome");
        assert_eq!(outcomes.iter().filter(|it| **it == "failure").count(), failed);
        // Whoever is linked to is there.
        let objects: BTreeSet<&str> = of("objectIdentifierValue").into_iter().collect();
        assert_eq!(objects.len(), HOSTILE.len());
        assert!(of("linkingObjectIdentifierValue").iter().all(|it| objects.contains(it)));
        let events = of("eventIdentifierValue");
        assert_eq!(events.iter().collect::<BTreeSet<_>>().len(), events.len());
        assert_eq!(of("agentIdentifierValue"), ["calve"]);
    }
    // Without a plan and without a run there is an object all the same.
    let empty = Made::new();
    let leaves = leaves(&text(&empty, "catalogue", write_premis));
    assert!(leaves.iter().any(|(name, _)| name == "objectIdentifierValue"));
}

#[test]
fn a_bag_is_valid_and_none_is_made_over_anything() {
    let made = hostile();
    let folder = made.file("bag");
    made.report("plan", |report| write_bag(report, &folder)).expect("a bag");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    assert!(made.report("plan", |report| write_bag(report, &folder)).is_err());
    // The payload is the same as each shape by itself.
    for (name, shape) in [
        ("report.html", write_html as Shape),
        ("report.csv", write_csv),
        ("report.json", write_json),
        ("premis.xml", write_premis),
    ] {
        assert!(read(&format!("data/{name}")) == text(&made, "plan", shape), "{name}");
    }
    let octets: u64 = std::fs::read_dir(folder.join("data"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").metadata().expect("there").len())
        .sum();
    assert!(read("bag-info.txt").contains(&format!("\nPayload-Oxum: {octets}.5\n")));
    let disks = read("data/disks.blake3");
    let named: Vec<&str> = disks.lines().map(|line| &line[66..]).collect();
    let told = told(&made);
    let expected: Vec<&String> = told
        .iter()
        .enumerate()
        .filter(|(place, _)| (place + 1) % 3 != 0 && place + 1 != 4)
        .map(|(_, name)| name)
        .collect();
    assert_eq!(named, expected);
    validate(&folder);
}

/// Has the bag judged by the library of the Library of Congress, where that is installed.
fn validate(folder: &PathBuf) {
    let python = |script: &str| {
        std::process::Command::new("python3")
            .args(["-c", script])
            .arg(folder)
            .output()
            .expect("python3")
    };
    if !qemu::has("python3") {
        return;
    }
    if !python("import bagit").status.success() {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "bagit is missing: scripts/test installs it");
        qemu::skipped("python3 has no bagit: a bag was judged by nobody else");
        return;
    }
    let said = python("import bagit, sys; bagit.Bag(sys.argv[1]).validate()");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // It does look: a byte more is a bag that is not valid.
    let mut json = std::fs::File::options()
        .append(true)
        .open(folder.join("data/report.json"))
        .expect("a file");
    std::io::Write::write_all(&mut json, b" ").expect("written");
    assert!(!python("import bagit, sys; bagit.Bag(sys.argv[1]).validate()").status.success());
}
