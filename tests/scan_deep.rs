//! `scan --deep` into archives that common tools made, and `scan -x`.

use std::process::Command;

use calve_testkit::{Builder, Mounted, Random, qemu};
use serde_json::Value;

use crate::common::{Bench, Said, program};

/// An image of 200 KiB, whose last table leads behind the end of the file, or does not.
fn large(is_damaged: bool) -> Vec<u8> {
    let mut random = Random::new(7);
    let mut builder = Builder::new(12, 9, 4 << 20);
    for cluster in 0..50 {
        builder.plain(cluster, &random.content(4096));
    }
    for cluster in 60..68 {
        builder.plain(cluster, &[0; 4096]);
    }
    builder.plain(600, &[7; 4096]);
    if is_damaged {
        builder.entry(601, 1 << 40);
    }
    builder.build()
}

/// Runs a common tool in the folder of the images.
fn tool(bench: &Bench, tool: &str, words: &[&str]) {
    let output = Command::new(tool).current_dir(bench.file("tree")).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A bench whose folder `tree` holds archives, each of a whole image and of a damaged one.
fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir(bench.file("tree")).expect("a folder");
    for (name, is_damaged) in [("whole", false), ("damaged", true)] {
        bench.write("dense", &large(is_damaged));
        tool(&bench, "cp", &["--sparse=always", "../dense", name]);
        tool(&bench, "gzip", &["-k", name]);
    }
    tool(&bench, "tar", &["-cf", "a.tar", "whole", "damaged"]);
    tool(&bench, "tar", &["-czf", "a.tgz", "whole", "damaged"]);
    tool(&bench, "tar", &["-S", "-cf", "sparse.tar", "whole", "damaged"]);
    tool(&bench, "rm", &["whole", "damaged"]);
    bench
}

/// What a scan tells of members: their names, classes and problems.
fn members(said: &Said) -> Vec<(String, String, Option<String>)> {
    let lines = said.out.lines().map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let lines = lines.filter(|line| line["kind"] == "file" && !line["member"].is_null());
    lines
        .map(|line| {
            let member = text(&line["member"]).expect("a name");
            (member, text(&line["class"]).expect("a class"), text(&line["problem"]))
        })
        .collect()
}

/// Whether each member is of the class that its name says where all tables are walked, or where
/// they are not.
fn check(said: &Said, is_deep: bool) {
    let members = members(said);
    assert_eq!(members.len(), 8, "{}{}", said.out, said.err);
    for (name, class, problem) in members {
        let is_damaged = is_deep && name == "damaged";
        assert_eq!((&*class, problem), (if is_damaged { "damaged" } else { "v1" }, None), "{name}");
    }
}

/// How many files were read, and how many were known.
fn counts(said: &Said) -> (u64, u64) {
    let line = said.out.lines().last().expect("totals");
    let totals: Value = serde_json::from_str(line).expect("totals");
    let count = |key: &str| totals[key].as_u64().expect("a number");
    (count("read"), count("unchanged"))
}

#[test]
fn workers_walk_tables_in_archives_and_what_was_not_walked_is_read_again() {
    let bench = bench();
    let scan = ["scan", "--output", "jsonl", "tree"];
    for sandbox in ["auto", "off", "require"] {
        let sandbox = format!("--sandbox={sandbox}");
        let said = bench.run(&[&scan[..], &[&sandbox, "--deep"]].concat());
        if said.code == Some(18) && sandbox.ends_with("require") {
            qemu::skipped(&said.err);
            continue;
        }
        assert_eq!(said.code, Some(0), "{}", said.err);
        check(&said, true);
        check(&bench.ok(&[&scan[..], &[&sandbox]].concat()), false);
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    let known = [&scan[..], &["--catalogue", "known"]].concat();
    let deep = [&known[..], &["--deep"]].concat();
    check(&bench.ok(&known), false);
    let said = bench.ok(&deep);
    check(&said, true);
    assert_eq!(counts(&said), (5, 0));
    // Who knows more is not asked again, and has not forgotten it.
    for words in [&known, &deep] {
        let said = bench.ok(words);
        check(&said, true);
        assert_eq!(counts(&said), (0, 5));
    }
}

#[test]
fn a_full_folder_of_temporary_files_is_a_problem_of_today_and_no_damage() {
    let mut bench = bench();
    std::fs::create_dir(bench.file("small")).expect("a folder");
    let Some(small) = Mounted::in_memory(&bench.file("small"), 64 << 10) else { return };
    let other = bench.path().to_str().expect("a name").to_owned();
    std::thread::sleep(std::time::Duration::from_millis(60));
    for sandbox in ["--sandbox=auto", "--sandbox=off"] {
        let folder = small.folder().to_str().expect("a name");
        bench.set("TMPDIR", folder);
        let catalogue = format!("known{sandbox}");
        let words =
            ["scan", sandbox, "--deep", "--output", "jsonl", "--catalogue", &catalogue, "tree"];
        let said = bench.fails(4, "0 folders and 6 files", &words);
        let found = members(&said);
        assert_eq!(found.len(), 8);
        let (told, walked): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, _, problem)| problem.is_some());
        // Only those of the plain archive lie there as they are.
        assert_eq!((told.len(), walked.len()), (6, 2));
        for (name, class, problem) in told {
            assert_eq!(class, "v1", "{name}");
            let problem = problem.expect("told");
            assert!(problem.contains("No space left on device"), "{problem}");
            assert!(problem.ends_with("or name another one in TMPDIR"), "{problem}");
        }
        // Where there is room again, they are read again.
        bench.set("TMPDIR", &other);
        let said = bench.ok(&words);
        check(&said, true);
        assert_eq!(counts(&said), (4, 1));
        // No folder at all is the same.
        bench.set("TMPDIR", "/nowhere/at/all");
        let said = bench.fails(4, "6 files", &["scan", sandbox, "--deep", "tree"]);
        assert!(!said.out.contains("panicked"), "{}", said.out);
    }
    assert_eq!(bench.names().iter().filter(|name| name.starts_with(".tmp")).count(), 0);
}

#[test]
fn a_limit_on_the_length_of_files_is_a_problem_too_and_ends_no_worker() {
    let bench = bench();
    for sandbox in ["--sandbox=auto", "--sandbox=off"] {
        // In units of 512 bytes or more.
        let script = "ulimit -f 64; exec \"$0\" \"$@\"";
        let output = Command::new("sh")
            .current_dir(bench.path())
            .args(["-c", script, &program()])
            .args(["scan", sandbox, "--deep", "--output", "jsonl", "tree"])
            .output();
        let said = Said::of(&output.expect("a shell"));
        assert_eq!(said.code, Some(4), "{}{}", said.out, said.err);
        let told = members(&said).into_iter().filter(|(_, _, problem)| problem.is_some());
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 6, "{}", said.out);
        for (name, class, problem) in told {
            assert_eq!(class, "v1", "{name}");
            assert!(problem.expect("told").contains("File too large"), "{name}");
        }
    }
}
