//! Damage of one known kind, planted into an image that has none.

use crate::builder::{Builder, XenOrder};
use crate::random::Random;

/// A kind of damage.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What was done to the image.
    pub name: &'static str,
    /// The rules one of which tells of it; none where the format has nothing to tell it by.
    pub rules: &'static [&'static str],
    layout: Layout,
    plant: fn(&mut Sound, &mut Random),
}

/// What an image has to be for a kind of damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    Any,
    /// With tables longer than a sector.
    LongTables,
    /// With the L1 table where an L2 table could be.
    AlignedL1,
    /// With the name of a backing file behind the L1 table.
    Named,
    Encrypted,
    /// QEMU's, as VirtualBox opens it.
    VirtualBox,
    Xen,
}

/// A damaged image.
pub struct Planted {
    /// What was done to it.
    pub kind: Kind,
    /// The file before.
    pub sound: Vec<u8>,
    /// The file.
    pub image: Vec<u8>,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 34] = [
        kind("cluster_bits out of range", &["Q5"], Layout::Any, |sound, random| {
            let bits = random.one_of(&[0, 8, 17, 63, 255]);
            sound.builder.patch(32, &[bits]);
        }),
        kind("l2_bits out of range", &["Q6"], Layout::Any, |sound, random| {
            let bits = random.one_of(&[0, 5, 14, 63, 255]);
            sound.builder.patch(33, &[bits]);
        }),
        kind("virtual size without bounds", &["Q7"], Layout::Any, |sound, random| {
            let size = u64::MAX - random.below(1 << 50);
            sound.builder.patch(24, &size.to_be_bytes());
        }),
        kind("unknown encryption", &["Q9"], Layout::Any, |sound, random| {
            let method = 2 + u32::try_from(random.below(1 << 30)).expect("below");
            sound.builder.patch(36, &method.to_be_bytes());
        }),
        kind("name behind the end", &["Q10"], Layout::Any, |sound, random| {
            let at = sound.builder.length() - 3 + random.below(1 << 40);
            sound.builder.patch(8, &at.to_be_bytes());
            sound.builder.patch(16, &8u32.to_be_bytes());
        }),
        kind("name with a zero byte", &["Q10", "Q11"], Layout::Named, |sound, random| {
            let at = sound.builder.l1_range().end + random.below(NAME.len() as u64);
            sound.builder.patch(at, &[0]);
        }),
        kind("name on a cluster", &["Q31"], Layout::Any, |sound, random| {
            let at = sound.some_plain(random).1;
            sound.builder.patch(8, &at.to_be_bytes());
            sound.builder.patch(16, &8u32.to_be_bytes());
        }),
        kind("L1 place in the header", &["Q12"], Layout::Any, |sound, random| {
            let at = random.below(48);
            sound.builder.patch(40, &at.to_be_bytes());
        }),
        kind("L1 place behind the end", &["Q13"], Layout::Any, |sound, random| {
            let at = sound.builder.length() + random.below(1 << 50);
            sound.builder.patch(40, &at.to_be_bytes());
        }),
        kind("L1 entry misaligned", &["Q14"], Layout::Any, |sound, random| {
            let (index, at) = sound.some_table(random);
            sound.builder.l1_entry(index, at | (1 + random.below(511)));
        }),
        kind("L1 entry onto the L1 table", &["Q15"], Layout::AlignedL1, |sound, random| {
            let (index, _) = sound.some_table(random);
            let at = sound.builder.l1_range().start;
            sound.builder.l1_entry(index, at);
        }),
        kind("L1 entry behind the end", &["Q16"], Layout::Any, |sound, random| {
            let (index, _) = sound.some_table(random);
            let at = (sound.builder.length() + random.below(1 << 50)).next_multiple_of(512);
            sound.builder.l1_entry(index, at);
        }),
        kind("two L1 entries, one L2 table", &["Q27"], Layout::Any, |sound, _| {
            let first = sound.builder.tables()[0];
            sound.builder.l1_entry(1, first);
        }),
        kind("L2 tables overlap in part", &["Q32"], Layout::LongTables, |sound, _| {
            let first = sound.builder.tables()[0];
            sound.builder.l1_entry(1, first + 512);
        }),
        kind("L2 entry misaligned", &["Q17"], Layout::Any, |sound, random| {
            let (cluster, at) = sound.some_plain(random);
            sound.builder.entry(cluster, at | (1 + random.below(511)));
        }),
        kind("L2 entry at no possible offset", &["Q17"], Layout::Any, |sound, random| {
            let (cluster, at) = sound.some_plain(random);
            sound.builder.entry(cluster, at | 1 << 62);
        }),
        kind("L2 entry behind the end", &["Q18"], Layout::Any, |sound, random| {
            let (cluster, _) = sound.some_plain(random);
            let at = (sound.builder.length() + random.below(1 << 50)).next_multiple_of(512);
            sound.builder.entry(cluster, at);
        }),
        kind("L2 entry onto a table", &["Q21"], Layout::Any, |sound, random| {
            let (cluster, _) = sound.some_plain(random);
            let table = random.one_of(&sound.builder.tables());
            sound.builder.entry(cluster, table);
        }),
        kind("two L2 entries, one cluster", &["Q22"], Layout::Any, |sound, random| {
            let (_, at) = sound.some_plain(random);
            sound.builder.entry(UNUSED, at);
        }),
        kind("L2 entry lost", &["Q28"], Layout::Any, |sound, random| {
            let (cluster, _) = sound.some_plain(random);
            sound.builder.entry(cluster, 0);
        }),
        kind("L2 table zeroed", &["Q28"], Layout::Any, |sound, random| {
            let (_, at) = sound.some_table(random);
            let length = sound.builder.l2_entries() * 8;
            sound.builder.patch(at, &vec![0; usize::try_from(length).expect("64 KiB")]);
        }),
        kind("VirtualBox's zeroed entries", &["Q38"], Layout::VirtualBox, |sound, _| {
            let table = sound.builder.tables()[0];
            sound.builder.patch(table, &[0; 48]);
        }),
        kind("file cut in a cluster", &["Q19"], Layout::Any, |sound, random| {
            // The last in the file, whole, and not the last on the disk.
            let content = random.content(sound.builder.cluster_size());
            let at = sound.builder.plain(UNUSED, &content);
            let cut = at + 1 + random.below(sound.builder.cluster_size() - 1);
            sound.builder.cut(cut);
        }),
        kind("file cut behind the tables", &["Q18", "Q24"], Layout::Any, |sound, _| {
            let table = sound.builder.tables()[1];
            sound.builder.cut(table + sound.builder.l2_entries() * 8);
        }),
        kind("file cut in a table", &["Q16"], Layout::Any, |sound, random| {
            let table = sound.builder.tables()[1];
            sound.builder.cut(table + random.below(USED * 8));
        }),
        kind("payload broken", &["Q26"], Layout::Any, |sound, random| {
            // A block of the type that deflate does not have.
            let (_, at, _) = sound.some_packed(random);
            sound.builder.patch(at, &[0xFF]);
        }),
        kind("payload too short", &["Q26"], Layout::Any, |sound, random| {
            let (cluster, at, length) = sound.some_packed(random);
            let short = 1 + random.below(length / 2);
            sound.builder.entry(cluster, sound.builder.packed_entry(at, short));
        }),
        kind("payload of no bytes", &["Q23"], Layout::Any, |sound, random| {
            let (cluster, at, _) = sound.some_packed(random);
            sound.builder.entry(cluster, sound.builder.packed_entry(at, 0));
        }),
        kind("payload behind the end", &["Q24"], Layout::Any, |sound, random| {
            let (cluster, _, length) = sound.some_packed(random);
            let at = sound.builder.length() + random.below(1 << 40);
            sound.builder.entry(cluster, sound.builder.packed_entry(at, length));
        }),
        kind("payloads overlap", &["Q22"], Layout::Any, |sound, random| {
            let (cluster, _, length) = sound.some_packed(random);
            let (_, other, other_length) = sound.other_packed(cluster);
            let at = other + random.below(other_length);
            sound.builder.entry(cluster, sound.builder.packed_entry(at, length));
        }),
        kind("payload on a table", &["Q30"], Layout::Any, |sound, random| {
            let (cluster, _, length) = sound.some_packed(random);
            let at = random.one_of(&sound.builder.tables()) + random.below(512);
            sound.builder.entry(cluster, sound.builder.packed_entry(at, length));
        }),
        kind("flag of a payload forgotten", &["Q37"], Layout::Any, |sound, random| {
            let (cluster, at, length) = sound.some_packed(random);
            let stream = sound.bytes(at, length);
            // As the writers of 2008 left it: in a cluster of its own.
            let to = sound.builder.length().next_multiple_of(512);
            sound.builder.patch(to, &stream);
            sound.builder.cut(to + sound.builder.cluster_size());
            sound.builder.entry(cluster, to);
        }),
        kind("ciphertext zeroed", &["Q39"], Layout::Encrypted, |sound, random| {
            let (_, at) = sound.some_plain(random);
            sound.builder.patch(at, &[0; 512]);
        }),
        kind("Xen's extension under a name", &["Q31"], Layout::Xen, |sound, _| {
            sound.builder.patch(8, &50u64.to_be_bytes());
            sound.builder.patch(16, &8u32.to_be_bytes());
        }),
    ];

    /// What is written so that a legal image comes of it, another one: nothing in the format
    /// tells of it.
    pub const UNTOLD: [Kind; 4] = [
        kind("two L2 entries exchanged", &[], Layout::Any, |sound, random| {
            let (first, at) = sound.some_plain(random);
            let (second, other) = sound.other_plain(first);
            sound.builder.entry(first, other);
            sound.builder.entry(second, at);
        }),
        kind("two L1 entries exchanged", &[], Layout::Any, |sound, _| {
            let tables = sound.builder.tables();
            sound.builder.l1_entry(0, tables[1]);
            sound.builder.l1_entry(1, tables[0]);
        }),
        kind("plain content changed", &[], Layout::Any, |sound, random| {
            let (_, at) = sound.some_plain(random);
            let at = at + random.below(sound.builder.cluster_size());
            let flipped = sound.bytes(at, 1)[0] ^ 1 << random.below(8);
            sound.builder.patch(at, &[flipped]);
        }),
        kind("another name", &[], Layout::Named, |sound, random| {
            let at = sound.builder.l1_range().end + random.below(NAME.len() as u64);
            sound.builder.patch(at, b"x");
        }),
    ];

    /// An image of which this is the only damage.
    pub fn planted(self, seed: u64) -> Planted {
        let mut random = Random::new(seed);
        let mut sound = Sound::new(self.layout, &mut random);
        let before = sound.builder.clone().build();
        (self.plant)(&mut sound, &mut random);
        Planted { kind: self, sound: before, image: sound.builder.build() }
    }
}

