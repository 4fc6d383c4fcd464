//! Every rule finds its places, and nothing that only looks like them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use calve_sources::{AuditOptions, Event, Looked, Rule, Unread, audit, limits, look};
use rustix::time::{ClockId, clock_gettime};

fn looked(name: &str, text: &[u8]) -> Result<Looked, Unread> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("written");
    look(&File::open(file.path()).expect("opens"), OsStr::new(name))
}

/// Numbers of rules and the lines at which they are found.
fn told(name: &str, text: &str) -> Vec<String> {
    let looked = looked(name, text.as_bytes()).expect("read");
    let findings = looked.findings.iter();
    let told = findings.map(|it| {
        // What a column points at is the word, or the value that ends with it.
        let line = text.lines().nth(usize::try_from(it.line - 1).expect("small")).expect("a line");
        let rest = &line[usize::try_from(it.column - 1).expect("small")..];
        let word = rest.split(|c: char| c.is_whitespace() || "\"'`,:;<>})]".contains(c)).next();
        let word = word.unwrap_or_default().to_ascii_lowercase();
        assert!(word.starts_with("qcow") || word.ends_with(".qcow"), "{name}: {text}: {rest}");
        format!("{} {}", it.rule, it.line)
    });
    told.collect()
}

/// A name, a text, and the rules with their lines.
const FOUND: &[(&str, &str, &[&str])] = &[
    // S1
    ("a.sh", "qemu-img create -f qcow disk.img 10G", &["S1 1"]),
    ("a.sh", "qemu-img create disk.img 10G -f qcow", &["S1 1"]),
    ("a.sh", "/usr/bin/qemu-img create -qf qcow \"$(basename $x)\" 1G", &["S1 1"]),
    ("a.sh", "$QEMU_IMG create --format=qcow d 1G", &["S1 1"]),
    ("a.sh", "sudo qemu-img convert -cO qcow a b && echo done", &["S1 1"]),
    ("a.sh", "qemu-img convert \\\n  -f raw \\\n  -O qcow \\\n  a b\n", &["S1 3"]),
    ("a.sh", "qemu-img convert -f raw -Oqcow a b", &["S1 1"]),
    ("a.sh", "qemu-img info a; qemu-img create -f qcow b 1G", &["S1 1"]),
    ("Makefile", "disk.img:\n\t@qemu-img create -f qcow $@ 10M\n", &["S1 2"]),
    ("a.py", "subprocess.run(['qemu-img', 'create', '-f', 'qcow', path, '1G'])", &["S1 1"]),
    ("a.py", "os.system(\"qemu-img convert -O qcow %s %s\" % (a, b))", &["S1 1"]),
    ("a.js", "exec(`qemu-img create -f qcow ${name}`)", &["S1 1"]),
    ("a.bat", "qemu-img.exe create ^\r\n -f qcow c:\\vm\\a.img 1G\r\n", &["S1 2"]),
    ("a.ps1", "& 'C:\\qemu\\qemu-img.exe' create `\n -f qcow a 1G\n", &["S1 2"]),
    ("Dockerfile", "RUN qemu-img create -f qcow /disk 1G", &["S1 1"]),
    ("README.md", "    $ qemu-img create -f qcow disk.img 1G\n", &["S1 1"]),
    ("README.md", "# qemu-img create -f qcow disk.img 1G\n", &["S1 1"]),
    ("index.html", "<pre>qemu-img create -f qcow a 1G</pre>", &["S1 1"]),
    ("a.py", "args = [\"-O\", \"qcow\"]", &["S1 1"]),
    ("a.rs", "img(&[\"create\", \"-f\", \"qcow\", name])", &["S1 1"]),
    // S2
    ("a.sh", "qemu-img convert -f qcow -O qcow2 a b", &["S2 1"]),
    ("a.sh", "qemu-img info --format qcow a", &["S2 1"]),
    ("a.sh", "qemu-img info --image-opts driver=qcow,file.filename=a", &["S2 1"]),
    ("a.sh", "qemu-img compare -F qcow -f raw a b", &["S2 1"]),
    ("a.sh", "qemu-nbd -f qcow -c /dev/nbd0 a", &["S2 1"]),
    ("a.sh", "qemu-io --format=qcow a", &["S2 1"]),
    ("a.py", "options = ('-f', 'qcow')", &["S2 1"]),
    ("a.sh", "qemu-img convert -f qcow -O qcow a b", &["S2 1", "S1 1"]),
    // S3
    ("a.sh", "qemu-img create -f qcow2 -b base -F qcow top", &["S3 1"]),
    ("a.sh", "qemu-img create -f qcow2 -o backing_file=b,backing_fmt=qcow top", &["S3 1"]),
    ("a.sh", "qemu-img rebase -u -b base -F qcow top", &["S3 1"]),
    ("a.conf", "base_format = qcow", &["S3 1"]),
    (
        "a.xml",
        "<disk><backingStore type='file'>\n<format type='qcow'/></backingStore></disk>",
        &["S3 2"],
    ),
    // S4
    ("a.sh", "qemu-system-x86_64 -m 1G -drive file=a.img,if=virtio,format=qcow", &["S4 1"]),
    ("a.sh", "qemu -drive format=qcow,file=a", &["S4 1"]),
    ("a.sh", "ARGS=\"-drive file=a,format=qcow -boot c\"", &["S4 1"]),
    ("a.py", "cmd += ['-drive', 'file=' + p + ',format=qcow']", &["S4 1"]),
    ("a.sh", "kvm -blockdev driver=qcow,node-name=d,file=f", &["S4 1"]),
    ("a.sh", "qemu-kvm --blockdev '{\"driver\":\"qcow\",\"file\":\"f\"}'", &["S4 1"]),
    ("a.md", "Run `qemu-system-i386 -drive file=a,format=qcow`.", &["S4 1"]),
    // S5
    ("a.sh", "VBoxManage createhd --filename a --size 10 --format QCOW", &["S5 1"]),
    ("a.bat", "\"C:\\VirtualBox\\VBoxManage.exe\" clonehd a b -format QCOW", &["S5 1"]),
    // S6 and S7
    (
        "vm.xml",
        "<domain>\n<disk><driver name='qemu'\n  cache='none'\n  type='qcow'/></disk></domain>",
        &["S6 4"],
    ),
    ("vm.xml.j2", "<disk><driver name=\"qemu\" type=\"qcow\"/>{{ x }}</disk>", &["S6 1"]),
    ("vm.conf", "<domain><disk><driver type='qcow'/></disk></domain>", &["S6 1"]),
    ("a.sh", "cat <<EOF\n<driver name='qemu' type='qcow'/>\nEOF\n", &["S6 2"]),
    ("a.py", "xml = '<driver name=\"qemu\" type=\"qcow\" />'", &["S6 1"]),
    ("vol.xml", "<volume><target>\n<format type='qcow'/>\n</target></volume>", &["S7 2"]),
    ("vol.xml", "<volume><format type='qcow'></broken>", &["S7 1"]),
    // S8
    ("a.sh", "virsh vol-create-as default a 1G --format qcow", &["S8 1"]),
    ("a.sh", "virt-install -n a --disk path=/a,size=8,format=qcow --import", &["S8 1"]),
    ("a.sh", "virt-make-fs --format=qcow in out", &["S8 1"]),
    ("a.sh", "virt-sparsify --convert qcow in out", &["S8 1"]),
    // S9
    ("a.pkr.hcl", "source \"qemu\" \"x\" {\n  format = \"qcow\"\n}", &["S9 2"]),
    ("packer.json", "{\"builders\": [{\"type\": \"qemu\", \"format\": \"qcow\"}]}", &["S9 1"]),
    ("main.tf", "  format = \"qcow\"", &["S9 1"]),
    // S10
    ("play.yml", "- name: disk\n  virt_disk:\n    format: qcow\n", &["S10 3"]),
    ("play.yaml", "- { name: a, format: 'qcow' }", &["S10 1"]),
    ("play.yml", "- virt_disk: path=/a format=qcow", &["S10 1"]),
    ("play.yml", "- command: qemu-img create -f qcow a 1G", &["S1 1"]),
    // S11
    ("Vagrantfile", "libvirt.disk_format = 'qcow'", &["S11 1"]),
    ("Vagrantfile", "libvirt.storage :file, :size => '20G', :type => 'qcow'", &["S11 1"]),
    ("box.rb", "x.storage :file, type: \"qcow\"", &["S11 1"]),
    // S12
    ("100.conf", "scsi0: local:100/vm-100.img,format=qcow,size=8G", &["S12 1"]),
    ("a.sh", "qm importdisk 100 a local --format qcow", &["S12 1"]),
    ("a.sh", "qm set 100 --scsi0 local:100/a,format=qcow", &["S12 1"]),
    // S13
    ("mk.sh", "mkimg -s gpt -f qcow -p freebsd-ufs:=root -o a", &["S13 1"]),
    ("a.mk", "MKIMG=mkimg\n\t${X} mkimg -f qcow -o a", &["S13 2"]),
    // S14
    ("a.sh", "openstack image create --disk-format qcow --file a b", &["S14 1"]),
    ("a.sh", "glance image-create --disk-format=qcow", &["S14 1"]),
    ("image.yml", "disk_format: qcow", &["S14 1"]),
    ("a.py", "client.images.create(name=n, disk_format=\"qcow\")", &["S14 1"]),
    // S15
    ("xen.cfg", "disk = [ 'tap:qcow:/vm/a.img,xvda,w' ]", &["S15 1"]),
    // S16
    ("a.sh", "DISK_FORMAT=qcow", &["S16 1"]),
    ("a.sh", "export IMAGE_FORMAT=\"qcow\"", &["S16 1"]),
    ("a.sh", "FORMAT=${FORMAT:-qcow}", &["S16 1"]),
    ("Makefile", "IMG_FMT := qcow", &["S16 1"]),
    ("nova.ini", "image_type = qcow", &["S16 1"]),
    ("a.py", "def make(path, fmt='qcow'):", &["S16 1"]),
    ("a.go", "Format: \"qcow\",", &["S16 1"]),
    // S17
    ("a.sh", "qemu-system-x86_64 -hda /vm/old.qcow", &["S17 1"]),
    ("a.sh", "qemu-img info old.qcow", &["S17 1"]),
    ("vm.xml", "<disk><driver type='raw'/><source file='/vm/a.qcow'/></disk>", &["S17 1"]),
    ("100.conf", "ide0: local:100/vm-100.qcow,size=8G", &["S17 1"]),
];

