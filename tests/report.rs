//! `report`: from a scan to a run, what is told of it in every shape, and when it can be said that
//! no version 1 image remains.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::browser::Browser;
use crate::common::made::{self, many};
use crate::common::{Bench, image, program};
use crate::migrate::{scan_and_plan, two_families};
use calve_testkit::{Builder, qemu};

/// A bench with a catalogue of a chain, a single image, a damaged one and a qcow2 image.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.file("tree/chain")).expect("a folder");
    let (v1, _) = image();
    let mut over = Builder::new(12, 9, 1 << 20).backing(b"a.qcow");
    over.plain(5, &[9; 4096]);
    for (name, bytes) in [
        ("tree/alone <b>&.img", &v1[..]),
        ("tree/chain/a.qcow", &v1),
        ("tree/chain/b.qcow", &over.build()),
        ("tree/cut.qcow", &v1[..v1.len() - 5000]),
    ] {
        bench.write(name, bytes);
    }
    bench.ok(&["create", "-q", "-f", "qcow2", "tree/new.qcow2", "1M"]);
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    bench
}

fn report(bench: &Bench, words: &[&str]) -> Value {
    bench.ok(&[&["report", "--output", "json"], words].concat()).json()
}

/// What speaks against a certificate: reasons and names.
fn remaining(report: &Value) -> Vec<(String, String)> {
    let all = report["certificate"]["remaining"].as_array().expect("a list");
    let of = |it: &Value| {
        let path = it["filename"].as_str().expect("a name");
        let name = path.split_once("/tree/").map_or(path, |(_, name)| name);
        (it["reason"].as_str().expect("a word").to_owned(), name.to_owned())
    };
    all.iter().map(of).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(reason, name)| ((*reason).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn a_certificate_is_given_when_and_only_when_no_version_1_image_remains() {
    let bench = bench();
    let before = report(&bench, &["catalogue"]);
    assert_eq!(before["certificate"]["given"], false);
    assert_eq!(before["certificate"]["version1"], 4);
    assert_eq!(before["run"], Value::Null);
    bench.ok(&["plan", "-q", "catalogue", "--save", "p.plan", "--way", "convert"]);
    assert_eq!(report(&bench, &["p.plan"])["results"]["not-begun"]["count"], 3);
    bench.ok(&["migrate", "-q", "p.plan"]);
    // Originals are version 1 images, and so is what the plan leaves.
    let after = report(&bench, &["p.plan"]);
    assert_eq!(after["results"]["migrated"]["count"], 3);
    assert_eq!(
        remaining(&after),
        pairs(&[
            ("v1", "cut.qcow"),
            ("v1-original", "alone <b>&.img.calve-original"),
            ("v1-original", "chain/a.qcow.calve-original"),
            ("v1-original", "chain/b.qcow.calve-original"),
        ])
    );
    let said = bench.run(&["report", "--watch-exit", "catalogue"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.out.contains("4 version 1 images remain."), "{}", said.out);
    // The command that is told for originals is the one that helps.
    let command = after["certificate"]["next"]["v1-original"]["command"].as_str().expect("a text");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    bench.ok(&[&words[..], &["-q"]].concat());
    // It became qcow2 elsewhere: whoever did that may have kept what it was, so somebody has to scan.
    bench.run(&[
        "convert",
        "-q",
        "--salvage=zeros",
        "--force",
        "-O",
        "qcow2",
        "tree/cut.qcow",
        "cut",
    ]);
    fs::rename(bench.file("cut"), bench.file("tree/cut.qcow")).expect("renamed");
    let unknown = report(&bench, &["catalogue", "--run", "1"]);
    assert_eq!(remaining(&unknown), pairs(&[("changed", "cut.qcow")]));
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    let clean = report(&bench, &["catalogue", "--run", "1"]);
    assert_eq!(remaining(&clean), pairs(&[]), "{clean}");
    assert_eq!(clean["certificate"]["given"], true);
    bench.ok(&["report", "--watch-exit", "p.plan"]);
    smuggled(&bench);
}

/// Whatever is wrong at a path that is known, there is no certificate.
fn smuggled(bench: &Bench) {
    let (v1, _) = image();
    let good = bench.read("tree/chain/a.qcow");
    bench.write("tree/chain/a.qcow", &v1);
    assert_eq!(remaining(&report(bench, &["p.plan"])), pairs(&[("v1", "chain/a.qcow")]));
    fs::remove_file(bench.file("tree/chain/a.qcow")).expect("removed");
    assert_eq!(remaining(&report(bench, &["p.plan"])), pairs(&[("missing", "chain/a.qcow")]));
    std::os::unix::fs::symlink("b.qcow", bench.file("tree/chain/a.qcow")).expect("a link");
    assert_eq!(remaining(&report(bench, &["p.plan"])), pairs(&[("no-file", "chain/a.qcow")]));
    fs::remove_file(bench.file("tree/chain/a.qcow")).expect("removed");
    bench.write("tree/chain/a.qcow", &good);
    assert_eq!(report(bench, &["p.plan"])["certificate"]["given"], true);
    // A new image at a path that nobody knows is met by the next scan.
    bench.write("tree/other.qcow", &v1);
    assert_eq!(report(bench, &["p.plan"])["certificate"]["given"], true);
    bench.ok(&["scan", "-q", "--catalogue", "catalogue", "tree"]);
    assert_eq!(remaining(&report(bench, &["p.plan"])), pairs(&[("v1", "other.qcow")]));
}

#[test]
fn a_run_that_was_taken_back_is_told_as_such() {
    let bench = bench();
    bench.ok(&["plan", "-q", "catalogue", "--save", "p.plan"]);
    bench.ok(&["migrate", "-q", "p.plan"]);
    let migrated = report(&bench, &["p.plan"]);
    assert_eq!(migrated["images"][0]["way-back"], "undo-record");
    assert_eq!(remaining(&migrated), pairs(&[("v1", "cut.qcow")]));
    bench.ok(&["migrate", "-q", "--undo", "1", "p.plan"]);
    let undone = report(&bench, &["p.plan"]);
    assert_eq!(undone["results"]["undone"]["count"], 3);
    assert_eq!(undone["certificate"]["version1"], 4);
    assert!(undone["run"]["undone"].is_string(), "{}", undone["run"]);
}

/// Runs a command that a report tells, as somebody would type it in any folder.
fn typed(command: &Value) {
    let script = command.as_str().expect("a command").replace("calve ", &format!("{} ", program()));
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &script]).current_dir("/").output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn shards_are_told_of_as_one_run_by_what_each_worker_did() {
    let bench = two_families();
    scan_and_plan(&bench, &["--way", "convert"]);
    let whole = || report(&bench, &["--journal", "plan.shards", "plan"]);
    let work = ["work", "-q", "--plan", "plan", "--shard"];
    bench.ok(&[&work[..], &["0/2"]].concat());
    let first = whole();
    let counts = |report: &Value| {
        let of = |word: &str| report["results"][word]["count"].as_u64().unwrap_or(0);
        (of("migrated"), of("failed"), of("not-begun"))
    };
    let (migrated, failed, rest) = counts(&first);
    assert!(migrated > 0 && failed == 0 && rest > 0 && migrated + rest == 4, "{first}");
    assert_eq!(first["run"]["ended"], Value::Null, "one shard was not begun");
    // The other one fails, and what is told to be typed then ends it.
    bench.fails(11, "", &[&work[..], &["1/2", "--after", "exit 3"]].concat());
    let second = whole();
    assert_eq!(counts(&second), (migrated, rest, 0));
    assert_eq!(second["run"]["ended"], Value::Null, "a family failed");
    typed(&second["failed"][0]["command"]);
    let third = whole();
    assert_eq!(counts(&third), (4, 0, 0));
    assert!(third["run"]["ended"].is_string());
    let mut told: Vec<&Value> = third["images"].as_array().expect("images").iter().collect();
    told.sort_by_key(|image| (image["family"].as_u64(), image["order"].as_u64()));
    let mut done: Vec<Value> = (0..2)
        .flat_map(|shard| {
            let text =
                fs::read_to_string(bench.file(&format!("plan.shards/shard-{shard}-of-2.report")));
            let lines = text.expect("a report");
            let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            lines.filter(|line: &Value| line["kind"] == "image").collect::<Vec<_>>()
        })
        .collect();
    done.sort_by_key(|image| (image["family"].as_u64(), image["order"].as_u64()));
    assert_eq!(told.len(), done.len());
    for (told, done) in told.iter().zip(&done) {
        assert!(done["digest"].is_string());
        assert_eq!((&told["disk-blake3"], &told["filename"]), (&done["digest"], &done["path"]));
    }
    // Originals are what speaks against a certificate, until all shards give them up.
    assert_eq!(third["certificate"]["version1"], 4);
    let command = &third["certificate"]["next"]["v1-original"]["command"];
    // One that has to wait ends with a code of its own, and keeps no other from it.
    assert!(
        command.as_str().is_some_and(|it| it.contains("; ") && !it.contains("&&")),
        "{command}"
    );
    typed(command);
    assert_eq!(remaining(&whole()), pairs(&[]));
    // The folder of another plan says nothing of this one.
    bench.ok(&["plan", "-q", "catalogue", "--save", "other", "--way", "upgrade"]);
    bench.fails(18, "another plan", &["report", "--journal", "plan.shards", "other"]);
    let why = "not the folder of a plan's shards";
    bench.fails(18, why, &["report", "--journal", "tree", "plan"]);
}

#[test]
fn every_shape_is_the_same_each_time_and_nothing_is_touched() {
    let bench = bench();
    bench.ok(&["plan", "-q", "catalogue", "--save", "p.plan"]);
    bench.ok(&["migrate", "-q", "p.plan"]);
    let before = (bench.read("catalogue"), bench.names());
    let human = bench.ok(&["report", "p.plan"]).out;
    let is_text = |line: &&str| !line.contains(" $ ") && !line.contains(" first: ");
    assert!(human.lines().filter(is_text).all(|line| line.chars().count() <= 60), "{human}");
    assert!(human.contains("\nas of the scan of 2"), "{human}");
    for shape in ["human", "html", "csv", "json", "premis"] {
        let words = ["report", "--output", shape, "p.plan"];
        let strip = |text: String| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.contains("\"made\""));
            lines.map(without_moments).collect()
        };
        let (one, other) = (bench.ok(&words).out, bench.ok(&words).out);
        assert!(one.len() > 100, "{shape}");
        assert_eq!(strip(one), strip(other), "{shape}");
    }
    assert!(before == (bench.read("catalogue"), bench.names()), "something was written");
    bench.ok(&["report", "--output", "html", "--save", "page.html", "p.plan"]);
    bench.fails(18, "exists already", &["report", "--save", "page.html", "p.plan"]);
    bench.ok(&["report", "--output", "bagit", "--save", "bag", "p.plan"]);
    let again = ["report", "--output", "bagit", "--save", "bag", "p.plan"];
    bench.fails(18, "exists already; name another folder", &again);
    for name in ["manifest-sha512.txt", "tagmanifest-sha512.txt"] {
        let output = std::process::Command::new("sha512sum")
            .current_dir(bench.file("bag"))
            .args(["--strict", "--quiet", "-c", name])
            .output();
        assert!(output.expect("coreutils").status.success(), "{name}");
    }
    let declaration = String::from_utf8(bench.read("bag/bagit.txt")).expect("text");
    assert_eq!(declaration, "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n");
}

