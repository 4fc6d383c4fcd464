//! `work` and `merge-reports`: several workers carry out one plan with nothing in common but files,
//! by themselves, as an Indexed Job has them, and as an array of Slurm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Bench, Said, large, program, signal};
use crate::migrate::{
    archive, assert_migrated, assert_nothing_staged, files, kill_within, kills, magic, migrated,
    scan_and_plan, six_families, two_families,
};
use calve_testkit::{Random, qemu, seeds};

fn report(bench: &Bench, shard: &str) -> Vec<Value> {
    let text = fs::read_to_string(bench.file("plan.shards").join(shard)).expect("a report");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Starts a worker that says nothing.
fn start(bench: &Bench, words: &[&str]) -> Child {
    let words = [&["work", "-q", "--plan", "plan"], words].concat();
    let mut command = bench.command(&words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("starts")
}

/// Waits until there is a file.
fn wait_for(path: &Path) {
    for _ in 0..1000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{}: does not come", path.display());
}

#[test]
fn workers_of_all_shards_migrate_what_one_would_and_no_family_is_split() {
    for (seed, way) in [(4, "upgrade"), (5, "convert")] {
        let (bench, truth) = archive(seed);
        let planned = scan_and_plan(&bench, &["--way", way]);
        let before = files(&bench.file("tree"));
        // All at once, as a cluster has them.
        let workers: Vec<Child> =
            (0..4).map(|shard| start(&bench, &["--shard", &format!("{shard}/4")])).collect();
        for mut worker in workers {
            assert_eq!(worker.wait().expect("ended").code(), Some(0), "{way}");
        }
        let words = ["merge-reports", "plan.shards", "--plan", "plan", "--output", "json"];
        let merged = bench.ok(&words).json();
        assert_eq!((&merged["is-whole"], &merged["shards"]), (&true.into(), &4.into()));
        let meant: BTreeSet<u64> = planned
            .iter()
            .filter(|image| image["strategy"] != "leave")
            .map(|image| image["family"].as_u64().expect("a number"))
            .collect();
        assert_eq!(merged["total"]["done"], meant.len(), "{way}");
        assert!(assert_migrated(&bench, &truth, &planned) >= 15, "{way}");
        // Each image stands in the report of one shard, with all others of its family.
        let mut shards: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
        let mut digests = 0;
        for shard in 0..4 {
            for line in report(&bench, &format!("shard-{shard}-of-4.report")) {
                if line["kind"] == "image" {
                    let family = line["family"].as_u64().expect("a number");
                    shards.entry(family).or_default().insert(shard);
                    digests += usize::from(line["digest"].is_string());
                }
            }
        }
        assert_eq!(shards.keys().copied().collect::<BTreeSet<_>>(), meant, "{way}");
        assert!(shards.values().all(|shards| shards.len() == 1), "{way}: {shards:?}");
        assert_eq!(digests > 0, way == "convert", "{way}");
        // Again, nothing is done, and the report is the same.
        let again = bench.ok(&["work", "--plan", "plan", "--shard", "0/4", "--output", "json"]);
        assert_eq!(
            (&again.json()["done"], &again.json()["status"]),
            (&0.into(), &"finished".into())
        );
        assert_eq!(bench.ok(&words).json(), merged, "{way}");
        // Each shard is taken back by its own journal; then its report is not true any more.
        for shard in 0..4 {
            let journal = format!("plan.shards/shard-{shard}-of-4.journal");
            bench.ok(&["report", "--journal", &journal, "plan"]);
            bench.ok(&["migrate", "-q", "--undo", "1", &journal]);
        }
        bench.fails(18, "holds no report", &words);
        assert!(before == files(&bench.file("tree")), "{way}: not to the bit");
        bench.ok(&["work", "-q", "--plan", "plan", "--shard", "3/4"]);
        bench.fails(75, "3 of 4 shards have no report: 0, 1, 2", &words);
    }
}

#[test]
fn a_worker_takes_its_shard_from_the_engine_that_started_it() {
    let bench = six_families();
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let words = [&["work", "--plan", "plan", "--output", "json"], words].concat();
        let mut command = bench.command(&words);
        for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        Said::of(&command.output().expect("runs"))
    };
    // As an Indexed Job sets it: the index, and no count.
    let index = [("JOB_COMPLETION_INDEX", "2")];
    let said = run(&[], &index);
    assert_eq!(said.code, Some(64), "{}", said.err);
    assert!(said.err.contains("--shards COUNT"), "{}", said.err);
    let said = run(&["--shards", "3"], &index);
    assert_eq!((said.code, &said.json()["shard"]), (Some(0), &2.into()), "{}", said.err);
    // As an array of Slurm does.
    let array = [
        ("SLURM_ARRAY_TASK_ID", "5"),
        ("SLURM_ARRAY_TASK_MIN", "4"),
        ("SLURM_ARRAY_TASK_COUNT", "3"),
        ("SLURM_ARRAY_TASK_STEP", "1"),
    ];
    let said = run(&[], &array);
    assert_eq!((said.code, &said.json()["shard"]), (Some(0), &1.into()), "{}", said.err);
    let said = run(&[], &[]);
    assert_eq!(said.code, Some(64), "{}", said.err);
    // Another number of shards would meet the first in the same families.
    let said = run(&["--shard", "0/2"], &[]);
    assert_eq!(said.code, Some(18), "{}", said.err);
    assert!(said.err.contains("in 3 shards by bytes"), "{}", said.err);
    assert_eq!(migrated(&bench), 4);
    assert_eq!(run(&["--shard", "0/3"], &[]).code, Some(0));
    assert_eq!(migrated(&bench), 6);
    bench.ok(&["merge-reports", "--plan", "plan", "plan.shards"]);
}

/// A bench with a plan of one image of 32 MiB, to convert.
fn one_large() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.file("tree")).expect("a folder");
    bench.write("tree/large.qcow", &large(32));
    scan_and_plan(&bench, &["--way", "convert"]);
    bench
}

