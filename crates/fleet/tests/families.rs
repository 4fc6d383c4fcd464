//! Which images belong together, and what is told where one is missing.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use calve_fleet::{
    Catalogue, Confirmed, ContentVotes, Evidence, Family, Hints, How, Why, families,
};
use calve_testkit::{Builder, Random};
use common::{image, options, overlay, scan_into, write};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        write(self.root(), name, bytes)
    }

    /// A file that was written last at this time.
    fn write_at(&self, name: &str, bytes: &[u8], time: u32) {
        let path = self.write(name, bytes);
        let file = File::options().write(true).open(path).expect("opens");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(time.into())).expect("a time");
    }

    fn families(&self) -> Vec<Family> {
        families(&self.catalogue(), &Hints::default()).expect("told")
    }

    fn catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::temporary().expect("memory");
        scan_into(&mut catalogue, &[self.root().to_owned()], &options());
        catalogue
    }

    fn members(&self, family: &Family) -> Vec<String> {
        let name = |path: &Path| {
            path.strip_prefix(self.root()).expect("below").to_string_lossy().into_owned()
        };
        family.members.iter().map(|member| name(&member.path)).collect()
    }
}

const TIME: u32 = 1_200_000_000;

#[test]
fn overlays_come_behind_their_bases_and_unrelated_images_are_apart() {
    let bench = Bench::new();
    bench.write("a-top.qcow", &overlay("mid.qcow", 0));
    bench.write("mid.qcow", &overlay("./bases/../bases/z.raw", 0));
    bench.write("a-other.qcow", &overlay("file:bases/z.raw", 0));
    bench.write("bases/z.raw", &[1; 1 << 20]);
    bench.write("bases/not-in-it.raw", &[1; 1 << 20]);
    bench.write("alone.qcow", &image());
    let families = bench.families();
    assert_eq!(families.len(), 2);
    assert_eq!(bench.members(&families[0]), ["alone.qcow"]);
    let family = &families[1];
    assert_eq!(bench.members(family), ["bases/z.raw", "a-other.qcow", "mid.qcow", "a-top.qcow"]);
    let edges: Vec<_> = family.edges.iter().map(|edge| (edge.overlay, edge.base)).collect();
    assert_eq!(edges, [(1, 0), (2, 0), (3, 2)]);
    assert!(family.edges.iter().all(|edge| edge.how == How::Name));
    assert!(family.broken.is_empty() && family.loops.is_empty() && family.has_version1());
}

#[test]
fn a_moved_base_is_found_where_one_file_clearly_fits() {
    let bench = Bench::new();
    bench.write("vm/over.qcow", &overlay("/old/disks/base.img", TIME));
    bench.write_at("archive/base.img", &[1; 1 << 20], TIME);
    bench.write_at("copies/base.img", &[1; 1 << 20], TIME + 9);
    bench.write_at("other/base.img", &[1; 1 << 19], TIME + 9);
    let families = bench.families();
    assert_eq!(bench.members(&families[0]), ["archive/base.img", "vm/over.qcow"]);
    let edge = &families[0].edges[0];
    assert_eq!(edge.how, How::Moved);
    assert_eq!(
        edge.evidence,
        [
            Evidence::Path { parts: 1 },
            Evidence::Size { is_same: true },
            Evidence::Time { is_same: true }
        ]
    );
    // Under another name it has as much for it as the copies with the name: nobody is clearly it.
    fs::rename(bench.root().join("archive/base.img"), bench.root().join("x")).expect("moved");
    let families = bench.families();
    let family = families.iter().find(|family| !family.broken.is_empty()).expect("broken");
    let best = &family.broken[0].candidates[0];
    assert_eq!((&best.path, best.score), (&bench.root().join("x"), 300));
    fs::remove_file(bench.root().join("copies/base.img")).expect("removed");
    let families = bench.families();
    assert_eq!(bench.members(&families[0]), ["x", "vm/over.qcow"]);
}

