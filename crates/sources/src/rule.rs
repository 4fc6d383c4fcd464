//! Rules: everything that is looked for, in one list. `docs/sources.md` explains each.

use std::fmt;

/// What a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    /// S1: `qemu-img create -f qcow`, `convert -O qcow`.
    QemuImgMakes,
    /// S2: `qemu-img convert -f qcow`, `qemu-nbd -f qcow`.
    QemuToolReads,
    /// S3: `-F qcow`, `backing_fmt=qcow`.
    Base,
    /// S4: `qemu -drive format=qcow`.
    QemuDrive,
    /// S5: `VBoxManage --format QCOW`.
    VirtualBox,
    /// S6: `<driver type='qcow'/>`.
    LibvirtDriver,
    /// S7: `<format type='qcow'/>`.
    LibvirtFormat,
    /// S8: `virsh --format qcow`, `virt-install --disk format=qcow`.
    LibvirtTool,
    /// S9: `"format": "qcow"` in JSON, `format = "qcow"` in HCL.
    Packer,
    /// S10: `format: qcow` in YAML.
    Yaml,
    /// S11: `disk_format = "qcow"` in Ruby.
    Vagrant,
    /// S12: `format=qcow` in a disk of Proxmox, `qm --format qcow`.
    Proxmox,
    /// S13: `mkimg -f qcow`.
    Mkimg,
    /// S14: `--disk-format qcow`.
    OpenStack,
    /// S15: `tap:qcow:`.
    Xen,
    /// S16: any other setting of a format.
    Setting,
    /// S17: a file name that ends with `.qcow`.
    Name,
}

/// How much a finding counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Weight {
    /// It makes a version 1 image, or would not work without one.
    Finding,
    /// It may be right as it is.
    Note,
}

impl Weight {
    /// The weight as one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Note => "note",
        }
    }
}

impl Rule {
    /// All rules, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::QemuImgMakes,
        Self::QemuToolReads,
        Self::Base,
        Self::QemuDrive,
        Self::VirtualBox,
        Self::LibvirtDriver,
        Self::LibvirtFormat,
        Self::LibvirtTool,
        Self::Packer,
        Self::Yaml,
        Self::Vagrant,
        Self::Proxmox,
        Self::Mkimg,
        Self::OpenStack,
        Self::Xen,
        Self::Setting,
        Self::Name,
    ];

    /// The number, which stays with the rule: `S1`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::QemuImgMakes => "S1",
            Self::QemuToolReads => "S2",
            Self::Base => "S3",
            Self::QemuDrive => "S4",
            Self::VirtualBox => "S5",
            Self::LibvirtDriver => "S6",
            Self::LibvirtFormat => "S7",
            Self::LibvirtTool => "S8",
            Self::Packer => "S9",
            Self::Yaml => "S10",
            Self::Vagrant => "S11",
            Self::Proxmox => "S12",
            Self::Mkimg => "S13",
            Self::OpenStack => "S14",
            Self::Xen => "S15",
            Self::Setting => "S16",
            Self::Name => "S17",
        }
    }

    /// What the place does, as the predicate of a sentence.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::QemuImgMakes => "makes a version 1 image with qemu-img",
            Self::QemuToolReads => "has a tool of QEMU read an image as version 1",
            Self::Base => "says that a base is a version 1 image",
            Self::QemuDrive => "gives QEMU a drive in version 1",
            Self::VirtualBox => "has VirtualBox make or read a version 1 image",
            Self::LibvirtDriver => "defines a disk in version 1 for libvirt",
            Self::LibvirtFormat => "defines a volume in version 1 for libvirt",
            Self::LibvirtTool => "has a tool of libvirt make or read a version 1 image",
            Self::Packer => "sets a format to version 1 in JSON or HCL",
            Self::Yaml => "sets a format to version 1 in YAML",
            Self::Vagrant => "sets a format to version 1 in Ruby",
            Self::Proxmox => "gives Proxmox a disk in version 1",
            Self::Mkimg => "makes a version 1 image with mkimg",
            Self::OpenStack => "tells OpenStack that an image is in version 1",
            Self::Xen => "gives Xen a disk in version 1",
            Self::Setting => "sets a format to version 1",
            Self::Name => "names a file as version 1 images are named",
        }
    }

    /// What to write there.
    pub const fn instead(self) -> &'static str {
        match self {
            Self::QemuImgMakes => "write qcow2",
            Self::QemuToolReads => "write qcow2 when the image is migrated (calve convert)",
            Self::Base => "write qcow2 when the base is migrated (calve upgrade --chain)",
            Self::QemuDrive | Self::Proxmox | Self::LibvirtDriver => {
                "write qcow2 when the image is migrated (calve convert, calve upgrade)"
            }
            Self::VirtualBox => "write VDI, or VMDK; VirtualBox writes no qcow2",
            Self::LibvirtFormat | Self::LibvirtTool => "write qcow2, and migrate what is there",
            Self::Packer | Self::Yaml | Self::Vagrant | Self::Mkimg | Self::Setting => {
                "write qcow2"
            }
            Self::OpenStack => "write qcow2, and upload a migrated image; version 1 is refused",
            Self::Xen => "migrate the image (calve convert), and write format=qcow2",
            Self::Name => "look at the file (calve info); name what is qcow2 .qcow2",
        }
    }

    /// How much it counts.
    pub const fn weight(self) -> Weight {
        match self {
            Self::Name => Weight::Note,
            _ => Weight::Finding,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}