#[test]
fn sigterm_ends_a_worker_in_time_whatever_it_does_and_the_next_goes_on() {
    use nix::sys::signal::Signal;
    let deaf = "trap '' TERM; touch begun; sleep 60 & wait; sleep 60";
    let quick = ["--rate-limit", "1M"];
    for (what, words) in [
        ("a conversion", &quick[..]),
        ("a command", &["--before", "touch begun; sleep 60"]),
        ("a command that does not listen", &["--before", deaf]),
    ] {
        let bench = one_large();
        let before = files(&bench.file("tree"));
        let words = [&["--shard", "0/1"], words].concat();
        let mut worker = start(&bench, &words);
        match what {
            "a conversion" => {
                wait_for(&bench.file("plan.shards/shard-0-of-1.report"));
                std::thread::sleep(Duration::from_millis(500));
            }
            _ => wait_for(&bench.file("begun")),
        }
        let asked = Instant::now();
        signal(&worker, Signal::SIGTERM);
        let code = worker.wait().expect("ended").code();
        let took = asked.elapsed();
        assert_eq!(code, Some(85), "{what}");
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
        assert!(before == files(&bench.file("tree")), "{what}: not as it was");
        let merge = ["merge-reports", "plan.shards"];
        bench.fails(75, "1 of 1 shards are not finished: 0", &merge);
        bench.ok(&["work", "-q", "--plan", "plan", "--shard", "0/1"]);
        bench.ok(&merge);
        assert_eq!(magic(&bench, "tree/large.qcow"), 3, "{what}");
    }
    // Somebody at a terminal is told as of every other verb.
    let bench = one_large();
    let mut worker = start(&bench, &["--shard", "0/1", "--before", "touch begun; sleep 60"]);
    wait_for(&bench.file("begun"));
    signal(&worker, Signal::SIGINT);
    assert_eq!(worker.wait().expect("ended").code(), Some(130));
}

