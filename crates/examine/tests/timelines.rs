//! Host order is write order, unless a converter wrote the file.

mod common;

use calve_disk::{Disk, OpenOptions};
use calve_examine::{EventKind, bodyfile, csv, judge, timeline};
use calve_testkit::{Builder, Random, qemu};
use common::opened;

#[test]
fn two_hundred_random_writes_by_qemu_are_told_in_their_order() {
    if !(qemu::has("qemu-img") && qemu::has("qemu-io")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    qemu::img(folder.path(), &["create", "-f", "qcow", "t.qcow", "256M"]);
    let mut random = Random::new(5);
    let mut clusters: Vec<u64> = Vec::new();
    while clusters.len() < 200 {
        let cluster = random.below(65536);
        if !clusters.contains(&cluster) {
            clusters.push(cluster);
        }
    }
    let commands: Vec<String> =
        clusters.iter().map(|cluster| format!("write -P 7 {} 4096", cluster * 4096)).collect();
    let mut arguments = vec!["-f", "qcow"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    arguments.push("t.qcow");
    assert!(qemu::io(folder.path(), &arguments).status.success());
    let disk = Disk::open(&folder.path().join("t.qcow"), &OpenOptions::default());
    let disk = disk.expect("an image");
    let mut told = Vec::new();
    timeline(disk.top(), &mut |event| {
        if event.kind == EventKind::Data {
            let start = event.guest.start.get() / 4096;
            told.extend(start..start + event.guest.length / 4096);
        }
        Ok(())
    })
    .expect("the host does not fail");
    assert_eq!(told, clusters);
    let order = judge(disk.top()).expect("the host does not fail");
    assert!(!order.is_of_guest(), "{order:?}");
    assert!(order.judgement().contains("first written"), "{}", order.judgement());
}

#[test]
fn what_was_written_from_front_to_back_is_said_to_tell_nothing() {
    let mut builder = Builder::new(12, 9, 4 << 20);
    for cluster in (0..600).step_by(2) {
        builder.packed(cluster, &[7; 4096]);
    }
    let image = opened(&builder.build()).expect("an image");
    let order = judge(&image).expect("memory does not fail");
    assert_eq!((order.steps, order.backward), (299, 0));
    assert!(order.judgement().contains("converter"), "{}", order.judgement());
}

#[test]
fn each_line_has_its_fields_and_none_is_a_formula() {
    let mut builder = Builder::new(12, 9, 4 << 20).backing(b"=cmd|x");
    for cluster in [600, 3, 4, 900] {
        builder.plain(cluster, &[7; 4096]);
    }
    builder.packed(1, &[8; 4096]);
    let image = opened(&builder.build()).expect("an image");
    let order = judge(&image).expect("memory does not fail");
    let mut out = Vec::new();
    csv(&image, &order, &mut out).expect("memory does not fail");
    let text = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("# ") && !text.replace("\r\n", "").contains(['\r', '\n']));
    assert_eq!(lines.last(), Some(&""));
    assert_eq!(lines[1].split(',').count(), 6);
    let rows = &lines[2..lines.len() - 1];
    // Two tables, three runs, one packed cluster.
    assert_eq!(rows.len(), 6, "{text}");
    for (number, row) in (1..).zip(rows) {
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!((fields.len(), fields[0]), (6, number.to_string().as_str()));
        assert!(fields.iter().all(|field| !field.starts_with(['=', '+', '-', '@'])));
    }
    let mut out = Vec::new();
    bodyfile(&image, &mut out).expect("memory does not fail");
    let text = String::from_utf8(out).expect("UTF-8");
    assert_eq!(text.lines().count(), 6);
    for (number, line) in (1..).zip(text.lines()) {
        let fields: Vec<&str> = line.split('|').collect();
        assert_eq!((fields.len(), fields[10]), (11, number.to_string().as_str()), "{line}");
    }
}
