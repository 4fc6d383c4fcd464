//! Domains of libvirt: what names a changed image changes, and every other byte stays.

mod common;

use std::path::Path;
use std::process::Command;

use calve_references::{Changes, Edit, Error, Kind, Rewritten, Storages, kind_of};
use calve_testkit::{Random, qemu, seeds};
use common::{changes, noted, text};

fn rewritten(old: &str, changes: &Changes) -> Rewritten {
    let (kind, storages) = (Kind::LibvirtDomain, Storages::new());
    common::rewritten(kind, "domain.xml", old.as_bytes(), changes, &storages)
}

fn rewrite(bytes: &[u8], changes: &Changes) -> Result<Rewritten, Error> {
    let (kind, path) = (Kind::LibvirtDomain, Path::new("x"));
    calve_references::rewrite(kind, path, bytes, changes, &Storages::new())
}

/// A disk with that inside, in a domain.
fn domain(disks: &str) -> String {
    format!(
        "<domain type='test'>\n  <name>old</name>\n  <memory unit='KiB'>65536</memory>\n  \
         <os><type arch='x86_64'>hvm</type></os>\n  <devices>\n{disks}\n  </devices>\n</domain>\n"
    )
}

/// Asserts what the first text becomes, with the second put in the place of it.
#[track_caller]
fn assert_becomes(old: &str, new: &str, pairs: &[(&str, &str)]) -> Rewritten {
    let found = rewritten(&domain(old), &changes(pairs));
    assert_eq!(text(&found), domain(new));
    found
}

#[test]
fn the_format_follows_where_the_name_stays() {
    let found = assert_becomes(
        "<disk type='file' device='disk'>\n  <driver name='qemu' type='qcow' cache='none'/>\n  \
         <source file='/images/a.qcow'/>\n  <target dev='vda' bus='virtio'/>\n</disk>",
        "<disk type='file' device='disk'>\n  <driver name='qemu' type='qcow2' cache='none'/>\n  \
         <source file='/images/a.qcow'/>\n  <target dev='vda' bus='virtio'/>\n</disk>",
        &[("/images/a.qcow", "/images/a.qcow")],
    );
    let image = "/images/a.qcow".into();
    let edit = Edit { line: 7, what: "format", image, was: "qcow".into(), now: "qcow2".into() };
    assert_eq!(found.edits, [edit]);
    assert_eq!(found.notes, []);
}

#[test]
fn path_and_format_follow_whatever_the_order_quotes_and_blanks() {
    assert_becomes(
        "<disk\ttype = \"file\" ><source\n   startupPolicy=\"optional\"  file = \"/i//./a.qcow\"\n />\
         <driver type=\"qcow\"></driver   ></disk  >",
        "<disk\ttype = \"file\" ><source\n   startupPolicy=\"optional\"  file = \"/i/b.qcow2\"\n />\
         <driver type=\"qcow2\"></driver   ></disk  >",
        &[("/i/a.qcow", "/i/b.qcow2")],
    );
}

#[test]
fn backing_stores_mirrors_and_data_files_follow_at_any_depth() {
    let disk = |top: &str, one: &str, two: &str, mirror: &str, data: &str| {
        format!(
            "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{top}'>\
             <dataStore type='file'>{data}</dataStore></source>\
             <backingStore type='file'><format type='{one}'/><source file='/i/one'/>\
             <backingStore type='block'><format type='qcow'/><source dev='/i/two'/>\
             <backingStore type='file'><source file='/i/two'/><format type='{two}'/>\
             <backingStore/></backingStore></backingStore></backingStore>\
             <mirror type='file' {mirror} job='copy'>\
             </mirror></disk>"
        )
    };
    let data = |format| format!("<format type='{format}'/><source file='/i/two'/>");
    let mirror = |file, format| format!("file='{file}' format='{format}'");
    let old = disk("/i/top", "qcow", "qcow", &mirror("/i/one", "qcow"), &data("qcow"));
    let new = disk("/i/top", "qcow2", "qcow2", &mirror("/i/one", "qcow2"), &data("qcow2"));
    let found = assert_becomes(&old, &new, &[("/i/one", "/i/one"), ("/i/two", "/i/two")]);
    assert_eq!(found.edits.len(), 4);
    let both = "<mirror type='file' file='/i/m' format='qcow'><format type='qcow'/>\
                <source file='/i/m'/></mirror>";
    let both_new = "<mirror type='file' file='/i/n' format='qcow2'><format type='qcow2'/>\
                    <source file='/i/n'/></mirror>";
    let disk = |inside: &str| format!("<disk type='file'><source file='/x'/>{inside}</disk>");
    assert_becomes(&disk(both), &disk(both_new), &[("/i/m", "/i/n")]);
}

