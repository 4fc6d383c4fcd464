//! The passphrase of an encrypted image, out of a list.

use calve_disk::codec::aes::Passphrase;
use calve_disk::{Disk, Error, Judgement, Result};
use zeroize::Zeroizing;

/// Bytes of a passphrase that make the key.
const KEY: usize = 16;

/// Keys that are remembered, so that none is tried twice.
const MOST_REMEMBERED: usize = 1 << 13;

/// What came of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    /// The number of the first passphrase that makes more than noise, counted from 1.
    pub number: Option<u64>,
    /// What was said of it, or of the last one that was tried.
    pub judgement: Judgement,
    /// Keys that were tried.
    pub tried: u64,
    /// Passphrases whose key had been tried already: only their first 16 bytes count.
    pub repeated: u64,
    /// Passphrases that could not be tried, because the disk did not open with them.
    pub failed: u64,
}

/// Tries one passphrase after the other on layer number `layer` of the disk that `open` opens,
/// until one makes more than noise.
///
/// It stops at once where no key could be told from another, since nothing is stored that one
/// could be judged by. Passphrases are wiped from memory when they were tried.
///
/// # Errors
/// Where the disk cannot be opened or read for another reason than the passphrase.
pub fn find_passphrase(
    open: &dyn Fn(&Passphrase) -> Result<Disk>,
    layer: usize,
    list: impl Iterator<Item = Vec<u8>>,
) -> Result<Tried> {
    // Sorted, in room that never moves, so that no copy stays behind.
    let mut seen: Zeroizing<Vec<[u8; KEY]>> = Zeroizing::new(Vec::with_capacity(MOST_REMEMBERED));
    let mut tried = Tried {
        number: None,
        judgement: Judgement::NothingToTell,
        tried: 0,
        repeated: 0,
        failed: 0,
    };
    for (number, bytes) in (1..).zip(list) {
        let bytes = Zeroizing::new(bytes);
        let mut key = Zeroizing::new([0; KEY]);
        let used = bytes.len().min(KEY);
        key[..used].copy_from_slice(&bytes[..used]);
        let place = match seen.binary_search(&key) {
            Ok(_) => {
                tried.repeated += 1;
                continue;
            }
            Err(place) => place,
        };
        let judged = open(&Passphrase::new(key.to_vec())).and_then(|disk| disk.judge_key(layer));
        if seen.len() < MOST_REMEMBERED {
            seen.insert(place, *key);
        }
        tried.judgement = match judged {
            Ok(judgement) => judgement,
            Err(Error::Key { .. }) => {
                tried.failed += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        tried.tried += 1;
        match tried.judgement {
            Judgement::Plausible => {
                tried.number = Some(number);
                return Ok(tried);
            }
            Judgement::NothingToTell => return Ok(tried),
            Judgement::Noise => {}
        }
    }
    Ok(tried)
}
