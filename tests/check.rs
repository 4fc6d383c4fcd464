//! `check`: what it says, in which shape, and with which code.

use std::process::{Command, Stdio};

use crate::common::{Bench, Said, image, program, signal};
use calve_disk::open::lock_for_writing;
use calve_testkit::{Builder, Random, deflated, qemu};
use nix::sys::signal::Signal;

/// A bench with the healthy image `old`, the cut one `cut`, and one with room for nobody, `leaky`.
fn bench() -> Bench {
    let bench = Bench::new();
    let whole = image().0;
    bench.write("old", &whole);
    bench.write("cut", &whole[..whole.len() / 2]);
    let mut leaky = whole;
    leaky.resize(leaky.len().next_multiple_of(4096) + 8192, 0);
    bench.write("leaky", &leaky);
    bench
}

/// The rules of all findings of a JSON report.
fn rules(report: &serde_json::Value) -> Vec<&str> {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().map(|finding| finding["rule"].as_str().expect("a rule")).collect()
}

#[test]
fn the_code_says_clean_corrupt_or_leaks_only() {
    let bench = bench();
    for deep in [&[][..], &["--deep"]] {
        for (name, code) in [("old", 0), ("cut", 2), ("leaky", 3)] {
            let human = bench.run(&[&["check"], deep, &[name]].concat());
            assert_eq!(human.code, Some(code), "{name}: {}{}", human.out, human.err);
            let quiet = bench.run(&[&["check", "-q"], deep, &[name]].concat());
            assert_eq!((quiet.code, quiet.out.as_str()), (Some(code), ""), "{name}");
            let json = bench.run(&[&["check", "--output", "json"], deep, &[name]].concat());
            assert_eq!(json.code, Some(code), "{name}");
            assert_eq!(json.json()["filename"], name);
        }
    }
    bench.fails(1, "nowhere", &["check", "nowhere"]);
    bench.fails(63, "raw does not support checks", &["check", "-f", "raw", "old"]);
    bench.write("noise", &Random::new(1).content(4096));
    bench.fails(63, "raw does not support checks", &["check", "noise"]);
    bench.fails(63, "noise", &["check", "-f", "qcow", "noise"]);
    bench.fails(64, "-m", &["check", "-m", "0", "old"]);
    bench.fails(64, "progress", &["check", "-p", "--output", "json", "old"]);
}

#[test]
fn a_finding_is_one_line_with_weight_place_rule_and_what_to_do() {
    let bench = bench();
    let said = bench.run(&["check", "cut"]);
    let line = said.out.lines().find(|line| line.contains("[Q18]")).expect("a line");
    assert!(line.starts_with("damage: at 0x"), "{line}");
    for part in ["guest bytes 0x", "behind the end of the file", "; look for a longer copy"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(said.out.contains("verdict: damage: "), "{}", said.out);
    let said = bench.ok(&["check", "--deep", "old"]);
    assert!(said.out.contains("verdict: no errors were found\n"), "{}", said.out);
    assert!(said.out.contains("unpacked: 1, looked into: 7;"), "{}", said.out);
}

#[test]
fn json_has_every_finding_and_the_keys_of_qemu_img() {
    let bench = bench();
    let report = bench.run(&["check", "--output", "json", "cut"]).json();
    assert_eq!(report["format"], "qcow");
    assert_eq!(report["check-errors"], 0);
    assert_eq!(report["total-clusters"], 256);
    assert_eq!(report["allocated-clusters"], 8);
    assert_eq!(report["compressed-clusters"], 0, "it lies behind the end");
    assert_eq!(report["corruptions"], rules(&report).len());
    assert_eq!(report["deep"], false);
    let first = &report["findings"][0];
    for key in ["weight", "statement", "next"] {
        assert!(first[key].is_string(), "{key}: {first}");
    }
    for key in ["host-offset", "start", "length"] {
        assert!(first[key].is_u64(), "{key}: {first}");
    }
    let report = bench.run(&["check", "--output", "json", "leaky"]).json();
    assert_eq!(rules(&report), ["Q28"]);
    let leak = &report["findings"][0];
    assert_eq!(leak["host-offset"], report["image-end-offset"]);
    assert_eq!((&report["leaks"], &report["survey"]["leaked-bytes"]), (&2.into(), &8192.into()));
}

#[test]
fn two_owners_are_both_named() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 64 << 10);
    let at = builder.plain(3, &Random::new(1).content(4096));
    builder.entry(9, at);
    bench.write("shared", &builder.build());
    let report = bench.run(&["check", "--output", "json", "shared"]).json();
    let finding = &report["findings"][0];
    assert_eq!((&finding["rule"], &finding["value"]), (&"Q22".into(), &4096.into()));
    assert_eq!((&finding["start"], &finding["other-start"]), (&0x9000.into(), &0x3000.into()));
}