#[test]
fn snapshots_and_running_domains_have_disks_too() {
    let body = |format: &str| {
        format!(
            "<devices><disk type='file'><driver type='{format}'/><source file='/a'/></disk>\
             </devices>"
        )
    };
    let snapshot = |format: &str| {
        format!(
            "<!--\nWARNING: written by libvirt\n-->\n\n<domainsnapshot><name>s</name><disks>\
             <disk name='vda' snapshot='external' type='file'><driver type='{format}'/>\
             <source file='/a'/></disk></disks><domain>{0}</domain><inactiveDomain>{0}\
             </inactiveDomain></domainsnapshot>",
            body(format)
        )
    };
    let same = changes(&[("/a", "/a")]);
    let found = rewritten(&snapshot("qcow"), &same);
    assert_eq!(text(&found), snapshot("qcow2"));
    let running = |format: &str| {
        format!(
            "<domstatus state='running' pid='7'>\n<domain>{}</domain><blockjobs><blockjob>\
             <chains><disk type='file'><format type='{format}'/><source file='/a'/></disk>\
             </chains></blockjob></blockjobs></domstatus>",
            body(format)
        )
    };
    let found = rewritten(&running("qcow"), &same);
    assert_eq!((text(&found), noted(&found)), (&*running("qcow2"), vec![1]));
}

#[test]
fn escapes_in_paths_are_understood_and_written() {
    assert_becomes(
        "<disk type='file'><driver type='qcow'/>\
         <source file='/i/R&amp;D &#39;old&apos; &#x22;x&quot; é'/></disk>",
        "<disk type='file'><driver type='qcow2'/>\
         <source file='/i/&lt;R&amp;D&gt; &apos;n&quot; é'/></disk>",
        &[("/i/R&D 'old' \"x\" é", "/i/<R&D> 'n\" é")],
    );
    // As XML has it, a line end in an attribute is a blank; one that is meant is an escape.
    assert_becomes(
        "<disk><driver type='qcow'/><source file='/i/a\nb&#10;c'/></disk>",
        "<disk><driver type='qcow2'/><source file='/i/d&#10;e'/></disk>",
        &[("/i/a b\nc", "/i/d\ne")],
    );
    let found = rewritten(
        &domain("<disk><driver type='qcow'/>\n<source file='/i/a'/></disk>"),
        &changes(&[("/i/a", "/i/\u{1}")]),
    );
    assert_eq!((found.edits.len(), noted(&found)), (1, vec![7]), "XML has no such character");
}

#[test]
fn look_alikes_stay() {
    let stays = "<disk type='file'><driver type='qcow'/><source file='/a'/></disk>";
    let old = format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n<!-- {stays} -->\n<domain>\n\
         <description><![CDATA[{stays}]]></description>\n<metadata>\n\
         <app:devices xmlns:app='urn:app'><devices>{stays}</devices></app:devices>\n</metadata>\n\
         <?app {stays}?>\n<devices>\n\
         <disk type='block'><driver type='qcow'/><source dev='/a'/></disk>\n\
         <disk type='block'><driver type='qcow'/><source file='/a'/></disk>\n\
         <disk type='network'><driver type='qcow'/><source protocol='nbd' name='/a'/></disk>\n\
         <disk type='file' device='cdrom'><driver type='qcow'/></disk>\n\
         <disk type='file'><driver type='qcow'/><source file='/a2'/></disk>\n\
         <disk type='file'><driver type='qcow'/><source file='a'/></disk>\n\
         <filesystem><driver type='qcow'/><source file='/a'/></filesystem>\n\
         <interface><source file='/a'/></interface>\n</devices>{stays}</domain>\n"
    );
    let found = rewritten(&old, &changes(&[("/a", "/b")]));
    assert_eq!((found.bytes, found.notes), (None, vec![]));
}

