//! Virtual machines of Proxmox VE: drives follow their images, and every other byte stays.

mod common;

use std::path::Path;

use calve_references::{Changes, Kind, Rewritten, Storages, kind_of};
use calve_testkit::{Random, seeds};
use common::{changes, noted, text};

const STORAGE_CFG: &[u8] = b"# path /not\ndir: local\n\tpath /var/lib/vz\n\tcontent iso,images\n\n\
    lvmthin: local-lvm\n\tthinpool data\n\tvgname pve\n\n\
    nfs: far\n\tserver 10.0.0.10\n\texport /space\n\n\
    dir: own\r\n    content-dirs iso=i,images=/disks/vm\r\n\tpath /srv//own/\r\n";

fn storages() -> Storages {
    Storages::parse(STORAGE_CFG)
}

fn rewritten(old: &str, changes: &Changes) -> Rewritten {
    let path = "/etc/pve/qemu-server/100.conf";
    common::rewritten(Kind::Proxmox, path, old.as_bytes(), changes, &storages())
}

/// Asserts what the first configuration becomes.
#[track_caller]
fn assert_becomes(old: &str, new: &str, pairs: &[(&str, &str)]) -> Rewritten {
    let found = rewritten(old, &changes(pairs));
    assert_eq!(text(&found), new);
    found
}

#[test]
fn storages_are_read_as_proxmox_writes_them() {
    let mut expected = Storages::new();
    expected.add("local", Path::new("/var/lib/vz/images"));
    expected.add("far", Path::new("/mnt/pve/far/images"));
    expected.add("own", Path::new("/srv/own/disks/vm"));
    assert_eq!(storages(), expected);
}

#[test]
fn drives_follow_in_all_sections() {
    let machine = |format: &str, one: &str, two: &str, three: &str| {
        format!(
            "#scsi0: local:100/vm-100-disk-0.qcow,format=qcow\n# é%3A\nagent: 1\n\
             args: -nographic\nboot: order=scsi0\n\
             efidisk0: own:100/{two},size=4M\nide2: none,media=cdrom\n\
             scsi0: local:100/{one},format={format},iothread=1,size=32G\n\
             scsi1: iothread=1,file={three},cache=none,format={format}\r\n\
             sata3:  volume=far:100/{two},format={format} \nunused7: local:100/{one}\n\
             scsihw: virtio-scsi-single\n\n[before]\n#note\nparent: x\n\
             virtio15: local:100/{one},size=1G,format={format}\nvmstate: local:100/s.raw\n\
             [PENDING]\nscsi0: local:100/{one}"
        )
    };
    let old = machine("qcow", "vm-100-disk-0.qcow", "b.qcow", "/tank/x y.qcow");
    let new = machine("qcow2", "vm-100-disk-0.qcow2", "b.qcow2", "/tank/x y.qcow2");
    let found = assert_becomes(
        &old,
        &new,
        &[
            (
                "/var/lib/vz/images/100/vm-100-disk-0.qcow",
                "/var/lib/vz/images/100/vm-100-disk-0.qcow2",
            ),
            ("/srv/own/disks/vm/100/b.qcow", "/srv/own/disks/vm/100/b.qcow2"),
            ("/mnt/pve/far/images/100/b.qcow", "/mnt/pve/far/images/100/b.qcow2"),
            ("/tank/x y.qcow", "/tank/x y.qcow2"),
        ],
    );
    let lines: Vec<u64> = found.edits.iter().map(|edit| edit.line).collect();
    assert_eq!(lines, [6, 8, 8, 9, 9, 10, 10, 11, 17, 17, 20]);
    assert_eq!(found.notes, []);
}

#[test]
fn a_name_that_stays_is_told_of_where_proxmox_goes_by_it() {
    let pairs = [("/var/lib/vz/images/1/a.qcow", "/var/lib/vz/images/1/a.qcow"), ("/x", "/x")];
    let found = assert_becomes(
        "scsi0: local:1/a.qcow,format=qcow\nscsi1: /x,format=qcow\nscsi2: /x\n",
        "scsi0: local:1/a.qcow,format=qcow2\nscsi1: /x,format=qcow2\nscsi2: /x\n",
        &pairs,
    );
    assert_eq!(noted(&found), [1, 3], "{:?}", found.notes);
}

#[test]
fn images_go_to_other_storages_and_out_of_them() {
    let (old, here) = ("scsi0: local:1/a.qcow,size=1G\n", "/var/lib/vz/images/1/a.qcow");
    assert_becomes(
        old,
        "scsi0: far:2/b.qcow2,size=1G\n",
        &[(here, "/mnt/pve/far/images/2/b.qcow2")],
    );
    assert_becomes(old, "scsi0: /tank/b.qcow2,size=1G\n", &[(here, "/tank/b.qcow2")]);
    let deeper = "/var/lib/vz/images/1/sub/b.qcow2";
    assert_becomes(old, &format!("scsi0: {deeper},size=1G\n"), &[(here, deeper)]);
    let found = rewritten(old, &changes(&[(here, "/tank/a,b.qcow2")]));
    assert_eq!((found.bytes.is_none(), noted(&found)), (true, vec![1]));
    let back = "/var/lib/vz/images/1/b.qcow2";
    assert_becomes(
        "sata0: /t/x,format=qcow",
        &format!("sata0: {back},format=qcow2"),
        &[("/t/x", back)],
    );
}