const fn kind(
    name: &'static str,
    rules: &'static [&'static str],
    layout: Layout,
    plant: fn(&mut Sound, &mut Random),
) -> Kind {
    Kind { name, rules, layout, plant }
}

/// The name of the backing file, where there is one.
const NAME: &[u8] = b"base.raw";

/// Clusters of each L2 table that are used, from its first on.
const USED: u64 = 24;

/// A cluster that is not, on the disk and under the first table.
const UNUSED: u64 = USED + 3;

/// An image without damage, and where everything is.
struct Sound {
    builder: Builder,
    /// Plain clusters and where they are.
    plain: Vec<(u64, u64)>,
    /// Packed clusters, where they are and how long.
    packed: Vec<(u64, u64, u64)>,
}

impl Sound {
    fn new(layout: Layout, random: &mut Random) -> Self {
        let (cluster_bits, l2_bits) = match layout {
            Layout::VirtualBox | Layout::Xen => (12, 9),
            Layout::LongTables => (some_bits(random), 7 + bits_below(7, random)),
            _ => (some_bits(random), 6 + bits_below(8, random)),
        };
        let size = (1u64 << (cluster_bits + l2_bits)) + ((USED + 8) << cluster_bits);
        let mut builder = Builder::new(cluster_bits, l2_bits, size);
        builder = match layout {
            Layout::AlignedL1 => builder.l1_at(512),
            Layout::Named => builder.backing(NAME),
            Layout::Encrypted => builder.encrypted(b"password"),
            Layout::Xen => builder.xen(XenOrder::Little),
            _ => builder,
        };
        let alignment = random.one_of(&[512, builder.cluster_size()]);
        let is_paged = matches!(layout, Layout::VirtualBox | Layout::Xen);
        builder = builder.aligned(if is_paged { 4096 } else { alignment });
        let tables = [0, 1 << l2_bits];
        for first in tables {
            builder.table_of(first);
        }
        let mut sound = Self { builder, plain: Vec::new(), packed: Vec::new() };
        for cluster in tables.into_iter().flat_map(|first| first..first + USED) {
            // The first six as VirtualBox may meet them.
            let is_packed = layout != Layout::VirtualBox && cluster % 3 == 2;
            sound.store(cluster, is_packed, random);
        }
        sound
    }