#[test]
fn one_worker_has_a_shard_and_no_plan_is_carried_out_in_two_ways_at_once() {
    let bench = six_families();
    let hook = ["--before", "touch begun; while ! test -e go; do sleep 0.05; done"];
    let mut worker = start(&bench, &[&["--shard", "0/2"], &hook[..]].concat());
    wait_for(&bench.file("begun"));
    let journal = "plan.shards/shard-0-of-2.journal";
    bench.fails(15, "another worker has it", &["work", "--plan", "plan", "--shard", "0/2"]);
    bench.fails(15, "another process", &["migrate", "plan"]);
    bench.fails(15, "in use", &["migrate", "--undo", "1", journal]);
    bench.fails(15, "in use", &["migrate", "--list", journal]);
    let asked = Instant::now();
    bench.fails(15, "its worker is at work", &["report", "--journal", journal, "plan"]);
    bench.fails(15, "its worker is at work", &["report", "--journal", "plan.shards", "plan"]);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    std::os::unix::fs::symlink(bench.file(journal), bench.file("link")).expect("a link");
    bench.fails(15, "in use", &["migrate", "--undo", "1", "link"]);
    bench.ok(&["work", "-q", "--plan", "plan", "--shard", "1/2"]);
    bench.fails(75, "not finished: 0", &["merge-reports", "plan.shards"]);
    bench.write("go", b"");
    assert_eq!(worker.wait().expect("ended").code(), Some(0));
    bench.ok(&["merge-reports", "plan.shards"]);
    assert_eq!(migrated(&bench), 6);
    let said = bench.ok(&["migrate", "--list", "--output", "json", journal]).json();
    assert_eq!(said[0]["families"]["done"].as_u64().map(|done| done > 0), Some(true));
    // Who does not know of the workers is told of them, and nothing is begun beside them.
    let before = bench.read("catalogue");
    let said = bench.fails(18, "is carried out by workers", &["migrate", "plan"]);
    for next in ["calve work --plan plan --shard I/2", "calve report --journal plan.shards plan"] {
        assert!(said.err.contains(next), "{}", said.err);
    }
    let said = bench.ok(&["report", "plan"]);
    assert!(said.err.contains("what workers have done: plan.shards"), "{}", said.err);
    let named = bench.ok(&["report", "--journal", "plan.shards", "plan"]);
    assert_eq!((&*named.err, named.out), ("", said.out));
    // Who knows of neither sees that somebody did something.
    fs::rename(bench.file("plan.shards"), bench.file("other.shards")).expect("renamed");
    let said = bench.fails(2, "", &["report", "--watch-exit", "plan"]);
    assert!(said.out.contains("known here: 6\n"), "{}", said.out);
    fs::rename(bench.file("other.shards"), bench.file("plan.shards")).expect("renamed");
    assert!(before == bench.read("catalogue"), "something was written");
    // What `migrate` would write to it, `work` would not know.
    bench.fails(18, "of one shard", &["migrate", "plan", "--journal", journal]);
    bench.fails(18, "of one shard", &["migrate", "plan", "--journal", "link"]);
    // An undo that cannot be keeps the report, and one over a link removes it.
    bench.fails(18, "no run 99", &["migrate", "--undo", "99", journal]);
    bench.ok(&["merge-reports", "plan.shards"]);
    bench.ok(&["migrate", "-q", "--undo", "1", "link"]);
    bench.fails(75, "have no report: 0", &["merge-reports", "plan.shards"]);
}

#[test]
fn workers_that_are_killed_at_any_moment_go_on_and_no_image_is_lost_or_half() {
    let kills = kills();
    for seed in seeds("CALVE_MIGRATE_CASES", 1) {
        let mut random = Random::new(seed);
        let (bench, truth) = archive(seed);
        let planned = scan_and_plan(&bench, &["--way", "convert"]);
        for number in 0..kills {
            let shard = format!("{}/2", number % 2);
            kill_within(start(&bench, &["--shard", &shard]), random.below(250_000));
        }
        for shard in ["0/2", "1/2"] {
            bench.ok(&["work", "-q", "--plan", "plan", "--shard", shard]);
        }
        bench.ok(&["merge-reports", "--plan", "plan", "plan.shards"]);
        assert_migrated(&bench, &truth, &planned);
        assert_nothing_staged(&bench, seed);
    }
}

#[test]
fn families_begin_only_while_the_budget_lasts() {
    let bench = six_families();
    for done in 1..=6 {
        let words = ["work", "--plan", "plan", "--shard", "0/1", "-j", "1", "--max-bytes", "1"];
        match done {
            6 => drop(bench.ok(&words)),
            // Those that are done already are no part of what was not begun.
            _ => {
                let left = format!("the budget is reached: not begun: {}", 6 - done);
                bench.fails(75, &left, &words);
            }
        }
        assert_eq!(migrated(&bench), done);
    }
    bench.ok(&["merge-reports", "plan.shards"]);
    let bench = six_families();
    bench.fails(75, "not begun: 6 families", &["migrate", "plan", "--max-duration", "0s"]);
    assert_eq!(migrated(&bench), 0);
    bench.fails(64, "is no length of time", &["migrate", "plan", "--max-duration", "5"]);
    let work = ["work", "--plan", "plan", "--shard", "0/1", "--max-duration", "5"];
    bench.fails(64, "is no length of time", &work);
    assert!(!bench.file("plan.shards").exists(), "written before the words were understood");
    bench.ok(&["migrate", "-q", "plan", "--max-duration", "1h", "--max-bytes", "1G"]);
    assert_eq!(migrated(&bench), 6);
}