#[test]
fn many_findings_are_counted_for_people_and_listed_for_programs() {
    let bench = Bench::new();
    let mut builder = Builder::new(9, 13, 64 << 20);
    for cluster in 0..100_000 {
        builder.entry(cluster, 1 << 40 | cluster << 9);
    }
    bench.write("wild", &builder.build());
    let said = bench.run(&["check", "wild"]);
    assert_eq!(said.code, Some(2));
    assert_eq!(said.out.matches("damage: at 0x").count(), 10);
    assert!(said.out.contains("damage: 99990 more like that [Q18]; --all lists them"));
    let all = bench.run(&["check", "--all", "wild"]);
    assert_eq!(all.out.matches("damage: at 0x").count(), 100_000);
    assert!(!all.out.contains("more like that"));
    let report = bench.run(&["check", "--output", "json", "wild"]).json();
    assert_eq!(rules(&report).len(), 100_000);
    // Who has seen enough goes away.
    let output = Command::new("sh")
        .current_dir(bench.path())
        .args(["-c", "\"$0\" check --all wild | head -n 1"])
        .arg(program())
        .output()
        .expect("a shell");
    let said = Said::of(&output);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("image: wild\n", ""));
}

#[test]
fn a_header_that_cannot_be_opened_is_a_finding() {
    let bench = bench();
    let whole = bench.read("old");
    for (rule, length, patch) in
        [("Q2", 40, None), ("Q5", 4096, Some((32, 99))), ("Q6", 4096, Some((33, 99)))]
    {
        let mut bytes = whole[..length].to_vec();
        if let Some((at, byte)) = patch {
            bytes[at] = byte;
        }
        bench.write("bad", &bytes);
        for sandbox in ["auto", "off"] {
            let said = bench.run(&["check", "--sandbox", sandbox, "bad"]);
            assert_eq!((said.code, said.err.as_str()), (Some(2), ""), "{rule}");
            assert!(said.out.contains(&format!("[{rule}]")), "{}", said.out);
            let said = bench.run(&["check", "--sandbox", sandbox, "--output", "json", "bad"]);
            assert_eq!(said.code, Some(2));
            assert_eq!(rules(&said.json()), [rule]);
        }
    }
}

#[test]
fn a_worker_that_dies_is_a_finding() {
    let bench = bench();
    if !crate::common::may_trace() {
        return;
    }
    let path = bench.file("old").canonicalize().expect("a path");
    for output in ["human", "json"] {
        let ran = Command::new("strace")
            .current_dir(bench.path())
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64", "-P"])
            .arg(&path)
            .args(["-e", "inject=pread64:signal=KILL:when=2"])
            .arg(program())
            .args(["check", "--output", output, "old"])
            .output();
        let said = Said::of(&ran.expect("strace runs"));
        assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
        assert!(said.out.contains("H2"), "{}", said.out);
        if output == "json" {
            assert_eq!(rules(&said.json()), ["H2"]);
        }
    }
}

#[test]
fn a_host_that_cannot_read_a_table_loses_what_it_speaks_of() {
    let bench = bench();
    if !crate::common::may_trace() {
        return;
    }
    let path = bench.file("old").canonicalize().expect("a path");
    // The third read is of the L2 table; all that follow it fail, also sector by sector.
    let ran = Command::new("strace")
        .current_dir(bench.path())
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64", "-P"])
        .arg(&path)
        .args(["-e", "inject=pread64:error=EIO:when=3+"])
        .arg(program())
        .args(["check", "--output", "json", "old"])
        .output();
    let said = Said::of(&ran.expect("strace runs"));
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    let report = said.json();
    assert!(rules(&report).contains(&"H1"), "{report}");
    // What no table refers to any more seems to be nobody's.
    assert!(rules(&report).iter().all(|rule| ["H1", "Q28"].contains(rule)), "{report}");
}

