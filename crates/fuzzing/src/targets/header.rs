//! The header of version 1, the name and the first tables: facts and findings against what the
//! rules of `docs/qcow1.md` say of the same bytes, written down once more.

use calve_disk::formats::qcow1::{Dialect, Qcow1Facts};
use calve_disk::limits::MAX_VIRTUAL_SIZE;
use calve_disk::{Error, Facts, Rule, Specific};

use crate::disks;
use crate::input::Input;

/// Extents that show the first tables.
const EXTENTS: usize = 500;

pub(super) fn run(data: &[u8]) {
    let Some(input) = Input::of(data) else { return };
    let bytes = input.image;
    match disks::version_1(&input) {
        Ok(disk) => {
            assert!(is_version_1(bytes), "opened, and is no version 1");
            assert_eq!(broken_rules(bytes), [], "opened, and may not be");
            check_facts(disk.top().facts(), bytes);
            disks::walked(&disk, EXTENTS);
        }
        Err(error) => {
            disks::assert_one_line(&error.to_string());
            match error {
                Error::NotThisFormat { .. } => assert!(!is_version_1(bytes), "{error}"),
                Error::Broken { finding, .. } => {
                    disks::assert_told_well(&finding, u64::MAX);
                    let broken = broken_rules(bytes);
                    assert!(is_version_1(bytes) && broken.contains(&finding.rule), "{error}");
                }
                _ => panic!("opening fails: {error}"),
            }
        }
    }
}

/// Whether the bytes begin as version 1 does, as far as there are any (Q1).
fn is_version_1(bytes: &[u8]) -> bool {
    let version = bytes.get(4..8);
    bytes.starts_with(b"QFI\xFB") && version.is_none_or(|version| version == [0, 0, 0, 1])
}

/// The rules that make a header unusable and that this one breaks.
fn broken_rules(bytes: &[u8]) -> Vec<Rule> {
    if bytes.len() < 48 {
        return vec![Rule::HeaderCut];
    }
    let (cluster_bits, l2_bits, size) = (bytes[32], bytes[33], number(bytes, 24, 8));
    let mut broken = Vec::new();
    if !(9..=16).contains(&cluster_bits) {
        broken.push(Rule::ClusterBits);
    }
    if !(6..=13).contains(&l2_bits) {
        broken.push(Rule::L2Bits);
    }
    let covered = 1u128.checked_shl(u32::from(cluster_bits) + u32::from(l2_bits));
    let entries = u128::from(size).div_ceil(covered.unwrap_or(u128::MAX));
    if entries >= 1 << 28 || size > MAX_VIRTUAL_SIZE {
        broken.push(Rule::VirtualSize);
    }
    if number(bytes, 36, 4) > 1 {
        broken.push(Rule::CryptMethod);
    }
    broken
}

fn check_facts(facts: &Facts, bytes: &[u8]) {
    let Specific::Qcow1(its) = &facts.specific else { panic!("facts of another format") };
    let size = number(bytes, 24, 8);
    assert_eq!((facts.virtual_size, facts.file_size), (size, bytes.len() as u64));
    assert_eq!(facts.cluster_size.map(calve_disk::units::ClusterSize::bits), Some(bytes[32]));
    assert_eq!((its.cluster_bits, its.l2_bits), (bytes[32], bytes[33]));
    assert_eq!(facts.is_encrypted, number(bytes, 36, 4) == 1);
    assert_eq!(u64::from(its.mtime), number(bytes, 20, 4));
    assert_eq!((its.l1_at, its.l1_entries), (number(bytes, 40, 8), l1_entries(bytes)));
    let (name, name_rule) = backing_name(bytes);
    let named = facts.backing.as_ref().map(|reference| &reference.name[..]);
    assert_eq!(named, name, "the backing file's name");
    check_dialect(its, bytes);
    let mut expected: Vec<Rule> = name_rule.into_iter().collect();
    let mut add = |is_so: bool, rule| expected.extend(is_so.then_some(rule));
    add(bytes[34..36] != [0, 0], Rule::PaddingSet);
    add(!size.is_multiple_of(512), Rule::SizeNotSectors);
    add(its.l1_at < 48 && its.l1_entries > 0, Rule::L1Place);
    add(its.dialect == Dialect::XenLittleEndian, Rule::XenByteOrder);
    let mut found: Vec<Rule> = facts.findings.iter().map(|finding| finding.rule).collect();
    facts.findings.iter().for_each(|finding| disks::assert_told_well(finding, size));
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected, "what is odd about the header");
}

/// The name, if it is one, and the rule that is broken where it stands (Q10, Q11, Q40).
fn backing_name(bytes: &[u8]) -> (Option<&[u8]>, Option<Rule>) {
    let (at, length) = (number(bytes, 8, 8), number(bytes, 16, 4));
    if at == 0 || length == 0 {
        return (None, (at != 0 || length != 0).then_some(Rule::BackingNameHalf));
    }
    let lost = (None, Some(Rule::BackingNamePlace));
    let range = usize::try_from(at).ok().zip(usize::try_from(length).ok());
    let range = range.and_then(|(at, length)| Some(at..at.checked_add(length)?));
    match range.and_then(|range| bytes.get(range)) {
        Some(name) if length <= 1023 => match name.iter().position(|byte| *byte == 0) {
            Some(0) => lost,
            Some(end) => (Some(&name[..end]), Some(Rule::BackingNameText)),
            None => (Some(name), None),
        },
        _ => lost,
    }
}

/// Xen's dialect needs its magic and an aligned table; little-endian, an entry that says so (Q29).
fn check_dialect(its: &Qcow1Facts, bytes: &[u8]) {
    let is_xen = bytes.get(48..52) == Some(b"XEN\xFB") && its.l1_at.is_multiple_of(4096);
    let is_place = |at: u64| at != 0 && at.is_multiple_of(512) && at < bytes.len() as u64;
    let entries = (0..its.l1_entries.min(4096)).map_while(|index| {
        let at = usize::try_from(its.l1_at.checked_add(index * 8)?).ok()?;
        bytes.get(at..at.checked_add(8)?).map(|entry| number(entry, 0, 8))
    });
    let mut little = entries.filter(|big| {
        let swapped = big.swap_bytes();
        !is_place(*big) && (is_place(swapped) || swapped < *big)
    });
    let expected = match is_xen {
        false => Dialect::Qemu,
        true if its.l1_at >= 48 && little.next().is_some() => Dialect::XenLittleEndian,
        true => Dialect::Xen,
    };
    assert_eq!(its.dialect, expected);
}

fn l1_entries(bytes: &[u8]) -> u64 {
    number(bytes, 24, 8).div_ceil(1 << (bytes[32] + bytes[33]))
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
