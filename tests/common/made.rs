//! A run of any number of images that never were, in a catalogue, a journal and a plan.

use std::fmt::Write;

use super::Bench;
use rusqlite::{Connection, params};

/// Names that harm whoever takes them for anything but names.
pub(crate) const HOSTILE: &[&[u8]] = &[
    b"<script>document.title='taken'</script>",
    b"\"><img src=x onerror=\"document.title='taken'\">",
    b"=cmd|'/c calc'!A1",
    b"</td></tr></table><!--",
    "\u{202e}gmi.terces".as_bytes(),
    b"\xff\xfe\x1b[31m\r\n",
    b"&amp;&lt;",
];

/// Makes `images.catalogue` and `images.plan`: so many families of one image each, of which every
/// tenth failed and every hundredth was left. Nothing lies at any of their paths, but what is
/// beside it; the first have hostile names.
pub(crate) fn many(bench: &Bench, count: usize) {
    std::fs::create_dir(bench.file("tree")).expect("a folder");
    bench.ok(&["scan", "-q", "--catalogue", "images.catalogue", "tree"]);
    let catalogue = bench.file("images.catalogue").canonicalize().expect("a path");
    drop(calve_migrate::Journal::open(&catalogue).expect("a journal"));
    let plan = bench.file("images.plan");
    let mut text = format!(
        "{{\"kind\":\"plan\",\"version\":1,\"catalogue\":\"{}\",\"scan\":1,\"wishes\":{{\
         \"way\":\"convert\",\"damaged\":\"leave\",\"kept\":{{\"days\":30}},\"max-extra\":null,\
         \"window\":null,\"rate\":{{\"least\":1,\"most\":2}}}}}}\n",
        catalogue.display()
    );
    let mut connection = Connection::open(&catalogue).expect("a catalogue");
    let rows = connection.transaction().expect("a transaction");
    let sql = "INSERT INTO migration VALUES (1, x'', '', '{\"days\":30}', 1700000000, NULL, NULL)";
    rows.execute(sql, []).expect("a run");
    for place in 0..count {
        let path = path(place);
        let is_left = place % 100 == 99;
        let written = match std::str::from_utf8(&path) {
            Ok(text) => serde_json::json!(text).to_string(),
            Err(_) => {
                let hex: String = path.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{{\"hex\":\"{hex}\"}}")
            }
        };
        let (strategy, reason) = match is_left {
            true => ("leave", "the image is in use: end that process, and scan again"),
            false => ("convert", "nothing is the matter with it"),
        };
        let (number, size) = (place + 1, 1_000_000 + place * 7919 % 900_000);
        writeln!(
            text,
            "{{\"kind\":\"image\",\"family\":{number},\"order\":1,\"of\":1,\"path\":{written},\
             \"strategy\":\"{strategy}\",\"reason\":\"{reason}\",\"class\":\"v1\",\
             \"format\":\"qcow\",\"packed\":false,\"encrypted\":false,\"dialect\":\"qemu\",\
             \"producer\":\"qemu\",\"stamp\":{{\"device\":1,\"inode\":{number},\"size\":{size},\
             \"modified\":1}},\"base\":null,\"base-format\":null,\"base-moved\":false,\"read\":1,\
             \"write\":1,\"extra\":1,\"seconds\":[1.0,2.0]}}"
        )
        .expect("text");
        if !is_left {
            put(&rows, place, &path, size);
        }
    }
    text.push_str(
        "{\"kind\":\"total\",\"families\":1,\"version1\":1,\"migrated\":1,\"read\":1,\"write\":1,\
         \"seconds\":[1.0,2.0]}\n",
    );
    std::fs::write(&plan, &text).expect("a plan");
    let plan = plan.canonicalize().expect("a path").to_string_lossy().into_owned();
    let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
    let sql = "UPDATE migration SET plan = ?1, digest = ?2";
    rows.execute(sql, params![plan.as_bytes(), digest]).expect("a run");
    rows.commit().expect("committed");
}

/// The path of an image.
pub(crate) fn path(place: usize) -> Vec<u8> {
    let mut path = b"/nowhere/customers/".to_vec();
    match HOSTILE.get(place) {
        Some(name) => path.extend_from_slice(name),
        None => path.extend_from_slice(
            format!("rack-{}/customer-{place:06}/disk.img", place % 17).as_bytes(),
        ),
    }
    path
}

fn put(rows: &rusqlite::Transaction<'_>, place: usize, path: &[u8], size: usize) {
    let is_failed = place % 10 == 5;
    let number = i64::try_from(place + 1).expect("small");
    let ended = 1_700_000_000 + number;
    let (state, cause, problem) = match is_failed {
        true => ("failed", Some("no-space"), Some("<b>no room</b> for it")),
        false => ("done", None, None),
    };
    let sql = "INSERT INTO migrated_family VALUES (1, ?1, ?2, 1700000000, ?3, ?4, ?5)";
    let mut family = rows.prepare_cached(sql).expect("a table");
    family.execute(params![number, state, ended, cause, problem]).expect("a row");
    let sql = "INSERT INTO migrated_image (run, family, place, path, strategy, state, old_inode, \
               old_size, old_modified, new_inode, new_size, new_modified, kept, digest, missing, \
               began, ended) VALUES (1, ?1, 1, ?2, 'convert', ?3, ?1, ?4, 1, ?1, ?4, 1, ?5, ?6, 0, \
               1700000000, ?7)";
    let mut image = rows.prepare_cached(sql).expect("a table");
    let kept = [path, b".calve-original"].concat();
    let digest = blake3::hash(path).to_hex().to_string();
    let size = i64::try_from(size).expect("small");
    let state = if is_failed { "prepared" } else { "switched" };
    image.execute(params![number, path, state, size, kept, digest, ended]).expect("a row");
}