#[test]
fn names_are_readable_in_narrow_windows_and_on_paper() {
    if !qemu::has("chromium") {
        return;
    }
    let bench = Bench::new();
    many(&bench, 60);
    bench.ok(&["report", "--output", "html", "--save", "page.html", "images.plan"]);
    let mut browser = Browser::open(&bench.file("page.html"));
    // The narrowest cell with a name, and how far the page reaches to the right.
    let asked = "[Math.min(...Array.from(document.querySelectorAll('#images tbody tr'))\
         .map((row) => row.cells[0].getBoundingClientRect().width)), \
         document.documentElement.scrollWidth]";
    for (medium, width, least) in [
        ("screen", 320, 270.0),
        ("screen", 400, 350.0),
        ("screen", 600, 500.0),
        ("screen", 1000, 200.0),
        ("screen", 1600, 300.0),
        ("print", 700, 150.0),
        ("print", 1000, 200.0),
    ] {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser.call("Emulation.setEmulatedMedia", json!({ "media": medium }));
        let told = browser.value(asked);
        let name = told[0].as_f64().expect("a width");
        assert!(name >= least, "{medium} of {width}: names have {name}");
        assert!(told[1].as_i64() <= Some(width), "{medium} of {width}: the page is {told}");
    }
}

/// The line without moments of the report itself, which minutes tell apart.
fn without_moments(line: &str) -> String {
    line.split(" UTC").map(|part| part.get(..part.len().saturating_sub(5)).unwrap_or("")).collect()
}

