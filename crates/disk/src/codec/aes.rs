//! AES-128-CBC by sector: the legacy encryption of QCOW version 1 (`docs/qcow1.md`, Q9).

use aes::Aes128;
use aes::cipher::{BlockModeDecrypt, InnerIvInit, KeyInit};
use zeroize::Zeroizing;

use crate::units::{GuestOffset, SECTOR, in_memory};

/// A passphrase: bytes, because images were made with passphrases in every encoding there was.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The passphrase of exactly these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// What decrypts the sectors of one image.
#[derive(Clone)]
pub struct SectorCipher {
    key: Aes128,
}

impl std::fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SectorCipher(..)")
    }
}

impl SectorCipher {
    /// The cipher whose key is the passphrase's first 16 bytes, filled up with zeros.
    pub fn new(passphrase: &Passphrase) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        let used = passphrase.0.len().min(key.len());
        key[..used].copy_from_slice(&passphrase.0[..used]);
        Self { key: Aes128::new((&*key).into()) }
    }

    /// Decrypts whole sectors, the first of which is the guest's sector at `at`.
    ///
    /// # Panics
    /// Where `at` or the length is no multiple of 512.
    pub fn decrypt(&self, sectors: &mut [u8], at: GuestOffset) {
        assert!(at.get().is_multiple_of(SECTOR), "sectors are decrypted whole");
        assert!((sectors.len() as u64).is_multiple_of(SECTOR), "sectors are decrypted whole");
        let first = at.get() / SECTOR;
        for (number, sector) in (first..).zip(sectors.chunks_exact_mut(in_memory(SECTOR))) {
            let mut iv = [0; 16];
            #[expect(clippy::little_endian_bytes, reason = "the one little-endian number of v1")]
            iv[..8].copy_from_slice(&number.to_le_bytes());
            let cipher = cbc::Decryptor::<&Aes128>::inner_iv_init(&self.key, &iv.into());
            let (blocks, _) = aes::cipher::Array::slice_as_chunks_mut(sector);
            let mut cipher = cipher;
            cipher.decrypt_blocks(blocks);
        }
    }
}