#[test]
fn line_ends_comments_and_all_else_stay_to_the_byte() {
    let old = "\u{FEFF}<?xml version=\"1.0\"?>\r\n<domain >\r\n\t<devices><!-- type='qcow' -->\r\n\
               \t\t<disk type='file'><!-- > -->\r\n<driver  type='qcow'\tname=\"qemu\" />\r\n\
               <source file='/a'/> <!-- ' --></disk>\r\n</devices>\r\n</domain>";
    let found = rewritten(old, &changes(&[("/a", "/b")]));
    let new = old.replace("type='qcow'\t", "type='qcow2'\t").replace("'/a'", "'/b'");
    assert_eq!(text(&found), new);
    assert_eq!(found.edits.iter().map(|edit| edit.line).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn what_a_person_has_to_judge_is_noted() {
    let same = changes(&[("/i/a.qcow", "/i/a.qcow"), ("/i/b", "/i/c")]);
    let note = |disk: &str| {
        let found = rewritten(&domain(disk), &same);
        assert_eq!(noted(&found), [6], "{disk}");
        found
    };
    for disk in [
        "<disk type='file'><driver name='qemu'/><source file='/i/a.qcow'/></disk>",
        "<disk type='file'><driver type='raw'/><source file='/i/a.qcow'/></disk>",
        "<disk type='file'><driver type='&x;'/><source file='/i/a.qcow'/></disk>",
        "<disk type='file'><driver type='qcow'/><source file='&x;'/></disk>",
        "<disk type='file'><driver type='qcow'/><source file='/i/b'/><source file='/x'/></disk>",
        "<disk type='volume'><driver type='qcow'/><source pool='p' volume='a.qcow'/></disk>",
    ] {
        assert_eq!(note(disk).bytes, None, "{disk}");
    }
    let found = note("<disk type='file'><driver type='raw'/><source file='/i/b'/></disk>");
    assert_eq!(found.edits.len(), 1, "the path follows all the same");
    let arguments = "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n\
                     <devices/><qemu:commandline>\n<qemu:arg value='-drive'/>\n\
                     <qemu:arg value='file=/x,format=qcow'/>\n<qemu:arg value='file=/i/b'/>\n\
                     <qemu:arg value='file=/x,format=qcow2'/></qemu:commandline></domain>";
    let found = rewritten(arguments, &same);
    assert_eq!((noted(&found), found.bytes), (vec![4, 5], None));
    // It is what it has to be already.
    let disk = "<disk type='file'><driver type='qcow2'/><source file='/i/a.qcow'/></disk>";
    assert_eq!(rewritten(&domain(disk), &same), Rewritten::default());
}

#[test]
fn what_is_no_document_is_refused_with_its_line() {
    let refused = |bytes: &[u8], line: u64| {
        let outcome = rewrite(bytes, &Changes::new());
        match outcome {
            Err(Error::Unreadable { line: at, .. }) => assert_eq!(at, line),
            other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
        }
    };
    refused(b"<domain>\n<devices>\n</domain>", 3);
    refused(b"<domain>\n<devices>", 2);
    refused(b"<domain>\n<devices a='1' a='2'/></domain>", 2);
    refused(b"<domain>\n\xE9</domain>", 2);
    refused(b"<?xml version='1.0' encoding='ISO-8859-1'?><domain/>", 1);
    refused("<a>".repeat(300).as_bytes(), 1);
    let attributes: String = (0..300).map(|number| format!(" a{number}=''")).collect();
    refused(format!("<domain{attributes}/>").as_bytes(), 1);
    refused(&vec![b' '; calve_references::limits::MAX_CONFIGURATION + 1], 1);
}

#[test]
fn domains_are_known_by_their_content() {
    let kind = |bytes: &[u8]| kind_of(Path::new("any"), bytes);
    let domain = Some(Kind::LibvirtDomain);
    assert_eq!(kind(b"\n<!-- x --><domain id='1'>"), domain);
    assert_eq!(kind(b"<?xml version='1.0' encoding='ISO-8859-1'?><domstatus>\xE9"), domain);
    assert_eq!(kind(b"<domainsnapshot/>"), domain);
    for other in [&b"<pool/>"[..], b"domain", b"", b"x <domain/>", b"<domains/>", b"\xFF\xFE<"] {
        assert_eq!(kind(other), None, "{}", String::from_utf8_lossy(other));
    }
}

/// Whatever is done to a document, it is read or refused, and only values change.
#[test]
fn any_bytes_are_read_or_refused() {
    let disk = "<disk type='file'><driver type='qcow'/><source file='/i/a'/><backingStore \
                type='file'><format type='qcow'/><source file='/i/b'/></backingStore></disk>";
    let (document, changes) = (domain(disk), changes(&[("/i/a", "/i/a"), ("/i/b", "/i/c&d")]));
    for seed in seeds("CALVE_REFERENCE_CASES", 3000) {
        let mut random = Random::new(seed ^ 0x11B);
        let mut bytes = document.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = usize::try_from(random.below(bytes.len() as u64)).expect("small");
            match random.below(3) {
                0 => bytes[at] = random.one_of(b"<>&'\"/ =!-\0\xC3a"),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.one_of(b"<>&'\"/ =")),
            }
        }
        let Ok(found) = rewrite(&bytes, &changes) else {
            continue;
        };
        let Some(new) = found.bytes else { continue };
        let grown: usize = found.edits.iter().map(|edit| usize::from(edit.what == "format")).sum();
        assert!(new.len() >= bytes.len() + grown, "seed {seed}");
        let again = rewrite(&new, &changes);
        let again = again.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(again.bytes, None, "seed {seed}");
    }
}

