//! L1 tables and Xen's L2 tables, lost wholly or in part.

use crate::common::{MIB, Order, content, ext_disk, gpt_disk, image, open, right, source};
use calve_rebuild::{Confidence, Evidence, Hints, header, l1, xen};
use calve_testkit::{Builder, Random, XenOrder, qemu};

const SPAN: usize = 2 * MIB;

#[test]
fn a_converted_image_without_its_l1_table_is_what_it_was() {
    let disk = gpt_disk(8 * MIB, 1);
    let size = disk.len() as u64;
    for (cluster_bits, l2_bits) in [(12, 9), (9, 12), (16, 6), (9, 6), (12, 13)] {
        for packed in [false, true] {
            let builder = Builder::new(cluster_bits, l2_bits, size).aligned(1 << cluster_bits);
            let entries = builder.l1_entries();
            let mut bytes = image(builder, &disk, Order::Sequential, packed);
            bytes[48..48 + usize::try_from(entries * 8).unwrap()].fill(0);
            let rebuilt = l1(&source(&bytes)).expect("memory");
            let told = rebuilt.steps.iter().map(|step| format!("{step}\n")).collect::<String>();
            let what = format!("{cluster_bits}/{l2_bits} packed {packed}\n{told}");
            assert_eq!(rebuilt.steps.len() as u64, entries, "{what}");
            assert!(content(&open(&rebuilt.source)) == disk, "{what}");
            assert!(rebuilt.unplaced.is_empty(), "{what}");
            assert!(rebuilt.steps.iter().all(|step| step.confidence > Confidence::Guess), "{what}");
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures are asked for")]
fn of_an_image_written_here_and_there_what_says_where_it_belongs_is_right() {
    let (mut strong, mut right_ones, mut all) = (0, 0, 0);
    for seed in 0..6 {
        let is_gpt = seed % 2 == 0;
        let disk = if is_gpt { gpt_disk(24 * MIB, seed) } else { ext_disk(24 * MIB, seed) };
        let builder = Builder::new(12, 9, disk.len() as u64).aligned(4096);
        let entries = usize::try_from(builder.l1_entries()).unwrap();
        let good = image(builder, &disk, Order::Random(seed), seed % 3 == 0);
        let mut bytes = good.clone();
        bytes[48..48 + entries * 8].fill(0);
        let rebuilt = l1(&source(&bytes)).expect("memory");
        assert_eq!(rebuilt.steps.len(), entries, "every table has a place");
        for step in &rebuilt.steps {
            let at = usize::try_from(step.at.get()).unwrap();
            let is_right = good[at..at + 8] == step.value.to_be_bytes();
            let says_itself = !matches!(step.evidence, Evidence::HostOrder { .. });
            assert!(is_right || !says_itself, "seed {seed}: {step}");
            strong += usize::from(says_itself);
        }
        right_ones += right(&rebuilt, &disk, SPAN);
        all += entries;
    }
    println!("{right_ones} of {all} tables right, {strong} of them by what they say themselves");
    assert!(strong >= 12, "GPT headers, superblocks: {strong}");
}

#[test]
fn good_entries_stay_and_lost_ones_come_back() {
    let disk = gpt_disk(20 * MIB, 7);
    let builder = Builder::new(12, 9, disk.len() as u64).aligned(4096);
    let good = image(builder, &disk, Order::Sequential, false);
    let mut random = Random::new(1);
    for round in 0..40 {
        let mut bytes = good.clone();
        let lost = 1 + random.below(9);
        for _ in 0..lost {
            let at = 48 + 8 * usize::try_from(random.below(10)).unwrap();
            let value = match round % 3 {
                0 => 0,
                1 => random.number(),
                _ => 512 * random.below(good.len() as u64 / 512),
            };
            bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        }
        let rebuilt = l1(&source(&bytes)).expect("memory");
        let count = right(&rebuilt, &disk, SPAN);
        assert_eq!(count, 10, "round {round}");
    }
}

#[test]
fn a_table_that_cannot_stand_where_it_should_moves() {
    let disk = gpt_disk(6 * MIB, 8);
    let builder = Builder::new(12, 9, disk.len() as u64).aligned(4096);
    let good = image(builder, &disk, Order::Sequential, false);
    for l1_at in [0u64, 8, 1 << 40, good.len() as u64 - 8] {
        let mut bytes = good.clone();
        bytes[40..48].copy_from_slice(&l1_at.to_be_bytes());
        let rebuilt = l1(&source(&bytes)).expect("memory");
        assert!(content(&open(&rebuilt.source)) == disk, "{l1_at:#x}");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures are asked for")]
fn what_qemu_converted_comes_back_without_its_l1_table() {
    if !qemu::has("qemu-img") || !qemu::has("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let disk = gpt_disk(32 * MIB, 11);
    std::fs::write(folder.path().join("disk.raw"), &disk).expect("a file");
    for arguments in [
        &["convert", "-f", "raw", "-O", "qcow", "disk.raw", "disk.qcow"][..],
        &["convert", "-c", "-f", "raw", "-O", "qcow", "disk.raw", "disk.qcow"],
    ] {
        qemu::img(folder.path(), arguments);
        let mut bytes = std::fs::read(folder.path().join("disk.qcow")).expect("a file");
        bytes[48..48 + 16 * 8].fill(0);
        let rebuilt = l1(&source(&bytes)).expect("memory");
        assert!(content(&open(&rebuilt.source)) == disk, "{arguments:?}");
    }
    qemu::img(folder.path(), &["create", "-f", "qcow", "random.qcow", "32M"]);
    let mut random = Random::new(12);
    let mut commands = Vec::new();
    let mut spans: Vec<u64> = (0..16).collect();
    for left in (1..16).rev() {
        spans.swap(left, usize::try_from(random.below(left as u64 + 1)).expect("an index"));
    }
    for span in &spans {
        let from = span * (2 << 20);
        let part = &disk[usize::try_from(from).unwrap()..][..SPAN];
        std::fs::write(folder.path().join(format!("part{span}")), part).expect("a file");
        commands.push("-c".to_owned());
        commands.push(format!("write -q -s part{span} {from} 2M"));
    }
    let mut arguments: Vec<&str> = vec!["-f", "qcow"];
    arguments.extend(commands.iter().map(String::as_str));
    arguments.push("random.qcow");
    qemu::io(folder.path(), &arguments);
    let mut bytes = std::fs::read(folder.path().join("random.qcow")).expect("a file");
    assert!(content(&open(&source(&bytes))) == disk, "qemu-io wrote it");
    bytes[48..48 + 16 * 8].fill(0);
    let rebuilt = l1(&source(&bytes)).expect("memory");
    let count = right(&rebuilt, &disk, SPAN);
    println!("{count} of 16 tables right that qemu-io wrote here and there");
    assert!(count >= 3, "both GPT headers and superblocks: {count}");
}

#[test]
fn xen_tables_come_back_by_their_implied_layout() {
    let disk = gpt_disk(6 * MIB, 13);
    for order in [XenOrder::Big, XenOrder::Little] {
        let mut builder = Builder::new(12, 9, disk.len() as u64).xen(order).aligned(4096);
        for (number, cluster) in (0u64..).zip(disk.chunks(4096)) {
            builder.plain(number, cluster);
        }
        let tables: Vec<u64> = (0..3).map(|index| builder.table_of(index * 512)).collect();
        let good = builder.build();
        for (from, length) in [(0, 4096), (0, 512), (1024, 2048), (8, 8)] {
            let mut bytes = good.clone();
            for table in &tables {
                let at = usize::try_from(*table).unwrap() + from;
                bytes[at..at + length].fill(0);
            }
            let rebuilt = xen(&source(&bytes)).expect("memory");
            assert!(content(&open(&rebuilt.source)) == disk, "{order:?} {from} {length}");
            assert_eq!(rebuilt.steps.len(), 3);
            let lost = (length / 8 * 4096 * 3) as u64;
            let told: u64 = rebuilt.suspect.iter().map(|range| range.length).sum();
            assert_eq!(told, lost, "suspect is what was lost");
        }
    }
    assert!(xen(&source(&Builder::new(12, 9, 4096).build())).is_err());
}

#[test]
#[expect(clippy::print_stdout, reason = "figures are asked for")]
fn of_a_real_file_system_what_is_not_suspect_is_right() {
    if !qemu::has("qemu-img") || !qemu::has("mkfs.ext4") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let raw = folder.path().join("disk.raw");
    std::fs::File::create(&raw).and_then(|file| file.set_len(64 << 20)).expect("a file");
    let files = folder.path().join("files");
    std::fs::create_dir(&files).expect("a folder");
    for number in 0..8 {
        let bytes = Random::new(number).content(3 << 20);
        std::fs::write(files.join(format!("file{number}")), bytes).expect("a file");
    }
    let made = std::process::Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "1024", "-d"])
        .args([&files, &raw])
        .status();
    assert!(made.is_ok_and(|status| status.success()), "mkfs.ext4 makes a file system");
    qemu::img(folder.path(), &["convert", "-f", "raw", "-O", "qcow", "disk.raw", "disk.qcow"]);
    let disk = std::fs::read(&raw).expect("a file");
    let good = std::fs::read(folder.path().join("disk.qcow")).expect("a file");
    let mut bytes = good.clone();
    bytes[..48].fill(0);
    let rebuilt = header(&source(&bytes), &Hints::default()).expect("memory");
    assert!(content(&open(&rebuilt.source)) == disk, "the superblock tells the size");
    let mut bytes = good;
    bytes[48..48 + 32 * 8].fill(0);
    let rebuilt = l1(&source(&bytes)).expect("memory");
    let count = right(&rebuilt, &disk, SPAN);
    let strong = rebuilt.steps.iter().filter(|step| step.confidence > Confidence::Guess).count();
    println!(
        "{count} of 32 spans right, {} tables, {strong} more than guesses",
        rebuilt.steps.len()
    );
}