    fn store(&mut self, cluster: u64, is_packed: bool, random: &mut Random) {
        let content = random.content(self.builder.cluster_size());
        let length = crate::deflated(&content, 12).len();
        if is_packed && length >= 8 && length < content.len() {
            let (at, length) = self.builder.packed(cluster, &content);
            self.packed.push((cluster, at, length));
        } else if is_packed {
            self.store(cluster, is_packed, random);
        } else {
            let at = self.builder.plain(cluster, &content);
            self.plain.push((cluster, at));
        }
    }

    fn some_plain(&self, random: &mut Random) -> (u64, u64) {
        random.one_of(&self.plain)
    }

    fn other_plain(&self, cluster: u64) -> (u64, u64) {
        *self.plain.iter().find(|plain| plain.0 != cluster).expect("there are several")
    }

    fn some_packed(&self, random: &mut Random) -> (u64, u64, u64) {
        random.one_of(&self.packed)
    }

    fn other_packed(&self, cluster: u64) -> (u64, u64, u64) {
        *self.packed.iter().find(|packed| packed.0 != cluster).expect("there are several")
    }

    /// The number of an L1 entry and the place that it names.
    fn some_table(&self, random: &mut Random) -> (u64, u64) {
        let index = random.below(2);
        (index, self.builder.tables()[usize::from(index == 1)])
    }

    fn bytes(&self, at: u64, length: u64) -> Vec<u8> {
        let small = |number: u64| usize::try_from(number).expect("a small file");
        self.builder.clone().build()[small(at)..][..small(length)].to_vec()
    }
}

/// The bits of a cluster; of the large ones, which take long, fewer.
fn some_bits(random: &mut Random) -> u8 {
    random.one_of(&[9, 9, 9, 10, 10, 11, 11, 12, 12, 12, 13, 14, 15, 16])
}

fn bits_below(end: u64, random: &mut Random) -> u8 {
    u8::try_from(random.below(end)).expect("below 256")
}
