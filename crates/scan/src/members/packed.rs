//! Packed streams: gzip, bzip2, xz and Zstandard.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{Bounded, Search, Stream, TOO_LONG};
use crate::limits;

/// How a stream is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    Gzip,
    Bzip2,
    Xz,
    Zstandard,
}

/// How files of one packing are known.
struct Signs {
    packing: Packing,
    magic: &'static [u8],
    words: &'static str,
    extension: &'static [u8],
    /// Extensions of a tar archive that is packed so.
    of_tar: &'static [&'static [u8]],
}

const SIGNS: [Signs; 4] = [
    Signs {
        packing: Packing::Gzip,
        magic: b"\x1F\x8B\x08",
        words: "a gzip file",
        extension: b"gz",
        of_tar: &[b"tgz"],
    },
    Signs {
        packing: Packing::Bzip2,
        magic: b"BZh",
        words: "a bzip2 file",
        extension: b"bz2",
        of_tar: &[b"tbz", b"tbz2"],
    },
    Signs {
        packing: Packing::Xz,
        magic: b"\xFD7zXZ\0",
        words: "an xz file",
        extension: b"xz",
        of_tar: &[b"txz"],
    },
    Signs {
        packing: Packing::Zstandard,
        magic: b"\x28\xB5\x2F\xFD",
        words: "a Zstandard file",
        extension: b"zst",
        of_tar: &[b"tzst"],
    },
];

impl Packing {
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        SIGNS.iter().find(|signs| start.starts_with(signs.magic)).map(|signs| signs.packing)
    }

    fn signs(self) -> Option<&'static Signs> {
        SIGNS.iter().find(|signs| signs.packing == self)
    }

    pub(super) fn words(self) -> &'static str {
        self.signs().map_or("a packed file", |signs| signs.words)
    }

    /// What the unpacked file is called.
    pub(super) fn unpacked_name(self, name: &[u8]) -> Vec<u8> {
        let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return name.to_vec() };
        let (stem, extension) = (&name[..dot], name[dot + 1..].to_ascii_lowercase());
        match self.signs() {
            Some(signs) if signs.extension == extension => stem.to_vec(),
            Some(signs) if signs.of_tar.contains(&&*extension) => [stem, b".tar"].concat(),
            _ => name.to_vec(),
        }
    }
}

impl Search<'_> {
    /// Looks at what comes out of a packed stream.
    pub(super) fn unpack(
        &mut self,
        packing: Packing,
        packed: &mut dyn BufRead,
        stream: &Stream,
        is_whole: bool,
    ) -> io::Result<()> {
        let mut unpacked: Box<dyn Read + '_> = match packing {
            Packing::Gzip => Box::new(Streams::new(packed, GzDecoder::new, GzDecoder::into_inner)),
            Packing::Bzip2 => Box::new(Streams::new(packed, BzDecoder::new, BzDecoder::into_inner)),
            Packing::Xz => {
                let kibibytes = u32::try_from(limits::WINDOW >> 10).unwrap_or(u32::MAX);
                Box::new(XzReader::new_mem_limit(packed, true, kibibytes))
            }
            Packing::Zstandard => Box::new(Zstandard::new(packed)?),
        };
        let mut bounded = Bounded::new(&mut unpacked, self.left, TOO_LONG);
        self.stream(&mut bounded, stream, is_whole);
        Ok(())
    }
}

/// A packed stream, or several behind each other.
type Packed<'a> = &'a mut dyn BufRead;

/// What comes out of streams behind each other, by a decoder that ends with each. Zeros behind the
/// last one belong to its end: tapes and block devices are filled up with them, and gzip and bzip2
/// ignore them. (The decoder of xz has the rule of xz: multiples of four. Zstandard has none.)
struct Streams<'a, D> {
    /// The decoder of the stream that is read; `None` behind the last one.
    decoder: Option<D>,
    begin: fn(Packed<'a>) -> D,
    end: fn(D) -> Packed<'a>,
}

impl<'a, D> Streams<'a, D> {
    fn new(packed: Packed<'a>, begin: fn(Packed<'a>) -> D, end: fn(D) -> Packed<'a>) -> Self {
        Self { decoder: Some(begin(packed)), begin, end }
    }
}

impl<D: Read> Read for Streams<'_, D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            let packed = self.decoder.take().map(self.end);
            if let Some(packed) = packed
                && has_another(packed)?
            {
                self.decoder = Some((self.begin)(packed));
            }
        }
        Ok(0)
    }
}

/// Whether something follows that is to be another stream: anything but zeros up to the end.
fn has_another(packed: &mut dyn BufRead) -> io::Result<bool> {
    let mut is_padded = false;
    loop {
        let bytes = match packed.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros < bytes.len() {
            let why = "something lies behind the zeros that follow its end";
            return match is_padded || zeros > 0 {
                true => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
                false => Ok(true),
            };
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        is_padded = true;
        packed.consume(zeros);
    }
}

/// What comes out of Zstandard frames.
struct Zstandard<'a> {
    packed: &'a mut dyn BufRead,
    context: DCtx<'static>,
    /// Whether a frame has begun and not ended.
    is_inside: bool,
}

impl<'a> Zstandard<'a> {
    fn new(packed: &'a mut dyn BufRead) -> io::Result<Self> {
        let mut context = DCtx::create();
        let bits = limits::WINDOW.ilog2();
        context.set_parameter(DParameter::WindowLogMax(bits)).map_err(refused)?;
        Ok(Self { packed, context, is_inside: false })
    }
}

fn refused(code: zstd_safe::ErrorCode) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code))
}

impl Read for Zstandard<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut output = OutBuffer::around(out);
        loop {
            let bytes = self.packed.fill_buf()?;
            let is_end = bytes.is_empty();
            let mut input = InBuffer::around(bytes);
            let wanted =
                self.context.decompress_stream(&mut output, &mut input).map_err(refused)?;
            let taken = input.pos();
            self.packed.consume(taken);
            if taken > 0 || output.pos() > 0 {
                self.is_inside = wanted != 0;
            }
            if output.pos() > 0 || out_is_full(&output) {
                return Ok(output.pos());
            }
            if is_end {
                return match self.is_inside {
                    true => Err(io::ErrorKind::UnexpectedEof.into()),
                    false => Ok(0),
                };
            }
        }
    }
}

fn out_is_full(output: &OutBuffer<'_, [u8]>) -> bool {
    output.pos() == output.capacity()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_names_lose_the_extension_of_the_packing_and_no_other() {
        for (packing, name, unpacked) in [
            (Packing::Gzip, "a.qcow.gz", "a.qcow"),
            (Packing::Gzip, "a.TGZ", "a.tar"),
            (Packing::Gzip, "a.xz", "a.xz"),
            (Packing::Zstandard, "a", "a"),
        ] {
            assert_eq!(packing.unpacked_name(name.as_bytes()), unpacked.as_bytes());
        }
    }
}
