//! Small images of which every bit that means something can be flipped, field by field.

use std::ops::Range;

use crate::builder::{Builder, XenOrder};
use crate::random::Random;

/// The name of the backing file in every specimen that has one.
pub const BASE_NAME: &str = "base.raw";

/// Entries that an unused part of a table shows with, where there are too many for all.
const SAMPLE: usize = 24;

/// An image, what lies behind it, and where its fields are.
pub struct Specimen {
    /// What kind of image it is.
    pub name: &'static str,
    /// The file.
    pub image: Vec<u8>,
    /// What lies behind it, under the name [`BASE_NAME`], in the folder of the image.
    pub base: Option<Vec<u8>>,
    /// Its fields; of one name there may be several.
    pub fields: Vec<Field>,
    payloads: Vec<Range<u64>>,
}

/// Bytes of a file that have one meaning.
pub struct Field {
    /// What they say.
    pub name: &'static str,
    /// Where they are.
    pub bytes: Range<u64>,
}

const HEADER: [(&str, Range<u64>); 11] = [
    ("magic", 0..4),
    ("version", 4..8),
    ("name place", 8..16),
    ("name length", 16..20),
    ("mtime", 20..24),
    ("virtual size", 24..32),
    ("cluster_bits", 32..33),
    ("l2_bits", 33..34),
    ("padding", 34..36),
    ("encryption", 36..40),
    ("L1 place", 40..48),
];

impl Specimen {
    /// One of each kind: small tables of which every bit is there, QEMU's two layouts, payloads
    /// byte by byte, and Xen's order.
    pub fn all() -> Vec<Self> {
        vec![
            Self::small_plain(),
            Self::small_overlay(),
            Self::small_packed(),
            Self::qemu_plain(),
            Self::qemu_overlay(),
            Self::xen(),
        ]
    }

    /// 9/6, plain clusters, no base.
    pub fn small_plain() -> Self {
        let mut builder = Builder::new(9, 6, 100 * 512);
        let mut random = Random::new(1);
        for cluster in (0..40).chain(64..90) {
            let content = random.content(512);
            builder.plain(cluster, &content);
        }
        Self::of("9/6 plain", builder, None, &[])
    }

    /// 9/6 over a base, packed and plain clusters.
    pub fn small_overlay() -> Self {
        let mut random = Random::new(2);
        let base = random.content(100 * 512);
        let mut builder = Builder::new(9, 6, 100 * 512).backing(BASE_NAME.as_bytes());
        let mut payloads = Vec::new();
        for cluster in (3..30).chain(60..80) {
            if cluster % 3 == 0 {
                payloads.push(pack(&mut builder, cluster, &mut random));
            } else {
                let content = random.content(512);
                builder.plain(cluster, &content);
            }
        }
        Self::of("9/6 overlay", builder, Some(base), &payloads)
    }

    /// 9/6, packed clusters back to back and nothing else.
    pub fn small_packed() -> Self {
        let mut builder = Builder::new(9, 6, 100 * 512);
        let mut random = Random::new(3);
        // Both tables first: what follows them is one stream behind the other.
        builder.table_of(0);
        builder.table_of(64);
        let payloads: Vec<_> =
            (0..40).chain(64..90).map(|cluster| pack(&mut builder, cluster, &mut random)).collect();
        Self::of("9/6 packed", builder, None, &payloads)
    }

    /// 12/9 with the L1 table at 48.
    pub fn qemu_plain() -> Self {
        let mut builder = Builder::new(12, 9, (2 << 20) + 30 * 4096).aligned(4096);
        let mut random = Random::new(4);
        for cluster in (0..20).chain(512..530) {
            let content = random.content(4096);
            builder.plain(cluster, &content);
        }
        Self::of("12/9 plain", builder, None, &[])
    }

    /// 9/12 with the name behind the L1 table.
    pub fn qemu_overlay() -> Self {
        let mut random = Random::new(5);
        let base = random.content(300 * 512);
        let mut builder = Builder::new(9, 12, 300 * 512).backing(BASE_NAME.as_bytes());
        for cluster in 17..70 {
            let content = random.content(512);
            builder.plain(cluster, &content);
        }
        Self::of("9/12 overlay", builder, Some(base), &[])
    }