#[test]
fn families_that_fail_are_told_once_for_all_shards() {
    let bench = two_families();
    scan_and_plan(&bench, &[]);
    let hook = "case $CALVE_IMAGE in *c.qcow) exit 3;; esac";
    let codes: Vec<_> = (0..2)
        .map(|shard| {
            let shard = format!("{shard}/2");
            bench.run(&["work", "-q", "--plan", "plan", "--shard", &shard, "--after", hook]).code
        })
        .collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(11)).count(), 1, "{codes:?}");
    let said = bench.run(&["merge-reports", "plan.shards"]);
    assert_eq!(said.code, Some(11), "{}", said.err);
    assert!(said.out.contains("hook: "), "{}", said.out);
    assert!(said.out.contains("failed, and as before: 1 family"), "{}", said.out);
    let json = bench.run(&["merge-reports", "--output", "json", "plan.shards"]).json();
    assert_eq!((&json["failed"][0]["cause"], &json["total"]["done"]), (&"hook".into(), &1.into()));
}

#[test]
fn a_family_that_is_half_way_is_told_with_its_reason_and_is_later_work() {
    let bench = two_families();
    scan_and_plan(&bench, &["--way", "convert"]);
    // What somebody wrote to since is not taken back.
    let hook = "case $CALVE_IMAGE in *c.qcow) printf x >>$CALVE_IMAGE; exit 3;; esac";
    let work = ["work", "--plan", "plan", "--shard", "0/1", "--after", hook];
    bench.fails(75, "1 family could neither be migrated nor be taken back", &work);
    let said = bench.fails(75, "1 of 1 shards are not finished", &["merge-reports", "plan.shards"]);
    assert!(said.out.contains("is half way: "), "{}", said.out);
    assert!(said.out.contains("is not finished: 1 family could"), "{}", said.out);
    let merged = bench.run(&["merge-reports", "--output", "json", "plan.shards"]).json();
    assert_eq!(
        (&merged["open"][0]["cause"], &merged["total"]["done"]),
        (&"hook".into(), &1.into())
    );
    assert_eq!(merged["failed"], serde_json::json!([]));
    // For the same cause, and as far: it is later work twice, and then nothing that a try alone mends.
    bench.fails(75, "1 family could neither be migrated nor be taken back", &work);
    for attempt in [3, 4] {
        let said = bench.fails(
            11,
            "remove the cause, then the same again: calve work --plan plan --shard 0/1",
            &work,
        );
        let text = format!("tried {attempt} times, and it came no further");
        assert!(said.err.contains(&text), "{}", said.err);
    }
    let said = bench.fails(11, "1 family stays half way", &["merge-reports", "plan.shards"]);
    assert!(said.out.contains("tried 4 times, and it came no further"), "{}", said.out);
    let merged = bench.run(&["merge-reports", "--output", "json", "plan.shards"]).json();
    assert_eq!(
        (&merged["stuck"][0]["cause"], &merged["open"], &merged["is-whole"]),
        (&"hook".into(), &serde_json::json!([]), &true.into())
    );
    // A result that did not read as its source stays one.
    let report = String::from_utf8(bench.read("plan.shards/shard-0-of-1.report")).expect("text");
    bench.write("other", report.replace("\"cause\":\"hook\"", "\"cause\":\"mismatch\"").as_bytes());
    bench.fails(17, "did not read as its source", &["merge-reports", "other"]);
    // Without the cause the same command ends it.
    bench.ok(&["work", "--plan", "plan", "--shard", "0/1"]);
    bench.ok(&["merge-reports", "plan.shards"]);
}

