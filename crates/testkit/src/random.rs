//! Seeded chance: numbers, layouts, damage.

use crate::builder::{Builder, XenOrder};

/// A generator of numbers that gives the same ones for the same seed on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (SplitMix64).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// Yes, once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the items.
    pub fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).expect("an index")]
    }

    /// `length` bytes: noise, text that packs well, or one byte all over.
    pub fn content(&mut self, length: u64) -> Vec<u8> {
        let length = usize::try_from(length).expect("a small content");
        let kind = self.below(4);
        let fill = self.number().to_be_bytes()[0] | 1;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            match kind {
                0 => bytes.extend_from_slice(&self.number().to_be_bytes()),
                1 => bytes.resize(length, fill),
                _ => bytes.extend_from_slice(&(self.below(50) * 0x0101).to_be_bytes()),
            }
        }
        bytes.truncate(length);
        bytes
    }
}

/// The seeds of a test: as many as the variable `name` says, or `count`, from `CALVE_SEED` on.
pub fn seeds(name: &str, count: u64) -> std::ops::Range<u64> {
    let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = variable("CALVE_SEED").unwrap_or(0);
    first..first + variable(name).unwrap_or(count)
}

/// A random image and what has to be known to read it.
pub struct Sketch {
    /// The file.
    pub image: Vec<u8>,
    /// Its passphrase, where it is encrypted.
    pub passphrase: Option<Vec<u8>>,
    /// What lies behind it, shorter or longer than the disk, where it names a backing file.
    pub base: Option<Vec<u8>>,
}

impl Sketch {
    /// A legal image of any geometry, with at most a few hundred KiB of disk.
    pub fn legal(random: &mut Random) -> Self {
        let cluster_bits = random.one_of(&[9, 9, 10, 11, 12, 12, 13, 14, 15, 16]);
        let l2_bits = random.one_of(&[6, 6, 7, 8, 9, 9, 10, 11, 12, 13]);
        let clusters = 1 + random.below(if cluster_bits > 13 { 12 } else { 100 });
        let size = (clusters << cluster_bits) - random.below(1 << cluster_bits);
        let mut builder = Builder::new(cluster_bits, l2_bits, size);
        match random.below(6) {
            0 => builder = builder.xen(random.one_of(&[XenOrder::Little, XenOrder::Mixed])),
            1 => builder = builder.l1_at(48 + 8 * random.below(200)),
            _ => {}
        }
        let passphrase = random.once_in(4).then(|| {
            let length = 1 + random.below(20);
            random.content(length)
        });
        if let Some(passphrase) = &passphrase {
            builder = builder.encrypted(passphrase);
        }
        let base = random.once_in(2).then(|| {
            let length = random.below(size + size / 2 + 1);
            random.content(length)
        });
        if base.is_some() {
            builder = builder.backing(b"base.raw");
        }
        builder =
            builder.aligned(random.one_of(&[512, 512, 4096])).window(random.one_of(&[12, 15]));
        fill(&mut builder, clusters, random);
        Self { image: builder.build(), passphrase, base }
    }

    /// Damages the file somewhere behind the header's numbers, or cuts it.
    pub fn damage(&mut self, random: &mut Random) {
        let length = self.image.len() as u64;
        if random.once_in(3) {
            let cut = 48 + random.below(length - 47);
            self.image.truncate(usize::try_from(cut.max(64)).expect("a small file"));
            return;
        }
        for _ in 0..=random.below(4) {
            let at = 64 + random.below(length.max(65) - 64);
            // Tables are near the front; most damage should meet them.
            let at = if random.once_in(3) { at } else { 64 + (at - 64) % 4096 };
            if let Some(byte) = usize::try_from(at).ok().and_then(|at| self.image.get_mut(at)) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn fill(builder: &mut Builder, clusters: u64, random: &mut Random) {
    let cluster_size = builder.cluster_size();
    let mut order: Vec<u64> = (0..clusters).collect();
    if random.once_in(3) {
        for left in (1..order.len()).rev() {
            let other = usize::try_from(random.below(left as u64 + 1)).expect("an index");
            order.swap(left, other);
        }
    }
    let emptiness = 1 + random.below(6);
    let mut last_plain = None;
    for cluster in order {
        if !random.once_in(emptiness) {
            continue;
        }
        let content = random.content(cluster_size);
        match random.below(8) {
            0 | 1 if crate::deflated(&content, 12).len() < content.len() => {
                builder.packed(cluster, &content);
            }
            2 => {
                builder.plain(cluster, &[]);
            }
            // Two entries on one cluster: odd, but it reads as it is.
            3 if let Some(at) = last_plain => {
                builder.entry(cluster, at);
            }
            _ => last_plain = Some(builder.plain(cluster, &content)),
        }
    }
}