#[test]
fn a_broken_edge_has_its_candidates_ranked_with_what_speaks_for_them() {
    let bench = Bench::new();
    bench.write("over.qcow", &overlay("gone/base.img", 0));
    bench.write("a/base.img", &[1; 1 << 19]);
    bench.write("b/base.img", &[1; 1 << 20]);
    bench.write("gone.d/base.img", &[2; 1 << 20]);
    let families = bench.families();
    let broken = &families[0].broken[0];
    assert_eq!(
        (broken.overlay, broken.why, &*broken.name),
        (0, Why::Missing, &b"gone/base.img"[..])
    );
    let names: Vec<_> = broken.candidates.iter().map(|candidate| candidate.path.clone()).collect();
    let expected = ["b/base.img", "gone.d/base.img", "a/base.img"];
    assert_eq!(names, expected.map(|name| bench.root().join(name)));
    assert!(broken.candidates[1].score > broken.candidates[2].score);
    assert!(families[0].edges.is_empty());
    // Nothing at all, and what is never followed.
    bench.write("over.qcow", &overlay("nothing", 0));
    bench.write("nbd.qcow", &overlay("nbd:host:10809", 0));
    let families = bench.families();
    assert_eq!(families[0].broken[0].why, Why::Protocol);
    assert!(families[0].broken[0].candidates.is_empty());
    assert!(families[1].broken[0].why == Why::Missing);
}

#[test]
fn contents_vote_between_files_that_look_alike() {
    let bench = Bench::new();
    let contents = [3, 4].map(|seed| Random::new(seed).number().to_be_bytes());
    let disk = |number: u64| -> Vec<u8> {
        (0..2048u64)
            .flat_map(|sector| {
                let mut bytes = [0u8; 512];
                bytes[..8].copy_from_slice(&contents[usize::try_from(number).expect("small")]);
                bytes[8..16].copy_from_slice(&sector.to_be_bytes());
                bytes
            })
            .collect()
    };
    bench.write("a/base.img", &disk(0));
    bench.write("b/base.img", &disk(1));
    let mut builder = Builder::new(9, 12, 1 << 20).backing(b"gone/base.img");
    for sector in (0..2000usize).step_by(40) {
        builder.plain(sector as u64, &disk(1)[sector * 512..][..512]);
    }
    bench.write("over.qcow", &builder.build());
    assert_eq!(bench.families()[0].broken[0].candidates.len(), 2);
    let votes = ContentVotes::default();
    let families =
        families(&bench.catalogue(), &Hints { votes: Some(&votes), confirmed: &[] }).expect("told");
    assert_eq!(bench.members(&families[0]), ["b/base.img", "over.qcow"]);
    assert_eq!(families[0].edges[0].how, How::Content);
}

#[test]
fn loops_are_told_once_and_end_nothing() {
    let bench = Bench::new();
    bench.write("a", &overlay("b", 0));
    bench.write("b", &overlay("c", 0));
    bench.write("c", &overlay("b", 0));
    bench.write("self", &overlay("self", 0));
    let families = bench.families();
    assert_eq!(families.len(), 2);
    assert_eq!(families[0].loops.len(), 1);
    let mut circle: Vec<String> = families[0].loops[0]
        .iter()
        .map(|place| bench.members(&families[0])[*place].clone())
        .collect();
    circle.sort();
    assert_eq!(circle, ["b", "c"]);
    assert_eq!(families[1].loops, [[0]]);
}

#[test]
fn a_base_with_two_names_is_one_member_of_one_family() {
    let bench = Bench::new();
    let base = bench.write("one.img", &[1; 1 << 20]);
    fs::hard_link(&base, bench.root().join("two.img")).expect("a link");
    let image = bench.write("v1.qcow", &image());
    fs::hard_link(&image, bench.root().join("also.qcow")).expect("a link");
    bench.write("x.qcow", &overlay("one.img", 0));
    bench.write("y.qcow", &overlay("two.img", 0));
    bench.write("z.qcow", &overlay("v1.qcow", 0));
    let families = bench.families();
    assert_eq!(families.len(), 2);
    assert_eq!(bench.members(&families[0]), ["also.qcow", "z.qcow"]);
    assert_eq!(families[0].members[0].names, [bench.root().join("v1.qcow")]);
    assert_eq!(bench.members(&families[1]), ["one.img", "x.qcow", "y.qcow"]);
    assert_eq!(families[1].members[0].names, [bench.root().join("two.img")]);
    assert_eq!(families[1].edges[1].path, bench.root().join("two.img"));
}

#[test]
fn families_within_an_archive_are_joined_there() {
    let bench = Bench::new();
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [("d/over", overlay("../base", 0)), ("base", image())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, &bytes[..]).expect("memory");
    }
    bench.write("all.tar", &builder.into_inner().expect("memory"));
    bench.write("base", &image());
    let families = bench.families();
    assert_eq!(families.len(), 2);
    let members: Vec<_> = families[0].members.iter().map(|member| member.member.clone()).collect();
    assert_eq!(members, [Some(b"base".to_vec()), Some(b"d/over".to_vec())]);
}