#[test]
fn a_family_that_is_half_taken_back_stays_so_until_that_can_be_ended() {
    let bench = two_families();
    let before = files(&bench.file("tree"));
    scan_and_plan(&bench, &["--way", "convert"]);
    // The topmost image is taken back, and the one below it cannot be.
    let hook = "case $CALVE_IMAGE in *c.qcow) cp -p tree/b.qcow saved; \
                printf x >>tree/b.qcow; exit 3;; esac";
    let work = ["work", "--plan", "plan", "--shard", "0/1"];
    bench.fails(75, "be taken back at once", &[&work[..], &["--after", hook]].concat());
    assert_eq!((magic(&bench, "tree/b.qcow"), magic(&bench, "tree/c.qcow")), (3, 1));
    // It is not the hook's failure any more, but that of taking it back, which begins to count.
    for code in [75, 75, 11, 11] {
        bench.fails(code, "is half way, and could not be taken back: ", &work);
        assert_eq!((magic(&bench, "tree/b.qcow"), magic(&bench, "tree/c.qcow")), (3, 1));
    }
    let mut restore = Command::new("cp");
    restore.args(["-p", "saved", "tree/b.qcow"]).current_dir(bench.path());
    assert!(restore.status().expect("cp").success());
    bench.ok(&work);
    assert_eq!((magic(&bench, "tree/b.qcow"), magic(&bench, "tree/c.qcow")), (3, 3));
    bench.ok(&["merge-reports", "plan.shards"]);
    bench.ok(&["migrate", "-q", "--undo", "1", "plan.shards/shard-0-of-1.journal"]);
    assert!(before == files(&bench.file("tree")), "not to the bit");
}

#[test]
fn how_it_went_comes_before_what_kept_it_from_being_told() {
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").expect("opens"));
    let run = |bench: &Bench, words: &[&str]| {
        let output = bench.command(words).stdout(full()).output().expect("runs");
        Said::of(&output)
    };
    let bench = six_families();
    for words in [
        &["migrate", "plan", "--max-duration", "0s"][..],
        &["work", "--plan", "plan", "--shard", "0/1", "--max-bytes", "1", "-j", "1"],
    ] {
        for events in [None, Some("--events=/dev/full")] {
            let words: Vec<&str> = words.iter().copied().chain(events).collect();
            let said = run(&bench, &words);
            assert_eq!(said.code, Some(75), "{words:?}: {}", said.err);
            assert!(said.err.contains("No space left"), "{words:?}: {}", said.err);
        }
    }
    // Where all went well, that it was not told is what is wrong.
    let said = run(&bench, &["work", "--plan", "plan", "--shard", "0/1"]);
    assert_eq!(said.code, Some(16), "{}", said.err);
    assert_eq!(migrated(&bench), 6);
}

#[test]
fn a_socket_that_nobody_listens_on_any_more_makes_room() {
    let bench = six_families();
    let words = ["work", "-q", "--plan", "plan", "--shard", "0/1", "--control", "socket"];
    bench.write("socket", b"no socket");
    bench.fails(18, "listening", &words);
    assert_eq!(bench.read("socket"), b"no socket");
    fs::remove_file(bench.file("socket")).expect("removed");
    let listener = std::os::unix::net::UnixListener::bind(bench.file("socket")).expect("binds");
    bench.fails(18, "listening", &words);
    drop(listener);
    bench.ok(&words);
    assert!(!bench.file("socket").exists());
}