    /// 12/9 with an L1 table in the order of the machine that Xen ran on.
    pub fn xen() -> Self {
        let mut random = Random::new(6);
        let mut builder =
            Builder::new(12, 9, (4 << 20) + 30 * 4096).xen(XenOrder::Little).aligned(4096);
        for cluster in (0..12).chain(512..520).chain(1024..1034) {
            let content = random.content(4096);
            builder.plain(cluster, &content);
        }
        let mut specimen = Self::of("12/9 Xen", builder, None, &[]);
        specimen.fields.push(Field { name: "Xen's extension", bytes: 48..64 });
        specimen
    }

    fn of(
        name: &'static str,
        builder: Builder,
        base: Option<Vec<u8>>,
        payloads: &[(u64, u64)],
    ) -> Self {
        let tables = builder.tables();
        let l1 = builder.l1_range();
        let table_length = builder.l2_entries() * 8;
        let image = builder.build();
        let mut fields: Vec<Field> =
            HEADER.into_iter().map(|(name, bytes)| Field { name, bytes }).collect();
        if base.is_some() {
            // Behind the L1 table, where the builder puts it.
            fields.push(Field { name: "name", bytes: l1.end..l1.end + BASE_NAME.len() as u64 });
        }
        fields.push(Field { name: "L1", bytes: l1 });
        for table in tables {
            let entries = (table..table + table_length).step_by(8);
            let (used, unused): (Vec<u64>, Vec<u64>) =
                entries.partition(|at| entry(&image, *at).iter().any(|byte| *byte != 0));
            fields.extend(used.into_iter().map(|at| field("L2, used", at)));
            fields.extend(sampled(&unused).map(|at| field("L2, unused", at)));
        }
        let payloads = payloads.iter().map(|(at, length)| *at..at + length).collect();
        Self { name, image, base, fields, payloads }
    }

    /// Every bit of every field, with the field's name, as numbers from the start of the file.
    pub fn bits(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.fields.iter().flat_map(|field| {
            (field.bytes.start * 8..field.bytes.end * 8).map(|bit| (field.name, bit))
        })
    }

    /// So many seeded bits of packed payloads; none where there are no payloads.
    pub fn payload_bits(&self, count: usize) -> Vec<u64> {
        if self.payloads.is_empty() {
            return Vec::new();
        }
        let mut random = Random::new(7);
        let bit = |random: &mut Random| {
            let number = random.below(self.payloads.len() as u64);
            let payload = &self.payloads[usize::try_from(number).expect("an index")];
            payload.start * 8 + random.below((payload.end - payload.start) * 8)
        };
        (0..count).map(|_| bit(&mut random)).collect()
    }

    /// The file with one bit flipped, the highest of a byte first.
    pub fn flipped(&self, bit: u64) -> Vec<u8> {
        let mut image = self.image.clone();
        image[usize::try_from(bit / 8).expect("a small file")] ^= 0x80 >> (bit % 8);
        image
    }
}

fn field(name: &'static str, at: u64) -> Field {
    Field { name, bytes: at..at + 8 }
}

fn entry(image: &[u8], at: u64) -> &[u8] {
    &image[usize::try_from(at).expect("a small file")..][..8]
}

/// All of a small table, a few of a large one.
fn sampled(unused: &[u64]) -> impl Iterator<Item = u64> + '_ {
    let step = if unused.len() > 64 { unused.len() / SAMPLE } else { 1 };
    unused.iter().copied().step_by(step)
}

/// Packs content that is worth it.
fn pack(builder: &mut Builder, cluster: u64, random: &mut Random) -> (u64, u64) {
    let size = builder.cluster_size();
    loop {
        let content = random.content(size);
        let length = crate::deflated(&content, 12).len() as u64;
        if (40..size).contains(&length) {
            return builder.packed(cluster, &content);
        }
    }
}
