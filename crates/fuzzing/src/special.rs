//! Special cases, one by one: what writers did, what damage did, and what only malice does.

mod claims;
mod qcow2;
mod tables;

use calve_testkit::{Builder, Random, Sketch, XenOrder};

pub(crate) use claims::stored_blocks;
pub(crate) use qcow2::qcow2;

/// Makes one version 1 file of its kind.
pub(crate) type Maker = fn(&mut Random) -> Sketch;

/// All kinds.
pub(crate) const VERSION_1: &[Maker] = &[
    |random| xen(XenOrder::Big, random),
    |random| xen(XenOrder::Little, random),
    |random| xen(XenOrder::Mixed, random),
    packed_back_to_back,
    packed_over_the_end,
    encrypted_and_cut,
    table_a_page_later,
    tables::shared,
    tables::overlapping,
    tables::on_the_l1_table,
    tables::clusters_on_tables,
    tables::cut,
    tables::far_away,
    claims::size,
    claims::name,
    claims::everything,
    claims::one_cluster_everywhere,
    claims::slow_streams,
    claims::slow_codes,
];

/// A sketch of a file that needs nothing to be read.
fn alone(builder: Builder) -> Sketch {
    Sketch { image: builder.build(), passphrase: None, base: None }
}

/// Clusters here and there, up to the last one.
fn scatter(builder: &mut Builder, clusters: u64, random: &mut Random) {
    let size = builder.cluster_size();
    for _ in 0..6 {
        let content = random.content(size);
        builder.plain(random.below(clusters), &content);
    }
    builder.packed(clusters - 1, &[7; 40]);
}

fn xen(order: XenOrder, random: &mut Random) -> Sketch {
    // 32 KiB for each entry of the L1 table.
    let mut builder = Builder::new(9, 6, 128 << 10).xen(order);
    scatter(&mut builder, 256, random);
    alone(builder)
}

fn packed_back_to_back(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(12, 9, 20 << 12).window(15);
    for cluster in 0..20 {
        let mut content = random.content(2000);
        content.resize(4096, 0);
        builder.packed(cluster, &content);
    }
    alone(builder)
}

/// What the last entry claims is more than the file has, which is enough.
fn packed_over_the_end(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(12, 9, 3 << 12);
    let (at, length) = builder.packed(1, &[9; 4096]);
    let longer = length + 1 + random.below(4000 - length);
    let entry = builder.packed_entry(at, longer);
    builder.entry(1, entry);
    alone(builder)
}

fn encrypted_and_cut(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(12, 9, (6 << 12) - random.below(900)).encrypted(b"sesame");
    for cluster in 0..6 {
        builder.plain(cluster, &random.content(4096));
    }
    let cut = builder.length() - random.below(9000);
    builder.cut(cut);
    Sketch { passphrase: Some(b"sesame".into()), ..alone(builder) }
}

/// VirtualBox: the first table one page later, clusters at no multiple of their size.
fn table_a_page_later(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(12, 9, 30 << 12);
    builder.cut(4096 + 512);
    scatter(&mut builder, 30, random);
    alone(builder)
}