#[test]
fn linked_clones_follow_their_bases() {
    let clone = |base: &str, own: &str| format!("scsi0: local:9/{base}/100/{own},size=1G\n");
    let images = |name: &str| format!("/var/lib/vz/images/{name}");
    let old = clone("base-9.qcow", "vm-100.qcow");
    let (base, new_base) = (images("9/base-9.qcow"), images("9/base-9.qcow2"));
    let (own, new_own) = (images("100/vm-100.qcow"), images("100/vm-100.qcow2"));
    let both = [(&*base, &*new_base), (&*own, &*new_own)];
    assert_becomes(&old, &clone("base-9.qcow2", "vm-100.qcow2"), &both);
    assert_becomes(&old, &clone("base-9.qcow2", "vm-100.qcow"), &both[..1]);
    assert_becomes(&old, &clone("base-9.qcow", "vm-100.qcow2"), &both[1..]);
    for elsewhere in ["/mnt/pve/far/images/9/b.qcow2", "/tank/b.qcow2"] {
        for one in [&base, &own] {
            let found = rewritten(&old, &changes(&[(one, elsewhere)]));
            assert_eq!((found.bytes, found.notes.len()), (None, 1), "{elsewhere}");
        }
    }
}

#[test]
fn what_a_person_has_to_judge_is_noted() {
    let pairs = [("/var/lib/vz/images/1/a.qcow", "/var/lib/vz/images/1/a.qcow2"), ("/b", "/b")];
    let old = "args: -drive file=/b,if=none\nargs: -drive file=/c,format=qcow\nargs: -vnc :1\n\
               scsi1: /b,format=raw\nscsi2: else:1/a.qcow\nscsi3: else:1/c.qcow\n";
    let found = rewritten(old, &changes(&pairs));
    assert_eq!((found.bytes.is_none(), noted(&found)), (true, vec![1, 2, 4, 5]));
}

#[test]
fn machines_are_known_by_name_and_content() {
    let kind = |path: &str, text: &str| kind_of(Path::new(path), text.as_bytes());
    assert_eq!(kind("1.conf", "cores: 1\nide0: /x\n"), Some(Kind::Proxmox));
    assert_eq!(kind("1.conf", "virtio0: a-b:1/vm.raw,size=1G"), Some(Kind::Proxmox));
    assert_eq!(kind("1.conf", "<domain/>"), Some(Kind::LibvirtDomain), "content comes first");
    for (path, text) in [
        ("1.cfg", "ide0: /x\n"),
        ("1.conf", "# ide0: /x\n"),
        ("1.conf", "ide2: none,media=cdrom\nide3: local:iso/a.iso\nscsihw: /x\nide: /x\n"),
        ("1.conf", " ide0: /x"),
        ("1.conf", "rootfs: local:1/vm-1.raw"),
        ("1.conf", ""),
    ] {
        assert_eq!(kind(path, text), None, "{text}");
    }
}

#[test]
fn any_bytes_are_read() {
    let old =
        b"scsi0: local:9/b.qcow/1/a.qcow,format=qcow\n[s]\nide0: file=/x,format=qcow\nargs: a\n";
    let changes = changes(&[
        ("/var/lib/vz/images/1/a.qcow", "/var/lib/vz/images/1/a.qcow2"),
        ("/var/lib/vz/images/9/b.qcow", "/var/lib/vz/images/9/b.qcow2"),
        ("/x", "/y"),
    ]);
    for seed in seeds("CALVE_REFERENCE_CASES", 3000) {
        let mut random = Random::new(seed ^ 0x9E);
        let mut bytes = old.to_vec();
        for _ in 0..=random.below(4) {
            let at = usize::try_from(random.below(bytes.len() as u64)).expect("small");
            match random.below(3) {
                0 => bytes[at] = random.one_of(b":/,=\n\r \xE9#[0a"),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.one_of(b":/,=\n\r ")),
            }
        }
        let rewrite = |bytes: &[u8]| {
            let (kind, path) = (Kind::Proxmox, Path::new("1.conf"));
            calve_references::rewrite(kind, path, bytes, &changes, &storages()).expect("it is read")
        };
        if let Some(new) = rewrite(&bytes).bytes {
            assert_eq!(rewrite(&new).bytes, None, "seed {seed}");
        }
        let _ = Storages::parse(&bytes);
    }
}
