//! The documents say of the code what the code says of itself.

use std::path::Path;

use calve_disk::Rule;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_rule_is_explained_once_under_its_number() {
    let (first, second) = (document("docs/qcow1.md"), document("docs/qcow2-read.md"));
    for rule in Rule::ALL {
        let number = rule.number();
        let count = match number.as_bytes()[0] {
            b'V' => second.matches(&format!("\n| {number} | ")).count(),
            _ => first.matches(&format!("\n### {number}: ")).count(),
        };
        assert_eq!(count, 1, "{number}");
    }
    let headings = first.lines().filter(|line| line.starts_with("### Q")).count();
    assert_eq!(headings, 40, "numbers without a gap");
}

#[test]
fn every_rule_for_sources_has_its_row() {
    let text = document("docs/sources.md");
    for rule in calve_sources::Rule::ALL {
        assert_eq!(text.matches(&format!("\n| {rule} | ")).count(), 1, "{rule}");
    }
    assert_eq!(text.matches("\n| S").count(), calve_sources::Rule::ALL.len());
}

#[test]
fn every_dependency_earns_a_line() {
    let hacking = document("HACKING.md");
    let manifest = document("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).expect("a section");
    let section = section.split("\n[").next().expect("a section");
    let names = section.lines().filter_map(|line| line.split(" = ").next());
    for name in names.filter(|name| !name.is_empty() && !name.starts_with("calve-")) {
        let is_told = hacking.contains(name);
        assert!(is_told, "HACKING.md says nothing of {name}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in [
        "README.md",
        "HACKING.md",
        "docs/architecture.md",
        "docs/qcow1.md",
        "docs/qcow2-read.md",
        "docs/qcow2-written.md",
        "docs/performance.md",
        "docs/upgrade.md",
        "docs/store.md",
        "docs/rescue.md",
        "docs/rebuild.md",
        "docs/references.md",
        "docs/untrusted.md",
        "docs/evidence.md",
        "docs/examine.md",
        "docs/fleet.md",
        "docs/migrate.md",
        "docs/cluster.md",
        "docs/sources.md",
        "docs/reliability.md",
    ] {
        let text = document(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(name).parent().expect("a folder");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(file);
            assert!(path.exists(), "{name}: {link}");
            let other = if file.is_empty() {
                text.clone()
            } else {
                std::fs::read_to_string(path).unwrap_or_default()
            };
            let mut headings = other.lines().filter(|line| line.starts_with('#')).map(anchor);
            assert!(heading.is_empty() || headings.any(|it| it == heading), "{name}: {link}");
        }
    }
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|character| character.is_alphanumeric() || *character == '-').collect()
}

#[test]
fn every_file_of_the_sources_has_its_line_in_the_architecture() {
    let text = document("docs/architecture.md");
    let crates = [
        "confine",
        "convert",
        "disk",
        "evidence",
        "examine",
        "fleet",
        "fuzzing",
        "migrate",
        "plan",
        "rebuild",
        "references",
        "report",
        "rescue",
        "scan",
        "sources",
        "store",
        "upgrade",
    ]
    .map(|name| format!("crates/{name}/src"));
    for folder in crates.into_iter().chain(["src".to_owned()]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder);
        for entry in std::fs::read_dir(path).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            let is_root = matches!(
                name.as_str(),
                "main.rs" | "lib.rs" | "command.rs" | "error.rs" | "options.rs" | "run.rs"
            );
            assert!(is_root || text.contains(&name), "{folder}/{name} has no line");
        }
    }
}