/// libvirt itself reads the same of both, but for what was changed.
#[test]
fn libvirt_reads_what_was_written() {
    if !qemu::has("virsh") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let disks = "<disk type='file' device='disk'>\n<driver name='qemu' type='qcow'/>\
        <source file='/i/R&amp;D &apos;a&apos;.qcow'/><backingStore type='file'>\
        <format type='qcow'/><source file=\"/i/base.qcow\"/><backingStore type='file'>\
        <format type='qcow'/><source file='/i/root.qcow'/><backingStore/></backingStore>\
        </backingStore><target dev='vda' bus='virtio'/></disk>\
        <disk type='file' device='disk'><driver name='qemu' type='qcow'/>\
        <source file='/i/other.qcow'/><target dev='vdb' bus='virtio'/></disk>";
    let changes = changes(&[
        ("/i/R&D 'a'.qcow", "/i/R&D \"a\" <1>.qcow2"),
        ("/i/base.qcow", "/i/base.qcow"),
        ("/i/root.qcow", "/i/root.qcow2"),
    ]);
    let read = |name: &str, document: &str| {
        std::fs::write(folder.path().join(name), document).expect("written");
        let commands = format!("define {name} --validate; dumpxml old --inactive");
        let output = Command::new("virsh")
            .args(["-q", "-c", "test:///default", &commands])
            .current_dir(folder.path())
            .output()
            .expect("virsh");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let text = String::from_utf8_lossy(&output.stdout);
        // Another one with each run.
        text.lines().filter(|line| !line.contains("uuid")).collect::<Vec<_>>().join("\n")
    };
    let old = domain(disks);
    let found = rewritten(&old, &changes);
    assert_eq!(found.edits.len(), 5);
    let (before, after) = (read("old.xml", &old), read("new.xml", text(&found)));
    assert_ne!(before, after);
    let expected = before
        .replacen("type='qcow'", "type='qcow2'", 3)
        .replace("/i/R&amp;D &apos;a&apos;.qcow", "/i/R&amp;D &quot;a&quot; &lt;1&gt;.qcow2")
        .replace("/i/root.qcow", "/i/root.qcow2");
    assert_eq!(after, expected);
    assert_eq!(after.matches("type='qcow2'").count(), 3);
}
