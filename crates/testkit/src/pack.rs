//! What the builder puts into clusters: deflate streams and ciphertext.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use zlib_rs::{Deflate, DeflateFlush, Status};

/// `bytes` as a raw deflate stream that may look back as far as `2^window_bits` bytes, 9 to 15.
///
/// # Panics
/// Where the window cannot be had.
pub fn deflated(bytes: &[u8], window_bits: u8) -> Vec<u8> {
    let mut packed = vec![0; bytes.len() * 2 + 64];
    let mut state = Deflate::new(6, false, window_bits);
    let status = state.compress(bytes, &mut packed, DeflateFlush::Finish);
    assert!(matches!(status, Ok(Status::StreamEnd)), "room for twice as much is enough");
    packed.truncate(usize::try_from(state.total_out()).expect("a cluster is short"));
    packed
}

/// Encrypts sectors as version 1 does.
#[derive(Clone)]
pub struct Encryption {
    key: Aes128,
}

impl Encryption {
    /// Of the first 16 bytes of a passphrase.
    pub fn new(passphrase: &[u8]) -> Self {
        let mut key = [0; 16];
        let used = passphrase.len().min(16);
        key[..used].copy_from_slice(&passphrase[..used]);
        Self { key: Aes128::new((&key).into()) }
    }

    /// Encrypts whole sectors, the first of which is the guest's sector number `first`.
    pub fn encrypt(&self, bytes: &mut [u8], first: u64) {
        for (number, sector) in (first..).zip(bytes.chunks_exact_mut(512)) {
            let iv = initial_vector(number);
            let mut cipher = cbc::Encryptor::<&Aes128>::inner_iv_init(&self.key, &iv.into());
            let (blocks, _) = aes::cipher::Array::slice_as_chunks_mut(sector);
            cipher.encrypt_blocks(blocks);
        }
    }

    /// Decrypts one sector, block by block as the definition of CBC has it.
    pub fn decrypted(&self, sector: [u8; 512], number: u64) -> Vec<u8> {
        let mut before = initial_vector(number);
        let mut plain = Vec::new();
        for block in sector.as_chunks::<16>().0 {
            let mut clear = (*block).into();
            self.key.decrypt_block(&mut clear);
            plain.extend(clear.iter().zip(before).map(|(byte, chained)| byte ^ chained));
            before = *block;
        }
        plain
    }
}

/// The sector's number, in the one little-endian number of version 1, and zeros.
fn initial_vector(number: u64) -> [u8; 16] {
    let mut iv = [0; 16];
    #[expect(clippy::little_endian_bytes, reason = "as the format has it")]
    iv[..8].copy_from_slice(&number.to_le_bytes());
    iv
}