#[test]
fn reports_that_do_not_belong_together_are_refused() {
    let bench = six_families();
    for shard in ["0/2", "1/2"] {
        bench.ok(&["work", "-q", "--plan", "plan", "--shard", shard]);
    }
    let [first, second] = [0, 1].map(|shard| format!("plan.shards/shard-{shard}-of-2.report"));
    let texts = [&first, &second].map(|name| String::from_utf8(bench.read(name)).expect("text"));
    bench.ok(&["merge-reports", &first, &second]);
    bench.fails(18, "and so is", &["merge-reports", &first, &first]);
    bench.fails(75, "have no report: 1", &["merge-reports", &first]);
    let with = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        bench.write("other", text.replacen(from, to, 1).as_bytes());
    };
    let digest = report(&bench, "shard-1-of-2.report")[0]["plan-digest"].clone();
    let digest = digest.as_str().expect("text").to_owned();
    for (from, to, why) in [
        (&*digest, "0", "of another plan"),
        ("\"shards\":2", "\"shards\":3", "another number of shards"),
        ("\"by\":\"bytes\"", "\"by\":\"families\"", "another number of shards"),
        ("\"shard\":1", "\"shard\":2", "has no such shard"),
        ("\"outcome\":\"done\"", "\"outcome\":\"failed\"", "does not fit"),
        ("\"images\":1", "\"images\":2", "does not fit"),
        ("\"version\":1", "\"version\":2", "does not know"),
        ("{", "", "line 1"),
    ] {
        with(&texts[1], from, to);
        bench.fails(18, why, &["merge-reports", &first, "other"]);
    }
    // One that would be waited for, for ever.
    nix::unistd::mkfifo(&bench.file("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    bench.fails(18, "no regular file", &["merge-reports", &first, "pipe"]);
    // One that was cut, at every line.
    let lines: Vec<&str> = texts[1].lines().collect();
    for count in 0..lines.len() {
        bench.write("other", lines[..count].join("\n").as_bytes());
        bench.fails(18, "line ", &["merge-reports", &first, "other"]);
    }
    // A family that is in both, and one that is in none.
    let family = report(&bench, "shard-0-of-2.report")[1]["family"].to_string();
    let own = report(&bench, "shard-1-of-2.report")[1]["family"].to_string();
    let twice = texts[1].replace(&format!("\"family\":{own},"), &format!("\"family\":{family},"));
    bench.write("other", twice.as_bytes());
    bench.fails(18, "and so has shard 0", &["merge-reports", &first, "other"]);
    let nobodys = texts[1].replace(&format!("\"family\":{own},"), "\"family\":99,");
    bench.write("other", nobodys.as_bytes());
    bench.ok(&["merge-reports", &first, "other"]);
    let why = "the families that the plan gives";
    bench.fails(18, why, &["merge-reports", "--plan", "plan", &first, "other"]);
    // A plan of which a family was taken out since.
    let plan = String::from_utf8(bench.read("plan")).expect("text");
    let less: Vec<&str> = plan.lines().filter(|line| !line.contains("\"family\":1,")).collect();
    bench.write("less", format!("{}\n", less.join("\n")).as_bytes());
    bench.fails(18, "another plan", &["merge-reports", "--plan", "less", &first, &second]);
    let other = ["work", "--plan", "less", "--shard", "0/2", "--journals", "plan.shards"];
    bench.fails(18, "another plan", &other);
}

/// A script of this repository.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

#[test]
fn an_array_of_slurm_migrates_an_archive_through_a_kill_and_a_checkpoint() {
    if !["munged", "slurmctld", "slurmd", "sbatch"].into_iter().all(qemu::has) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        // Not a missing tool: only root may run nodes.
        return qemu::skipped("a Slurm of one's own needs root");
    }
    let (bench, truth) = archive(5);
    let planned = scan_and_plan(&bench, &["--way", "convert"]);
    let output = Command::new(script("slurm"))
        .arg(script("slurm-array"))
        .arg(program())
        .arg(bench.path())
        .output();
    let said = Said::of(&output.expect("runs"));
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("4 shards: "), "{}", said.out);
    bench.ok(&["merge-reports", "--plan", "plan", "plan.shards"]);
    assert!(assert_migrated(&bench, &truth, &planned) >= 15);
}

#[test]
fn manifests_are_as_kubernetes_and_calve_have_them() {
    let output = Command::new(script("manifests")).arg(program()).output();
    let said = Said::of(&output.expect("runs"));
    if said.code == Some(3) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{}", said.err);
        return qemu::skipped("kubernetes-validate is not installed: scripts/manifests --install");
    }
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("6 manifests"), "{}", said.out);
}

#[test]
fn what_manifests_and_scripts_act_on_are_codes_that_there_are() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let codes = read("docs/exit-codes.md");
    let manifest = read("deploy/kubernetes/work.yaml");
    let lists = manifest.lines().filter_map(|line| line.trim().strip_prefix("values: ["));
    let numbers: Vec<&str> =
        lists.flat_map(|list| list.trim_end_matches(']').split(", ")).collect();
    assert_eq!(numbers, ["17", "18", "64", "4", "11", "75", "85"]);
    for number in numbers {
        assert!(codes.contains(&format!("\n## {number}: ")), "{number}");
    }
    assert!(read("deploy/slurm/work.sbatch").contains("\n75 | 85)\n"));
}
