//! Damage of a known kind: `check` tells of all that the format can show, and of nothing where
//! there is none. `CALVE_PLANTED_CASES` makes it longer, `CALVE_SEED` begins elsewhere.
#![expect(clippy::print_stdout, reason = "its counts are read by people")]

mod common;

use calve_disk::{Error, Finding, Weight};
use calve_testkit::{Kind, seeds};

/// What an image is known by to be damaged: the rule that kept it from being opened, or what
/// `check` finds.
fn rules(image: &[u8]) -> Vec<&'static str> {
    match common::disk(image.to_vec(), None, None).and_then(|disk| common::checked(&disk)) {
        Ok(found) => {
            let matters = |finding: &&Finding| finding.rule.weight() > Weight::Note;
            found.iter().filter(matters).map(|finding| finding.rule.number()).collect()
        }
        Err(Error::Broken { finding, .. }) => vec![finding.rule.number()],
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn planted_damage_is_found_under_its_rule_wherever_the_format_shows_it() {
    for kind in Kind::ALL {
        let seeds = seeds("CALVE_PLANTED_CASES", 16);
        let count = seeds.end - seeds.start;
        for seed in seeds {
            let planted = kind.planted(seed);
            let before = rules(&planted.sound);
            assert!(before.is_empty(), "{}, seed {seed}: {before:?} where all is well", kind.name);
            let found = rules(&planted.image);
            assert!(
                kind.rules.iter().any(|rule| found.contains(rule)),
                "{}, seed {seed}: {found:?} instead of {:?}",
                kind.name,
                kind.rules
            );
        }
        println!("{}: {count} of {count} found, {}", kind.name, kind.rules.join(" or "));
    }
}

#[test]
fn what_leaves_a_legal_image_is_not_called_damage() {
    for kind in Kind::UNTOLD {
        for seed in seeds("CALVE_PLANTED_CASES", 16) {
            let found = rules(&kind.planted(seed).image);
            assert!(found.is_empty(), "{}, seed {seed}: {found:?}", kind.name);
        }
        println!("{}: nothing in the file tells of it", kind.name);
    }
}