#[test]
fn a_name_that_leads_over_symbolic_links_finds_its_base_and_guesses_no_other() {
    let bench = Bench::new();
    let outside = tempfile::tempdir().expect("a folder");
    bench.write("folder/real.qcow", &image());
    bench.write("decoy.qcow", &image());
    std::os::unix::fs::symlink("folder/real.qcow", bench.root().join("current.qcow"))
        .expect("a link");
    bench.write("top.qcow", &overlay("current.qcow", 0));
    let unseen = write(outside.path(), "unseen.qcow", &image());
    std::os::unix::fs::symlink(unseen, bench.root().join("former.qcow")).expect("a link");
    bench.write("other.qcow", &overlay("former.qcow", 0));
    let votes = ContentVotes::default();
    let hints = Hints { votes: Some(&votes), confirmed: &[] };
    let families = families(&bench.catalogue(), &hints).expect("told");
    let of = |name: &str| {
        let has = |family: &&Family| bench.members(family).iter().any(|member| member == name);
        families.iter().find(has).expect("a family")
    };
    assert_eq!(bench.members(of("top.qcow")), ["folder/real.qcow", "top.qcow"]);
    assert_eq!(of("top.qcow").edges[0].how, How::Name);
    assert_eq!(bench.members(of("other.qcow")), ["other.qcow"]);
    assert_eq!(of("other.qcow").broken[0].why, Why::Missing);
}

#[test]
fn a_base_that_is_named_is_the_one_and_what_names_say_is_not_contradicted() {
    let bench = Bench::new();
    let confirmed = |pairs: &[(&str, &str)]| -> Vec<Confirmed> {
        let below = |name: &str| bench.root().join(name);
        let of = |(overlay, base): &(&str, &str)| Confirmed {
            overlay: below(overlay),
            base: below(base),
        };
        pairs.iter().map(of).collect()
    };
    let told = |pairs: &[(&str, &str)]| {
        families(&bench.catalogue(), &Hints { votes: None, confirmed: &confirmed(pairs) })
    };
    bench.write("over.qcow", &overlay("gone.img", TIME));
    bench.write("top.qcow", &overlay("over.qcow", 0));
    bench.write("far.qcow", &overlay("nbd:host:10809", 0));
    // The one that is named has nothing for it, and the other one everything.
    bench.write_at("other/gone.img", &[1; 1 << 20], TIME);
    bench.write("mine.raw", &[2; 1 << 19]);
    fs::hard_link(bench.root().join("mine.raw"), bench.root().join("second.raw")).expect("a name");
    for name in ["mine.raw", "second.raw"] {
        let families = told(&[("over.qcow", name), ("over.qcow", name)]).expect("told");
        let family = families.iter().find(|family| family.members.len() == 3).expect("three");
        assert_eq!(bench.members(family), ["mine.raw", "over.qcow", "top.qcow"]);
        let edge = &family.edges[0];
        assert_eq!((edge.how, &edge.path), (How::Confirmed, &bench.root().join(name)));
    }
    let families = told(&[("far.qcow", "mine.raw")]).expect("told");
    assert!(families.iter().all(|family| family.broken.is_empty()));
    // What the name leads to may be said, and changes nothing.
    let families = told(&[("top.qcow", "over.qcow")]).expect("told");
    let edges: Vec<How> = families.iter().flat_map(|one| &one.edges).map(|edge| edge.how).collect();
    assert!(!edges.contains(&How::Confirmed), "{edges:?}");
    std::os::unix::fs::symlink("/", bench.root().join("link.qcow")).expect("a link");
    bench.write("linked.qcow", &overlay("link.qcow", 0));
    for (pairs, what) in [
        (&[("over.qcow", "not.raw")][..], "no scan into this catalogue has met"),
        (&[("not.qcow", "mine.raw")], "no scan into this catalogue has met"),
        (&[("mine.raw", "over.qcow")], "no backing file, or is no image"),
        (&[("over.qcow", "top.qcow")], "would lie on itself"),
        (&[("over.qcow", "over.qcow")], "would lie on itself"),
        (&[("over.qcow", "far.qcow"), ("far.qcow", "top.qcow")], "would lie on itself"),
        (&[("top.qcow", "mine.raw")], "which QEMU takes"),
        (&[("linked.qcow", "mine.raw")], "leads over a link"),
        (&[("over.qcow", "mine.raw"), ("over.qcow", "far.qcow")], "as its base too"),
    ] {
        let error = told(pairs).expect_err("is refused").to_string();
        assert!(error.contains(what), "{pairs:?}: {error}");
    }
}