#[test]
fn every_rule_finds_its_places() {
    let other = FOUND.iter().filter(|(name, text, expected)| told(name, text) != *expected);
    let other: Vec<_> = other.map(|(name, text, _)| (name, text, told(name, text))).collect();
    assert!(other.is_empty(), "{other:#?}");
    for rule in Rule::ALL {
        let has = |(_, _, expected): &&(_, _, &[&str])| {
            expected.iter().any(|told| told.split(' ').next() == Some(rule.number()))
        };
        assert!(FOUND.iter().any(|case| has(&case)), "nothing for {rule}");
    }
}

#[test]
fn qcow2_in_the_same_place_is_no_finding() {
    for (name, text, _) in FOUND {
        for (old, new) in [("qcow", "qcow2"), ("QCOW", "QCOW2")] {
            let text = text.replace("qcow2", "qcow").replace(old, new);
            if text.contains(new) {
                assert_eq!(told(name, &text), <[&str; 0]>::default(), "{name}: {text}");
            }
        }
    }
}

/// What only looks like one.
const NOT_FOUND: &[(&str, &str)] = &[
    ("README.md", "The qcow format is old. qemu-img reads the qcow format, also with -f qcow."),
    ("README.md", "Supported format: qcow, qcow2 and raw. Set format=qcow where you must."),
    ("CHANGELOG", "* format: qcow is no longer the default"),
    ("notes.txt", "disk_format = qcow\ntap:qcow:/a"),
    ("a.sh", "# qemu-img create -f qcow a 1G"),
    ("a.sh", "qemu-img create -f qcow2 a 1G # was -f qcow"),
    ("a.sh", "if [ \"$format\" = qcow ]; then echo old; fi"),
    ("a.sh", "[[ $format == qcow ]] || exit; case $f in qcow) exit;; esac"),
    ("a.sh", "[ format = qcow ]"),
    ("a.sh", "echo 'the format qcow is old'; grep -f qcow list; cp -f qcow a"),
    ("a.sh", "qemu-img create -f raw qcow 1G"),
    ("a.sh", "qemu-img create -f qcow2 a && rm -f qcow"),
    ("a.sh", "ls *.qcow; file a.qcow"),
    ("a.sh", "qemu-img convert -O qcow2 $x qcow"),
    ("a.py", "if format == 'qcow' or fmt != \"qcow\":"),
    ("a.py", "FORMATS = ['raw', 'qcow', 'qcow2']"),
    ("a.py", ":param format: qcow or raw"),
    ("a.py", "platform = 'qcow'; information='qcow'; type='qcow'; driver = 'qcow'"),
    ("a.sql", "SELECT count(*) FROM i WHERE format = 'qcow' AND f.format = 'qcow'"),
    ("a.c", "// format = \"qcow\";"),
    ("a.c", ".format_name = \"qcow\","),
    ("a.yml", "choices: [raw, qcow, qcow2]"),
    ("a.yml", "# format: qcow"),
    ("a.yml", "description: the format: qcow"),
    ("a.json", "{\"formats\": [\"qcow\"], \"qcow\": \"format\"}"),
    ("a.bat", "REM qemu-img create -f qcow a\r\n:: qemu-img create -f qcow a\r\n"),
    (
        "vm.xml",
        "<domain><!-- <driver type='qcow'/> --><driver type='qcow2'/><x type='qcow'/></domain>",
    ),
    ("vm.xml", "<domain><driver name='qcow'/><description>type='qcow'</description></domain>"),
    ("100.conf", "#scsi0: local:100/a,format=qcow\nscsi0: local:100/a,format=qcow2"),
    ("a.sh", "virt-install --disk path=a,format=qcow2 --name qcow"),
    ("a.sh", "VBoxManage createhd --filename QCOW --format VDI"),
    (".gitignore", "*.qcow\nold.qcow\n"),
    ("a.sh", ""),
];

