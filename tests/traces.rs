//! What reaches the kernel, call by call: never one for each cluster. A change of these lists is a
//! change of speed on a machine that is slower or farther from its disk than this one.

use std::process::Command;

use crate::common::{Bench, program};
use calve_testkit::{Builder, Random};

const MIB: u64 = 1 << 20;

/// The reads of images and the writes of the result, in order: `read old 4096 @ 512`. `None`
/// where there is no strace.
fn trace(bench: &Bench, arguments: &[&str]) -> Option<Vec<String>> {
    if !crate::common::may_trace() {
        return None;
    }
    let traced = Command::new("strace")
        .current_dir(bench.path())
        .args(["-f", "-y", "-s", "0", "-o", "trace", "-e", "trace=pread64,pwrite64,pwritev"])
        .arg(program())
        .args(arguments)
        .output()
        .expect("starts");
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let text = String::from_utf8(bench.read("trace")).expect("text");
    Some(text.lines().filter_map(|line| call(bench, line)).collect())
}

/// `123 pread64(3</folder/old>, ""..., 4096, 512) = 4096` in fewer words.
fn call(bench: &Bench, line: &str) -> Option<String> {
    let what = if line.contains(" pread64(") { "read" } else { "write" };
    let (_, rest) = line.split_once(&format!("<{}/", bench.path().display()))?;
    let (name, rest) = rest.split_once(">,")?;
    // The result bears a temporary name.
    let name = if name.starts_with('.') { "new" } else { name };
    let (rest, length) = rest.rsplit_once(") = ")?;
    let (_, at) = rest.rsplit_once(", ")?;
    Some(format!("{what} {name} {length} @ {at}"))
}

/// Of a trace only what is behind the looks at headers and small tables.
fn of_data(trace: &[String]) -> Vec<&str> {
    let is_data = |call: &&String| {
        let length = call.split(' ').nth(2).and_then(|length| length.parse().ok());
        length.is_some_and(|length: u64| length > 8192)
    };
    trace.iter().filter(is_data).map(String::as_str).collect()
}

fn content(number: u64) -> Vec<u8> {
    Random::new(number + 1).content(4096)
}

#[test]
fn a_small_image_is_read_and_written_in_these_calls() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, MIB).aligned(4096);
    for cluster in (0..32).chain(64..96) {
        builder.plain(cluster, &content(cluster));
    }
    bench.write("old", &builder.build());
    let convert = ["convert", "-q", "-m", "1", "-O", "qcow2", "old", "new"];
    let Some(trace) = trace(&bench, &convert) else { return };
    assert_eq!(
        trace,
        [
            // What it is: probed, then opened.
            "read old 512 @ 0",
            "read old 64 @ 0",
            "read old 8 @ 48",
            "read old 8 @ 48",
            // The L2 table, once.
            "read old 4096 @ 4096",
            // The data: two runs.
            "read old 131072 @ 8192",
            "read old 131072 @ 139264",
            // As one run, since one lies behind the other now; then the L2 table, the L1 table,
            // the refcount block and table, and at last the header.
            "write new 262144 @ 131072",
            "write new 65536 @ 393216",
            "write new 4096 @ 458752",
            "write new 65536 @ 65536",
            "write new 65536 @ 524288",
            "write new 4096 @ 0",
        ]
    );
}

#[test]
fn clusters_in_any_order_are_read_in_the_order_of_the_file() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 2 * MIB).aligned(4096);
    // Every cluster, none beside its neighbour.
    for number in 0..512 {
        let cluster = number * 173 % 512;
        builder.plain(cluster, &content(cluster));
    }
    bench.write("old", &builder.build());
    let Some(trace) = trace(&bench, &["convert", "-q", "-m", "1", "old", "new"]) else { return };
    assert_eq!(
        of_data(&trace),
        ["read old 1048576 @ 8192", "read old 1048576 @ 1056768", "write new 2097152 @ 0",]
    );
}

#[test]
fn packed_clusters_are_read_together() {
    let bench = Bench::new();
    let mut builder = Builder::new(12, 9, 2 * MIB);
    for cluster in 0..512u64 {
        builder.packed(cluster, &cluster.to_be_bytes().repeat(512));
    }
    let file = builder.build();
    bench.write("old", &file);
    let Some(trace) = trace(&bench, &["convert", "-q", "-m", "1", "old", "new"]) else { return };
    let streams = file.len() as u64 - 4096 - 512;
    assert_eq!(
        of_data(&trace),
        // The first cluster is all zeros.
        [&format!("read old {streams} @ 4608")[..], "write new 2093056 @ 4096"]
    );
}

#[test]
fn an_overlay_and_its_base_are_read_in_long_runs() {
    let bench = Bench::new();
    let mut builder = Builder::new(9, 12, 2 * MIB).backing(b"base");
    // Every other sector of the first MiB.
    for cluster in (0..2048).step_by(2) {
        builder.plain(cluster, &[7; 512]);
    }
    bench.write("old", &builder.build());
    bench.write("base", &Random::new(5).content(2 * MIB));
    let convert = ["convert", "-q", "-m", "1", "-S", "0", "old", "new"];
    let Some(trace) = trace(&bench, &convert) else { return };
    assert_eq!(
        of_data(&trace),
        [
            "read old 32768 @ 512",
            "read old 524288 @ 33280",
            "read base 1047040 @ 512",
            "read base 1049088 @ 1048064",
            "write new 2097152 @ 0",
        ]
    );
}

#[test]
fn comparing_overlays_of_one_base_leaves_the_base_alone() {
    let bench = Bench::new();
    for name in ["one", "other"] {
        let mut builder = Builder::new(9, 12, MIB).backing(b"base");
        for cluster in 100..300 {
            builder.plain(cluster, &[7; 512]);
        }
        bench.write(name, &builder.build());
    }
    bench.write("base", &Random::new(5).content(MIB));
    let Some(trace) = trace(&bench, &["compare", "-q", "one", "other"]) else { return };
    let table = ["read one 32768 @ 512", "read other 32768 @ 512"];
    let data = ["read one 102400 @ 33280", "read other 102400 @ 33280"];
    assert_eq!(of_data(&trace), [table, data].concat());
}

#[test]
fn past_the_page_cache_means_direct_writes_of_whole_blocks() {
    let bench = Bench::new();
    if !crate::common::may_trace() {
        return;
    }
    let mut builder = Builder::new(12, 9, MIB + 512).aligned(4096);
    for cluster in 0..257 {
        builder.plain(cluster, &content(cluster));
    }
    bench.write("old", &builder.build());
    let traced = Command::new("strace")
        .current_dir(bench.path())
        .args(["-f", "-y", "-s", "0", "-o", "trace", "-e", "trace=openat,pwrite64,fadvise64"])
        .arg(program())
        .args(["convert", "-q", "-T", "none", "-t", "none", "old", "new"])
        .output()
        .expect("starts");
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let trace = String::from_utf8(bench.read("trace")).expect("text");
    assert!(trace.contains("O_DIRECT"), "{trace}");
    assert!(trace.contains("/old>, 0, 0, POSIX_FADV_DONTNEED"), "{trace}");
    // The disk's last sector is no whole block.
    assert!(trace.contains(", 1048576, 0) = 1048576"), "{trace}");
    assert!(trace.contains(", 512, 1048576) = 512"), "{trace}");
    bench.ok(&["compare", "-q", "old", "new"]);
}
