//! The families of a catalogue become those of a plan. Nothing is written.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use calve_fleet::{Catalogue, Family as Found, Hints, Row, families};

use crate::decide;
use crate::error::{Error, Result};
use crate::plan::{Family, Head, PathText, Plan, Room, Strategy, Total, Wishes};
use crate::survey::Surveyor;

/// The version of the shape of plans.
pub(crate) const VERSION: u32 = 1;

/// A family, and the rows of its members.
type Loaded = (Found, Vec<Row>);

/// Makes a plan of all families of a catalogue that have a version 1 image. `hints` find bases
/// that are not where their overlays say, and `surveyor` looks at tables, in so many threads;
/// both open files for reading.
///
/// # Errors
/// [`Error::Fleet`], and [`Error::Stopped`].
pub fn make(
    catalogue: &Catalogue,
    wishes: &Wishes,
    hints: &Hints,
    surveyor: &dyn Surveyor,
    (threads, stop): (NonZeroUsize, &AtomicBool),
) -> Result<Plan> {
    let loaded = load(catalogue, hints)?;
    let mut families = decided(&loaded, wishes, surveyor, (threads, stop));
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Stopped);
    }
    if let Some(most) = wishes.max_extra {
        limit(&mut families, most);
    }
    let head = Head {
        version: VERSION,
        catalogue: PathText(catalogue.path().to_owned()),
        scan: catalogue.last_scan()?.unwrap_or_default(),
        wishes: wishes.clone(),
    };
    let (rooms, total) = (rooms(&families), total(&families));
    Ok(Plan { head, families, rooms, total })
}

fn load(catalogue: &Catalogue, hints: &Hints) -> Result<Vec<Loaded>> {
    let mut loaded = Vec::new();
    for family in families(catalogue, hints)?.into_iter().filter(Found::has_version1) {
        let rows = family.members.iter().map(|member| catalogue.row(member.row));
        let rows: Option<Vec<Row>> = rows.collect::<std::result::Result<_, _>>()?;
        // A row that went away with another process's scan: the next plan has what is there now.
        if let Some(rows) = rows {
            loaded.push((family, rows));
        }
    }
    Ok(loaded)
}

fn decided(
    loaded: &[Loaded],
    wishes: &Wishes,
    surveyor: &dyn Surveyor,
    (threads, stop): (NonZeroUsize, &AtomicBool),
) -> Vec<Family> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(loaded.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some((found, rows)) = loaded.get(place) else { return };
                    let number = u64::try_from(place).unwrap_or(u64::MAX) + 1;
                    let family = decide::family(number, found, rows, wishes, surveyor);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(place, family);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Leaves the families for which some file system has no room.
fn limit(families: &mut [Family], most: u64) {
    let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
    for family in families.iter_mut().filter(|family| family.is_migrated()) {
        let mut now = taken.clone();
        let images = family.images.iter();
        for image in images.filter(|image| !calve_scan::is_object(&image.path.0)) {
            let taken = now.entry(image.stamp.device).or_default();
            *taken = taken.saturating_add(image.extra);
        }
        if now.values().all(|taken| *taken <= most) {
            taken = now;
        } else {
            let reason =
                format!("would take up more than the {most} bytes that --max-extra allows");
            decide::leave(family, &reason);
        }
    }
}

fn rooms(families: &[Family]) -> Vec<Room> {
    let mut rooms: BTreeMap<u64, Room> = BTreeMap::new();
    let images = families.iter().flat_map(|family| &family.images);
    // A bucket is no file system: it has room.
    for image in images.filter(|image| !calve_scan::is_object(&image.path.0)) {
        let device = image.stamp.device;
        let room = rooms.entry(device);
        let room = room.or_insert(Room { device, read: 0, write: 0, peak_extra: 0 });
        room.read = room.read.saturating_add(image.read);
        room.write = room.write.saturating_add(image.write);
        room.peak_extra = room.peak_extra.saturating_add(image.extra);
    }
    rooms.into_values().collect()
}

/// All of these families in numbers.
fn total(families: &[Family]) -> Total {
    let mut total = Total::default();
    for image in families.iter().flat_map(|family| &family.images) {
        let is_version1 = image.is_version1();
        total.version1 += u64::from(is_version1);
        let is_left = image.strategy == Strategy::Leave;
        total.migrated += u64::from(is_version1 && !is_left);
        total.read = total.read.saturating_add(image.read);
        total.write = total.write.saturating_add(image.write);
        total.seconds[0] += image.seconds[0];
        total.seconds[1] += image.seconds[1];
    }
    total.families = u64::try_from(families.len()).unwrap_or(u64::MAX);
    total.seconds = total.seconds.map(|seconds| (seconds * 1000.0).round() / 1000.0);
    total
}