#[test]
fn what_only_looks_like_a_finding_is_none() {
    for (name, text) in NOT_FOUND {
        assert_eq!(told(name, text), <[&str; 0]>::default(), "{name}: {text}");
    }
}

#[test]
fn lines_in_xml_are_shown_as_they_stand() {
    let text =
        "<domain>\n  <disk>\n    <driver name='qemu'\n            type='qcow'/>\n</disk></domain>";
    let looked = looked("vm.xml", text.as_bytes()).expect("read");
    let finding = &looked.findings[0];
    assert_eq!((finding.line, finding.column, &*finding.text), (4, 19, "type='qcow'/>"));
}

#[test]
fn what_is_no_text_says_nothing_and_what_is_not_read_is_told() {
    let line = b"qemu-img create -f qcow a 1G\n";
    let binary = [&line[..], &[0], line].concat();
    assert_eq!(looked("a.sh", &binary).expect("read"), Looked::default());
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(line.iter().flat_map(|b| [*b, 0])).collect();
    assert!(matches!(looked("a.ps1", &wide), Err(Unread::Utf16)));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), b"text\n".repeat(4000)).expect("written");
    file.as_file().set_len(limits::FILE + 1).expect("as long");
    let opened = File::open(file.path()).expect("opens");
    assert!(matches!(look(&opened, OsStr::new("a.sh")), Err(Unread::TooLong)));
}

