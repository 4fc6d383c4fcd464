//! The programs, and how each is told to convert.

use std::process::Command;

use crate::cases::Case;

/// A program that takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Calve,
    QemuImg,
    QemuImgParallel,
    Nbdcopy,
    SevenZip,
    /// Copies the finished raw disk: what moving its bytes takes at least.
    Cp,
    /// Copies the source, packed as it is.
    CpSource,
}

pub(crate) const PROGRAMS: [Program; 7] = [
    Program::Calve,
    Program::QemuImg,
    Program::QemuImgParallel,
    Program::Nbdcopy,
    Program::SevenZip,
    Program::Cp,
    Program::CpSource,
];

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Calve => "calve",
            Program::QemuImg => "qemu-img",
            Program::QemuImgParallel => "qemu-img -m 16 -W",
            Program::Nbdcopy => "nbdcopy from qemu-nbd",
            Program::SevenZip => "7z x",
            Program::Cp => "cp --sparse=always of the raw disk",
            Program::CpSource => "cp of the source",
        }
    }

    /// The name that 7-Zip has here.
    pub(crate) fn seven_zip() -> &'static str {
        if is_installed("7zz") { "7zz" } else { "7z" }
    }

    /// Whether it is installed.
    pub(crate) fn is_there(self) -> bool {
        let tool = match self {
            Program::QemuImg | Program::QemuImgParallel => "qemu-img",
            Program::Nbdcopy => "nbdcopy",
            Program::SevenZip => Self::seven_zip(),
            Program::Calve | Program::Cp | Program::CpSource => return true,
        };
        is_installed(tool)
    }

    /// The command line that converts a case to `target`; `None` where it cannot, or would take
    /// hours. `calve` is that program's path, `raw` the finished raw disk.
    pub(crate) fn line(self, case: &Case, calve: &str, raw: &str, target: &str) -> Option<String> {
        let Case { source, format, options, .. } = case;
        let is_secret = *source == "secret.qcow";
        let is_empty = *source == "empty.qcow";
        let qemu = |more: &str| match is_secret {
            true => format!(
                "qemu-img convert {more} --object secret,id=s,file=key --image-opts -O {format} \
                 driver=qcow,file.filename={source},encrypt.format=aes,encrypt.key-secret=s {target}"
            ),
            false => format!("qemu-img convert {more} {options} -O {format} {source} {target}"),
        };
        match self {
            Program::Calve => {
                let key = if is_secret { "--passphrase-file key" } else { "" };
                Some(format!("{calve} convert -q {key} {options} -O {format} {source} {target}"))
            }
            _ if is_empty => None,
            Program::QemuImg => Some(qemu("")),
            Program::QemuImgParallel => Some(qemu("-m 16 -W")),
            Program::Nbdcopy => (*format == "raw" && !is_secret && *source != "second.qcow")
                .then(|| format!("nbdcopy -- [ qemu-nbd -r -f qcow {source} ] {target}")),
            Program::SevenZip => (*source == "plain.qcow" && *format == "raw")
                .then(|| format!("{} x -so {source} > {target}", Self::seven_zip())),
            Program::Cp => (*format == "raw")
                .then(|| format!("cp --reflink=never --sparse=always {raw} {target}")),
            Program::CpSource => {
                options.contains("4k").then(|| format!("cp --reflink=never {source} {target}"))
            }
        }
    }
}

fn is_installed(tool: &str) -> bool {
    Command::new(tool).arg("--help").output().is_ok()
}
