//! Judging a passphrase. Version 1 stores nothing to check one by, and every key decrypts; but
//! what a wrong key yields is noise, and disks are not made of noise.

use crate::codec::aes::SectorCipher;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::extent::{Encoding, ExtentList, Payload};
use crate::image::Image;
use crate::units::{GuestOffset, GuestRange, HostOffset, SECTOR, in_memory};

/// What the decrypted sectors look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// No encrypted sector was found that could tell anything.
    NothingToTell,
    /// At least one sector holds something other than noise.
    Plausible,
    /// All that was looked at is noise.
    Noise,
}

/// Sectors that are looked at before all are taken for noise.
const SECTORS_LOOKED_AT: u64 = 2048;

/// Sectors of one stored extent that are looked at: partition tables and file systems begin with
/// an extent, and a disk has many.
const SECTORS_OF_AN_EXTENT: u64 = 64;

/// 512 bytes of noise have 221 different values, give or take five. This is more than six times
/// as far off as chance reaches, and file systems' tables and text have well under 150.
const FEWEST_VALUES_OF_NOISE: usize = 190;

/// Beginnings of sectors that hardly any noise has, though what follows may look like noise.
const SIGNATURES: &[(usize, &[u8])] = &[
    (0, b"EFI PART"),
    (0, b"XFSB"),
    (0, b"LUKS\xBA\xBE"),
    (0, b"LABELONE"),
    (0, b"hsqs"),
    (1, b"CD001"),
    (3, b"NTFS    "),
    (3, b"-FVE-FS-"),
    (3, b"EXFAT   "),
    (54, b"FAT1"),
    (82, b"FAT32   "),
];

impl Disk {
    /// Judges the key of layer number `layer` by the disk that it makes.
    pub fn judge_key(&self, layer: usize) -> Result<Judgement> {
        let image = &*self.layers()[layer].image;
        match image.cipher() {
            Some(cipher) => {
                Judge { image, cipher, left: SECTORS_LOOKED_AT, saw_noise: false }.run()
            }
            None => Ok(Judgement::NothingToTell),
        }
    }
}

struct Judge<'a> {
    image: &'a dyn Image,
    cipher: &'a SectorCipher,
    left: u64,
    saw_noise: bool,
}

impl Judge<'_> {
    fn run(mut self) -> Result<Judgement> {
        let end = GuestOffset::new(self.image.facts().virtual_size);
        let mut reached = GuestOffset::default();
        let mut found = ExtentList::default();
        while reached < end && self.left > 0 {
            found.restart(reached);
            self.image.map(GuestRange::between(reached, end), &mut found)?;
            for extent in found.as_slice() {
                if let Payload::Stored(stored) = extent.payload
                    && stored.encoding == Encoding::Encrypted
                    && self.finds_order(extent.range, stored.at)?
                {
                    return Ok(Judgement::Plausible);
                }
            }
            reached = found.next();
        }
        Ok(if self.saw_noise { Judgement::Noise } else { Judgement::NothingToTell })
    }

    /// Looks at the first sectors of an extent, which begins at a sector.
    fn finds_order(&mut self, range: GuestRange, at: HostOffset) -> Result<bool> {
        let sectors = (range.length / SECTOR).min(SECTORS_OF_AN_EXTENT).min(self.left);
        let mut bytes = vec![0; in_memory(sectors * SECTOR)];
        let storage = self.image.storage();
        storage
            .read_at(&mut bytes, at)
            .map_err(|source| Error::io("reading guest data", storage, at, source))?;
        let starts = (range.start.get()..).step_by(in_memory(SECTOR));
        for (start, sector) in starts.zip(bytes.chunks_exact_mut(in_memory(SECTOR))) {
            // Ciphertext looks like noise whatever the key. What does not was never encrypted:
            // room that a crash left unwritten, or another tool's filling.
            if is_orderly(sector) {
                continue;
            }
            self.cipher.decrypt(sector, GuestOffset::new(start));
            if is_orderly(sector) || has_signature(sector, start) {
                return Ok(true);
            }
            self.saw_noise = true;
            self.left -= 1;
        }
        Ok(false)
    }
}

/// Whether a sector holds what noise does not: few different bytes, or one word of 64 bits twice.
fn is_orderly(sector: &[u8]) -> bool {
    let mut seen = [false; 256];
    sector.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    if seen.iter().filter(|seen| **seen).count() < FEWEST_VALUES_OF_NOISE {
        return true;
    }
    // Noise does that in one of 2^53 sectors; tables, code and documents do it all the time.
    let mut words = sector.as_chunks::<8>().0.to_vec();
    words.sort_unstable();
    words.windows(2).any(|pair| pair[0] == pair[1])
}

fn has_signature(sector: &[u8], guest: u64) -> bool {
    // Two bytes are little evidence, but the first sector is the one place where they belong.
    let is_boot_sector = guest == 0 && sector.ends_with(&[0x55, 0xAA]);
    let begins = |(at, magic): &(usize, &[u8])| sector[*at..].starts_with(magic);
    is_boot_sector || SIGNATURES.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_tables_are_orderly_and_noise_is_not() {
        let text: Vec<u8> =
            b"An old QCOW calves a QCOW2. ".iter().copied().cycle().take(512).collect();
        assert!(is_orderly(&text) && is_orderly(&[0; 512]));
        let mut words = [[0; 8]; 64];
        for (word, number) in words.iter_mut().zip(0u64..) {
            // An odd factor spreads the numbers over all bytes.
            *word = (number % 63 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        }
        assert!(is_orderly(words.as_flattened()), "one word stands there twice");
        let mut random = calve_testkit::Random::new(1);
        let mut noise = Vec::new();
        for sector in 0..20_000 {
            noise = (0..64).flat_map(|_| random.number().to_be_bytes()).collect();
            assert!(!is_orderly(&noise) && !has_signature(&noise, 512), "sector {sector}");
        }
        noise[510..].copy_from_slice(&[0x55, 0xAA]);
        assert!(has_signature(&noise, 0) && !has_signature(&noise, 512));
    }
}
