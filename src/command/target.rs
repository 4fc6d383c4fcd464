//! What `-O`, `-o`, `-B` and `-F` say of a new image.

use calve_convert::Cache;
use calve_disk::Format;
use calve_disk::units::ClusterSize;

use crate::exit::{self, Code, Failure};
use crate::{list, print, size};

/// How a new image is to be.
pub(crate) struct NewImage {
    pub(crate) format: Format,
    pub(crate) cluster_size: ClusterSize,
    pub(crate) backing: Option<Backing>,
    /// The size that `-o size=` gives.
    pub(crate) size: Option<u64>,
}

/// The base of a new image, as it is named.
pub(crate) struct Backing {
    pub(crate) name: String,
    pub(crate) format: Format,
}

/// 64 KiB, as `qemu-img` has it.
const DEFAULT_CLUSTER_BITS: u8 = 16;

/// The cluster size of a new image, where no other is asked for.
pub(crate) fn default_cluster_size() -> ClusterSize {
    ClusterSize::from_bits(DEFAULT_CLUSTER_BITS).unwrap_or(ClusterSize::SECTOR)
}

const QCOW2_HELP: &str = "\
Options of qcow2:
  cluster_size=SIZE    a power of two from 512 to 2M (64k)
  backing_file=NAME    the base of a thin overlay (also -B, create: -b)
  backing_fmt=FORMAT   the base's format (also -F)
  size=SIZE            the virtual size (create)
  compat=1.1, compression_type=zlib, refcount_bits=16, lazy_refcounts=off,
  extended_l2=off, preallocation=off: accepted with these values, which are
  what is written
";
const RAW_HELP: &str = "\
Options of raw:
  size=SIZE            the size (create)
  preallocation=off    accepted; convert -S 0 keeps room for everything
";

/// The format of a new image: anything but version 1.
pub(crate) fn format(name: &str) -> Result<Format, Failure> {
    match Format::from_name(name) {
        Some(Format::Qcow1) => Err(exit::would_create_v1()),
        Some(format) => Ok(format),
        None => Err(Failure::new(
            Code::Unsupported,
            format!("the target format '{name}' is not supported"),
        )
        .next("raw and qcow2 are")),
    }
}

/// Prints what `-o` takes, where that was asked for.
pub(crate) fn help(format: Format, options: &[String]) -> Option<Result<(), Failure>> {
    let is_help = |item: &(String, String)| matches!(item.0.as_str(), "help" | "?");
    if !options.iter().any(|options| list::pairs(options).iter().any(is_help)) {
        return None;
    }
    Some(print::out(if format == Format::Qcow2 { QCOW2_HELP } else { RAW_HELP }))
}

impl NewImage {
    pub(crate) fn new(
        format: Format,
        options: &[String],
        backing: Option<&std::ffi::OsStr>,
        backing_format: Option<&str>,
    ) -> Result<Self, Failure> {
        let mut image =
            Self { format, cluster_size: default_cluster_size(), backing: None, size: None };
        let mut name = backing.map(|name| name.to_string_lossy().into_owned());
        let mut name_format = backing_format.map(str::to_owned);
        for (key, value) in options.iter().flat_map(|options| list::pairs(options)) {
            match key.as_str() {
                "size" => image.size = Some(size::parse("size", &value)?),
                "backing_file" if format == Format::Qcow2 => name = Some(value),
                "backing_fmt" if format == Format::Qcow2 => name_format = Some(value),
                _ => image.set(&key, &value)?,
            }
        }
        image.backing = backing_of(format, name, name_format)?;
        Ok(image)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        let is_qcow2 = self.format == Format::Qcow2;
        let expected = match key {
            "cluster_size" if is_qcow2 => {
                let bytes = size::parse(key, value)?;
                let Some(size) = ClusterSize::from_bytes(bytes) else {
                    return Err(Failure::usage(format!("cluster_size: {bytes} cannot be had"))
                        .next("write a power of two from 512 to 2M"));
                };
                self.cluster_size = size;
                return Ok(());
            }
            "compat" if is_qcow2 => &["1.1", "v3"][..],
            "compression_type" if is_qcow2 => &["zlib"],
            "refcount_bits" if is_qcow2 => &["16"],
            "lazy_refcounts" | "extended_l2" if is_qcow2 => &["off", "false", "no"],
            "preallocation" => &["off"],
            "nocow" => &["off", "false", "no"],
            _ => {
                let name = self.format.name();
                return Err(Failure::usage(format!("-o: {name} has no option '{key}'"))
                    .next("-o help lists them"));
            }
        };
        if expected.contains(&value) {
            return Ok(());
        }
        Err(Failure::new(Code::Unsupported, format!("-o: {key}={value} is not supported"))
            .next(format!("{key}={} is", expected[0])))
    }
}

fn backing_of(
    format: Format,
    name: Option<String>,
    name_format: Option<String>,
) -> Result<Option<Backing>, Failure> {
    match (name, name_format) {
        (None, None) => Ok(None),
        (Some(_), _) if format != Format::Qcow2 => {
            Err(Failure::new(Code::Unsupported, "a raw image has no backing file")
                .next("write -O qcow2 (create: -f qcow2)"))
        }
        (Some(name), Some(name_format)) => {
            Ok(Some(Backing { name, format: exit::format_named(&name_format)? }))
        }
        (Some(_), None) => Err(Failure::usage("the base's format has to be named")
            .next("add -F raw, -F qcow or -F qcow2")),
        (None, Some(_)) => Err(Failure::usage("-F names the format of a base, and none is named")
            .next("name the base with -B (create: -b)")),
    }
}

/// How to write.
pub(crate) fn cache(mode: &str) -> Result<Cache, Failure> {
    match mode {
        "writeback" => Ok(Cache::Writeback),
        "none" => Ok(Cache::None),
        "writethrough" => Ok(Cache::Writethrough),
        "directsync" => Ok(Cache::Directsync),
        "unsafe" => Ok(Cache::Unsafe),
        _ => Err(Failure::usage(format!("'{mode}' is no cache mode"))
            .next("writeback, none, writethrough, directsync and unsafe are")),
    }
}
