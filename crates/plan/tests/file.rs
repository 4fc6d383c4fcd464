//! Plans as files: what is written is read back, and what was cut is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use calve_plan::{
    Damaged, Error, Family, Head, Image, Kept, PathText, Plan, Rate, Room, Stamp, Strategy, Total,
    Way, Weight, Wishes, read, shards, write,
};

fn image(family: u64, (order, of): (u64, u64), path: &[u8], size: u64) -> Image {
    Image {
        family,
        order,
        of,
        path: PathText(PathBuf::from(OsStr::from_bytes(path))),
        strategy: Strategy::Upgrade,
        reason: "only \"tables\"\nare written".into(),
        class: "v1".into(),
        format: Some("qcow".into()),
        packed: true,
        encrypted: false,
        virtual_size: Some(4096),
        dialect: None,
        producer: Some("QEMU".into()),
        stamp: Stamp { device: 1, inode: u64::MAX, size, modified: -5 },
        base: (order > 1).then(|| PathText("/base".into())),
        base_order: (order > 1).then_some(1),
        base_format: (order > 1).then(|| "qcow2".into()),
        base_moved: false,
        read: 3,
        write: 2,
        extra: 1,
        seconds: [0.005, 0.25],
    }
}

fn plan(families: Vec<Family>) -> Plan {
    let wishes = Wishes {
        way: Way::Upgrade,
        damaged: Damaged::Rescue,
        kept: Kept::Folder(PathText("/kept".into())),
        max_extra: Some(1 << 40),
        window: Some("22:00-06:00".parse().expect("hours")),
        rate: Rate::default(),
    };
    Plan {
        head: Head { version: 1, catalogue: PathText("/catalogue".into()), scan: 7, wishes },
        families,
        rooms: vec![Room { device: 1, read: 9, write: 8, peak_extra: 7 }],
        total: Total { families: 2, version1: 3, ..Total::default() },
    }
}

fn two_families() -> Plan {
    plan(vec![
        Family {
            number: 1,
            images: vec![
                image(1, (1, 2), b"/a/base \xff\xfe.qcow", 100),
                image(1, (2, 2), "/a/ü\n.qcow".as_bytes(), 200),
            ],
        },
        Family { number: 2, images: vec![image(2, (1, 1), b"/b.qcow", 1000)] },
    ])
}

fn text(plan: &Plan) -> String {
    let mut text = Vec::new();
    write(plan, &mut text).expect("memory");
    String::from_utf8(text).expect("JSON is text")
}

fn read_text(text: &str) -> calve_plan::Result<Plan> {
    read(Path::new("plan"), &mut text.as_bytes())
}

/// The line of a refusal, and what it says.
fn refusal(text: &str) -> (usize, String) {
    match read_text(text) {
        Err(Error::Line { line, what, .. }) => (line, what),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_is_written_is_read_back_whatever_the_paths_are() {
    let plan = two_families();
    let text = text(&plan);
    assert_eq!(text.lines().count(), 6);
    assert_eq!(read_text(&text).expect("a plan"), plan);
}

#[test]
fn a_plan_that_was_cut_is_refused_wherever() {
    let whole = text(&two_families());
    for end in 0..whole.len() - 1 {
        if whole.is_char_boundary(end) {
            refusal(&whole[..end]);
        }
    }
}

#[test]
fn a_family_may_be_taken_out_and_moved_and_none_may_lose_an_image() {
    let whole = text(&two_families());
    let lines: Vec<&str> = whole.lines().collect();
    let of = |places: &[usize]| places.iter().map(|at| lines[*at].to_owned() + "\n").collect();
    let without: String = of(&[0, 1, 2, 4, 5]);
    assert_eq!(read_text(&without).expect("a plan").families.len(), 1);
    let moved: String = of(&[0, 3, 1, 2, 4, 5]);
    assert_eq!(read_text(&moved).expect("a plan").families[0].number, 2);
    for (places, line, what) in [
        (&[0, 1, 3, 4, 5][..], 5, "images of family 1 are missing"),
        (&[0, 2, 3, 4, 5], 2, "is not the next"),
        (&[0, 1, 3, 2, 4, 5], 4, "was ended above"),
        (&[0, 0, 5], 2, "second plan"),
        (&[1, 5], 1, "not the first line"),
        (&[0, 5, 5], 3, "behind the total"),
    ] {
        let (at, said) = refusal(&of(places));
        assert!(at == line && said.contains(what), "{places:?}: line {at}: {said}");
    }
}

#[test]
fn unknown_words_and_versions_are_refused() {
    let whole = text(&two_families());
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        ("\"strategy\":\"upgrade\"", "\"strategy\":\"melt\""),
        ("\"of\":2", "\"off\":2"),
        ("\"hex\":\"2f", "\"hex\":\"2"),
        ("\"path\":\"/b", "\"path\":\"b"),
        ("22:00-06:00", "22:00"),
    ] {
        assert!(whole.contains(from), "{from}");
        refusal(&whole.replacen(from, to, 1));
    }
}

#[test]
fn every_family_has_one_worker_and_the_load_is_even() {
    let families: Vec<Family> = (1..=50)
        .map(|number| Family {
            number,
            images: vec![image(number, (1, 1), b"/x", number * number % 97 * 1000)],
        })
        .collect();
    let mut plan = plan(families);
    plan.families[9].images[0].strategy = Strategy::Leave;
    for count in [1, 3, 7, 60] {
        let shards = shards(&plan, count, Weight::Bytes);
        assert_eq!(shards.len(), count);
        let mut all: Vec<usize> = shards.iter().flatten().copied().collect();
        all.sort_unstable();
        let expected: Vec<usize> = (0..50).filter(|place| *place != 9).collect();
        assert_eq!(all, expected, "{count} workers");
        let load = |shard: &Vec<usize>| -> u64 {
            shard.iter().map(|place| plan.families[*place].bytes()).sum()
        };
        let (most, least) = (shards.iter().map(load).max(), shards.iter().map(load).min());
        let heaviest = plan.families.iter().map(Family::bytes).max();
        assert!(most.unwrap() - least.unwrap() <= heaviest.unwrap() + 1, "{count} workers");
    }
}
