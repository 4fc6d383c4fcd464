//! Tables where no writer puts them.

use calve_testkit::{Builder, Random, Sketch};

use super::{alone, scatter};

/// 32 KiB for each entry of the L1 table, and clusters in the first two.
fn two_tables(random: &mut Random) -> Builder {
    let mut builder = Builder::new(9, 6, 120 << 10);
    scatter(&mut builder, 128, random);
    builder.table_of(0);
    builder.table_of(64);
    builder
}

/// Several L1 entries name one table.
pub(super) fn shared(random: &mut Random) -> Sketch {
    let mut builder = two_tables(random);
    let at = builder.table_of(0);
    builder.l1_entry(1, at);
    builder.l1_entry(3, at);
    alone(builder)
}

/// Each table is the rest of the one before, and what follows.
pub(super) fn overlapping(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(9, 6, 128 << 10);
    let at = builder.table_of(0);
    for cluster in 0..60 {
        builder.plain(cluster, &[random.number().to_be_bytes()[0]; 512]);
    }
    for index in 1..4 {
        builder.l1_entry(index, at + 512 * index);
    }
    alone(builder)
}

/// A table that is the L1 table, or reaches into it or into the header.
pub(super) fn on_the_l1_table(random: &mut Random) -> Sketch {
    let mut builder = Builder::new(9, 6, 120 << 10).l1_at(1024);
    scatter(&mut builder, 128, random);
    builder.l1_entry(0, random.one_of(&[512, 1024, 1536]));
    builder.l1_entry(3, 512);
    alone(builder)
}

/// Clusters on the header, on the L1 table and on L2 tables.
pub(super) fn clusters_on_tables(random: &mut Random) -> Sketch {
    let mut builder = two_tables(random);
    let tables = [builder.table_of(0), builder.table_of(64)];
    builder.entry(1, tables[0]);
    builder.entry(2, tables[1] - random.one_of(&[0, 512]));
    builder.entry(65, tables[1]);
    let entry = builder.packed_entry(0, 400);
    builder.entry(3, entry);
    alone(builder)
}

/// The file ends in a table, or at one.
pub(super) fn cut(random: &mut Random) -> Sketch {
    let mut builder = two_tables(random);
    let table = builder.table_of(192);
    builder.cut(table + random.one_of(&[0, 1, 7, 8, 250, 504, 511, 512]));
    alone(builder)
}

/// Tables and clusters behind the end of the file, far and near.
pub(super) fn far_away(random: &mut Random) -> Sketch {
    let mut builder = two_tables(random);
    let end = builder.length().next_multiple_of(512);
    builder.cut(end);
    let places = [end - 512, end, end + 512, 1 << 40, (1 << 62) - 512, 1 << 62, u64::MAX - 511];
    builder.l1_entry(2, random.one_of(&places));
    builder.l1_entry(3, random.one_of(&places));
    for (cluster, at) in (0..).zip(places) {
        builder.entry(cluster, at);
        builder.entry(64 + cluster, at | 1 << 63);
    }
    alone(builder)
}