#[test]
fn a_chain_is_checked_layer_by_layer_and_beside_its_bases() {
    let bench = bench();
    let mut over = Builder::new(9, 12, 2 << 20).backing(b"cut");
    over.plain(3, &[7; 512]);
    bench.write("over", &over.build());
    let said = bench.run(&["check", "--backing-chain", "--output", "json", "over"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    let reports = said.json();
    let reports = reports.as_array().expect("a list");
    assert_eq!(reports.len(), 2);
    // The base is half as long as the disk.
    assert!(rules(&reports[0]).contains(&"Q36"), "{}", reports[0]);
    assert!(rules(&reports[1]).contains(&"Q18"), "{}", reports[1]);
    let said = bench.run(&["check", "--backing-chain", "over"]);
    assert_eq!(said.out.matches("verdict: ").count(), 2);
    // Alone it is none of its base's business, and no base is opened.
    assert_eq!(bench.run(&["check", "over"]).code, Some(0));
}

#[test]
fn an_image_in_use_is_in_use() {
    let bench = bench();
    let path = bench.file("old");
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("opens");
    lock_for_writing(&file, &path).expect("locks");
    bench.fails(15, "-U", &["check", "old"]);
    bench.ok(&["check", "-U", "old"]);
}

#[test]
fn a_signal_ends_it() {
    let bench = Bench::new();
    // All of a large disk is one small table over and over.
    let mut builder = Builder::new(9, 13, 1 << 38);
    for cluster in (0..1 << 13).step_by(2) {
        builder.plain(cluster, &[7; 512]);
    }
    let table = builder.table_of(0);
    (1..1 << 16).for_each(|index| builder.table_at(index, table));
    bench.write("endless", &builder.build());
    for sandbox in ["auto", "off"] {
        let arguments = ["check", "--deep", "--sandbox", sandbox, "endless"];
        let child = bench.command(&arguments).stdout(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(std::time::Duration::from_millis(500));
        signal(&child, Signal::SIGINT);
        let status = child.wait_with_output().expect("ends").status;
        use std::os::unix::process::ExitStatusExt;
        let ended = (status.code(), status.signal());
        assert!([(Some(130), None), (None, Some(2))].contains(&ended), "{sandbox}: {ended:?}");
    }
}

#[test]
fn images_of_stock_qemu_are_clean_down_to_the_last_payload() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let made = |arguments: &[&str]| {
        let output = qemu::img(bench.path(), arguments);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    made(&["create", "-q", "-f", "qcow", "plain", "64M"]);
    let writes = ["write -P 5 0 3M", "write -P 7 10M 100k", "write -P 9 40960001 12345"];
    for name in ["plain"] {
        for write in writes {
            qemu::io(bench.path(), &["-f", "qcow", "-c", write, name]);
        }
    }
    made(&["create", "-q", "-f", "qcow", "empty", "64M"]);
    made(&["convert", "-O", "qcow", "plain", "copied"]);
    made(&["convert", "-c", "-O", "qcow", "plain", "packed"]);
    made(&["create", "-q", "-f", "qcow", "-b", "plain", "-F", "qcow", "fresh"]);
    made(&["create", "-q", "-f", "qcow", "-b", "plain", "-F", "qcow", "over"]);
    qemu::io(bench.path(), &["-f", "qcow", "-c", "write -P 3 5M 70000", "over"]);
    for name in ["plain", "empty", "copied", "packed", "fresh", "over"] {
        let report = bench.run(&["check", "--deep", "--output", "json", name]);
        assert_eq!(report.code, Some(0), "{name}: {}{}", report.out, report.err);
        assert!(rules(&report.json()).is_empty(), "{name}: {}", report.out);
    }
    let unpacked = bench.ok(&["check", "--deep", "--output", "json", "packed"]).json();
    assert_eq!(unpacked["unpacked"], unpacked["compressed-clusters"]);
    assert!(unpacked["unpacked"].as_u64() > Some(700), "{unpacked}");
    made(&["convert", "-O", "qcow2", "plain", "new.qcow2"]);
    let said = bench.ok(&["check", "new.qcow2"]);
    assert!(said.out.contains("reference counts: not compared; qemu-img check does that"));
}

#[test]
fn streams_that_lost_their_flag_are_found_whatever_the_number_of_threads() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 8 << 20);
    for cluster in 0..1500 {
        let content = Random::new(cluster).number().to_be_bytes().repeat(512);
        match cluster % 500 {
            // Behind what is looked into without --deep.
            499 => builder.plain(cluster, &deflated(&content, 12)),
            _ => builder.plain(cluster, &content),
        };
    }
    bench.write("flagless", &builder.build());
    assert_eq!(bench.run(&["check", "flagless"]).code, Some(0));
    let one = bench.run(&["check", "--deep", "-m", "1", "--output", "json", "flagless"]);
    assert_eq!(one.code, Some(2));
    assert_eq!(rules(&one.json()), ["Q37", "Q37", "Q37"]);
    for threads in ["2", "7"] {
        let many = bench.run(&["check", "--deep", "-m", threads, "--output", "json", "flagless"]);
        assert_eq!(many.out, one.out, "{threads}");
    }
}

#[test]
fn progress_is_told_where_it_was_asked_for() {
    let bench = bench();
    let said = bench.ok(&["check", "--deep", "--progress", "json", "old"]);
    assert!(said.err.contains("\"phase\":\"checking\""), "{}", said.err);
    assert!(said.err.ends_with("{\"phase\":\"done\"}\n"), "{}", said.err);
    assert_eq!(bench.ok(&["check", "--deep", "old"]).err, "");
    bench.fails(64, "--progress json", &["check", "--progress", "json=3", "old"]);
}

#[test]
fn help_names_every_word() {
    let said = Bench::new().ok(&["check", "--help"]);
    for word in ["--deep", "--backing-chain", "--all", "--output", "--parallel", "--quiet"] {
        assert!(said.out.contains(word), "{word}");
    }
}