#[test]
fn much_of_anything_is_bounded() {
    let line = b"qemu-img create -f qcow a 1G\n";
    let many = looked("a.sh", &line.repeat(3000)).expect("read");
    assert_eq!((many.findings.len(), many.further), (limits::FINDINGS_IN_FILE, 2000));
    // A line without an end, in which it stands far behind the beginning.
    let long = [b"x ".repeat(1_000_000), line.to_vec()].concat();
    let looked_at = looked("a.sh", &long).expect("read");
    assert_eq!((looked_at.findings[0].line, looked_at.findings[0].column), (1, 2_000_020));
    assert!(looked_at.findings[0].text.len() <= limits::SHOWN);
    // Elements within each other without an end, and a document that is too long for one.
    let deep = [b"<domain>".repeat(100_000), b"<driver type='qcow'/>".to_vec()].concat();
    assert_eq!(looked("a.xml", &deep).expect("read").findings.len(), 1);
    let length = limits::XML + 10;
    let large = [b"<domain>".to_vec(), vec![b'\n'; length], b"<driver type='qcow'/>".to_vec()];
    assert_eq!(looked("a.xml", &large.concat()).expect("read").findings[0].column, 15);
}

#[test]
fn lines_made_to_take_long_take_no_longer_than_others() {
    // The same bytes in few long lines and in many short ones. What goes with the square of a line's
    // length takes 60 times as long; the processor's time is compared, and no clock's.
    let took = |part: &str, length: usize| {
        let line = format!("{}qcow\n", part.repeat(length / part.len()));
        let text = line.repeat(600_000 / line.len());
        let begin = processor_time();
        looked("a.sh", text.as_bytes()).expect("read");
        processor_time() - begin
    };
    for part in ["<driver ", "qemu-img ", "format=", "\\\"", "tap:", "-drive qm ", "{qcow "] {
        let (short, long) = (took(part, 1_000), took(part, 60_000));
        assert!(long < short * 20, "{part}: {long:?} beside {short:?}");
    }
}

