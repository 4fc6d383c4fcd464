//! The base in a folder, the passphrase in a list.

use crate::common::{MIB, Order, gpt_disk, image};
use calve_disk::codec::aes::Passphrase;
use calve_disk::formats::qcow1::Qcow1Image;
use calve_disk::{Disk, Judgement, Layer, OpenOptions};
use calve_rebuild::{Search, find_base, find_passphrase, is_clear};
use calve_testkit::{Builder, Memory, Random};

#[test]
#[expect(clippy::print_stdout, reason = "figures are asked for")]
fn the_base_is_told_from_disks_that_are_much_like_it() {
    let (mut clear, rounds) = (0, 10);
    for round in 0..rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let mut random = Random::new(round);
        let base = gpt_disk(4 * MIB, round);
        let right = random.below(10);
        for number in 0..10 {
            // The others went on, each on its own way.
            let mut other = base.clone();
            if number != right {
                for _ in 0..200 {
                    let at = usize::try_from(random.below(8000)).unwrap() * 512;
                    let bytes = random.content(512);
                    other[at..at + 512].copy_from_slice(&bytes);
                }
            }
            let name = folder.path().join(format!("disk{number}"));
            match number % 3 {
                0 => std::fs::write(name, other),
                _ => {
                    let builder = Builder::new(12, 9, other.len() as u64).aligned(4096);
                    std::fs::write(name, image(builder, &other, Order::Sequential, false))
                }
            }
            .expect("a file");
        }
        // A guest wrote whole pages, of which it changed a sector.
        let mut overlay = Builder::new(9, 12, base.len() as u64).backing(b"gone.raw").l1_at(64);
        for _ in 0..150 {
            let page = random.below(1000) * 8;
            for sector in page..page + 8 {
                let at = usize::try_from(sector * 512).unwrap();
                let mut bytes = base[at..at + 512].to_vec();
                if sector == page + 3 {
                    bytes = random.content(512);
                }
                overlay.plain(sector, &bytes);
            }
        }
        let path = folder.path().join("overlay");
        std::fs::write(&path, overlay.build()).expect("a file");
        std::os::unix::fs::symlink("disk0", folder.path().join("link")).expect("a link");
        let disk = Disk::open(&path, &OpenOptions::default()).expect("opens");
        let found = find_base(&disk, folder.path(), &Search::default()).expect("a folder");
        assert_eq!(found.len(), 10, "neither the overlay nor a link");
        let expected = folder.path().join(format!("disk{right}"));
        assert_eq!(found[0].path, expected, "round {round}: {found:?}");
        clear += usize::from(is_clear(&found));
    }
    assert!(clear >= 8, "{clear} of {rounds}");
    println!("the base was first in {rounds} of {rounds} folders, clearly so in {clear}");
}

#[test]
fn the_passphrase_is_found_among_a_thousand() {
    let disk = gpt_disk(3 * MIB, 1);
    let builder = Builder::new(12, 9, disk.len() as u64).encrypted(b"swordfish").aligned(4096);
    let memory = Memory::new(image(builder, &disk, Order::Sequential, false));
    let open = |passphrase: &Passphrase| {
        let image = Qcow1Image::open(Box::new(memory.clone()), Some(passphrase))?;
        Ok(Disk::of_layers(vec![Layer::detached(Box::new(image))]))
    };
    for right in [1, 500, 1000] {
        let list = (1..=1000).map(|number| match number {
            _ if number == right => b"swordfish".to_vec(),
            _ => format!("the same sixteen bytes {number}")
                .split_off(if number % 2 == 0 { 0 } else { 10 })
                .into_bytes(),
        });
        let tried = find_passphrase(&open, 0, list).expect("memory");
        assert_eq!(tried.number, Some(right));
        assert_eq!(tried.judgement, Judgement::Plausible);
        assert_eq!(tried.tried + tried.repeated, right);
    }
    let list = (0..1000).map(|number| format!("wrong {number}").into_bytes());
    let tried = find_passphrase(&open, 0, list).expect("memory");
    assert_eq!((tried.number, tried.judgement, tried.tried), (None, Judgement::Noise, 1000));
}