#[test]
fn what_is_no_plan_and_no_catalogue_is_refused() {
    let bench = bench();
    bench.write("text", b"a text\n");
    bench.fails(1, "none", &["report", "none"]);
    bench.fails(18, "not a catalogue", &["report", "text"]);
    bench.fails(18, "no run 7", &["report", "--run", "7", "catalogue"]);
    bench.fails(64, "--save", &["report", "--output", "bagit", "catalogue"]);
    bench.ok(&["plan", "-q", "catalogue", "--save", "p.plan"]);
    bench.ok(&["plan", "-q", "catalogue", "--save", "q.plan", "--way", "convert"]);
    bench.ok(&["migrate", "-q", "p.plan"]);
    bench.fails(18, "of another plan", &["report", "--run", "1", "q.plan"]);
    // A plan that was changed since says nothing of the run any more.
    let mut text = bench.read("p.plan");
    text.push(b'\n');
    bench.write("p.plan", &text);
    let told = report(&bench, &["catalogue"]);
    assert!(told["plan-problem"].is_string(), "{told}");
    assert_eq!(told["results"]["migrated"]["count"], 3);
}

#[test]
fn a_browser_sorts_and_searches_hostile_names_and_runs_nothing_else() {
    if !qemu::has("chromium") {
        return;
    }
    let bench = Bench::new();
    many(&bench, 300);
    bench.ok(&["report", "--output", "html", "--save", "page.html", "images.plan"]);
    let mut browser = Browser::open(&bench.file("page.html"));
    assert_eq!(browser.value("document.title"), json!("Migration of version 1 images: run 1"));
    let tags = "['SCRIPT', 'IMG', 'B'].map((tag) => document.querySelectorAll(tag).length)";
    assert_eq!(browser.value(tags), json!([1, 0, 0]));
    let names = "Array.from(document.querySelectorAll('#images tbody tr'))\
         .filter((row) => !row.hidden).map((row) => row.cells[0].textContent)";
    let all = browser.value(names);
    let told = |bytes: &[u8]| json!(calve_disk::open::escaped(bytes));
    for place in 0..300 {
        assert_eq!(all[place], told(&made::path(place)), "row {place}");
    }
    let click =
        |head: usize| format!("document.querySelectorAll('#images th button')[{head}].click()");
    browser.value(&click(3));
    let sizes = "Array.from(document.querySelectorAll('#images tbody tr'))\
         .map((row) => Number(row.cells[3].dataset.s))";
    let sorted = |value: &Value| -> bool {
        let list = value.as_array().expect("a list");
        list.len() == 300 && list.windows(2).all(|two| two[0].as_u64() <= two[1].as_u64())
    };
    assert!(sorted(&browser.value(sizes)));
    browser.value(&click(3));
    let backwards = browser.value(&format!("({sizes}).reverse()"));
    assert!(sorted(&backwards));
    let search = |words: &str| {
        let words = json!(words);
        format!(
            "(() => {{ const field = document.querySelector('#tools input'); \
             field.value = {words}; field.dispatchEvent(new Event('input')); }})()"
        )
    };
    browser.value(&search("CUSTOMER-000123 disk"));
    assert_eq!(browser.value(names), json!([calve_disk::open::escaped(&made::path(123))]));
    browser.value(&search("<script>"));
    assert_eq!(browser.value(names), json!([calve_disk::open::escaped(&made::path(0))]));
    // What its policy does not name is not run, whoever put it there.
    let injected = "(() => { const script = document.createElement('script'); \
         script.textContent = \"document.title = 'taken'\"; document.body.append(script); \
         return document.title; })()";
    assert_ne!(browser.value(injected), json!("taken"));
}