/// What this thread has had of its processor.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("after its begin")
}

#[test]
fn no_bytes_make_it_panic() {
    // Every text cut here and there, and with bytes replaced.
    for (name, text, _) in FOUND {
        let bytes = text.as_bytes();
        for at in (0..bytes.len()).step_by(4) {
            looked(name, &bytes[..at]).expect("read");
            for byte in [b'\\', b'\'', b'<', b'\n', 0xFF] {
                let mut other = bytes.to_vec();
                other[at] = byte;
                looked(name, &other).expect("read");
            }
        }
    }
}

fn walked(root: &Path) -> (Vec<(String, usize)>, Vec<String>) {
    let (mut found, mut troubles) = (Vec::new(), Vec::new());
    let options = AuditOptions { is_one_file_system: false, jobs: 2 };
    audit(&[root.to_owned()], &options, &AtomicBool::new(false), |event| {
        match event {
            Event::Looked { path, looked } => {
                let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
                found.push((name, looked.findings.len()));
            }
            Event::Trouble { path, .. } => troubles.push(path.to_string_lossy().into_owned()),
        }
        ControlFlow::Continue(())
    });
    found.sort();
    (found, troubles)
}

#[test]
fn the_walk_sees_hidden_and_ignored_files_and_no_folders_of_version_control() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = "qemu-img create -f qcow a 1G\n";
    for name in [".hidden/a.sh", "b.sh", ".git/hooks/c.sh", "d/.svn/e.sh", "ignored.sh"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, line).expect("written");
    }
    fs::write(folder.path().join(".gitignore"), "ignored.sh\n").expect("written");
    std::os::unix::fs::symlink("b.sh", folder.path().join("link.sh")).expect("a link");
    let (found, troubles) = walked(folder.path());
    let found: Vec<_> = found.iter().map(|(name, count)| (&**name, *count)).collect();
    assert_eq!(found, [(".gitignore", 0), (".hidden/a.sh", 1), ("b.sh", 1), ("ignored.sh", 1)]);
    assert!(troubles.is_empty());
}

#[test]
fn every_rule_has_a_number_of_its_own_in_order() {
    for (number, rule) in (1..).zip(Rule::ALL) {
        assert_eq!(rule.number(), format!("S{number}"));
        assert!(!rule.statement().is_empty() && !rule.instead().is_empty());
    }
}
