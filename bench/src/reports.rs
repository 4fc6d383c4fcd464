//! Reports of many images: how long each shape takes, what it needs, and how long a browser sorts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use calve_migrate::{Cause, FamilyState, ImageRecord, ImageState, Journal, Stamped};
use calve_plan::{Kept, Strategy};

use crate::fresh;
use crate::measure::median;

/// Seconds since 1970 at which the run ended that never was.
const ENDED: i64 = 1_700_000_000;

/// Each shape of reports of ten and of a hundred thousand images, of which nothing lies anywhere.
pub(crate) fn table(folder: &Path, calve: &str, rounds: usize) -> io::Result<String> {
    let mut text = String::from(
        "\nReports, of images that lie nowhere, so that each path is listed as missing too:\n\n\
         | images | shape | s | peak MiB | report MiB | Chromium sorts in s | searches in s |\n\
         |---:|---|---:|---:|---:|---:|---:|\n",
    );
    for count in [10_000, 100_000] {
        let folder = folder.join(format!("reports-{count}"));
        std::fs::create_dir_all(folder.join("tree"))?;
        fresh(&folder, &format!("{calve} scan -q --catalogue images.catalogue tree"))?;
        make(&folder, count)?;
        for shape in ["html", "csv", "json", "premis"] {
            let line = format!("{calve} report --output {shape} images.plan >target");
            let (mut took, mut peak) = (Vec::new(), 0);
            for _ in 0..rounds {
                let run = fresh(&folder, &line)?;
                took.push(run.wall);
                peak = peak.max(run.peak);
            }
            #[expect(clippy::cast_precision_loss, reason = "a megabyte needs no 53 bits")]
            let size = folder.join("target").metadata()?.len() as f64 / f64::from(1 << 20);
            let browser = match shape {
                "html" => browser(&folder)?,
                _ => "| ".into(),
            };
            text += &format!(
                "| {count} | {shape} | {:.2} | {} | {size:.1} | {browser} |\n",
                median(took),
                peak >> 10
            );
        }
        std::fs::remove_dir_all(folder)?;
    }
    Ok(text)
}

/// Makes `images.plan`, and a run of it in the journal: so many families of one image each, of
/// which every tenth failed.
fn make(folder: &Path, count: u64) -> io::Result<()> {
    let catalogue = folder.join("images.catalogue").canonicalize()?;
    let plan = folder.join("images.plan");
    let mut out = io::BufWriter::new(std::fs::File::create(&plan)?);
    writeln!(
        out,
        "{{\"kind\":\"plan\",\"version\":1,\"catalogue\":{:?},\"scan\":1,\"wishes\":{{\
         \"way\":\"convert\",\"damaged\":\"leave\",\"kept\":{{\"days\":30}},\"max-extra\":null,\
         \"window\":null,\"rate\":{{\"least\":1,\"most\":2}}}}}}",
        catalogue.display().to_string()
    )?;
    for number in 1..=count {
        let (path, size) = (path(number), 1_000_000 + number * 7919 % 900_000);
        writeln!(
            out,
            "{{\"kind\":\"image\",\"family\":{number},\"order\":1,\"of\":1,\"path\":{:?},\
             \"strategy\":\"convert\",\"reason\":\"nothing is the matter with it\",\
             \"class\":\"v1\",\"format\":\"qcow\",\"packed\":false,\"encrypted\":false,\
             \"dialect\":\"qemu\",\"producer\":\"qemu\",\"stamp\":{{\"device\":1,\
             \"inode\":{number},\"size\":{size},\"modified\":1}},\"base\":null,\
             \"base-order\":null,\"base-format\":null,\"base-moved\":false,\"read\":1,\"write\":1,\
             \"extra\":1,\"seconds\":[1.0,2.0]}}",
            path.display().to_string()
        )?;
    }
    writeln!(
        out,
        "{{\"kind\":\"total\",\"families\":{count},\"version1\":{count},\"migrated\":{count},\
         \"read\":1,\"write\":1,\"seconds\":[1.0,2.0]}}"
    )?;
    out.into_inner()?;
    let digest = blake3::hash(&std::fs::read(&plan)?).to_hex().to_string();
    let journal = Journal::open(&catalogue).map_err(io::Error::other)?;
    let run = journal.begin(&plan, &digest, &Kept::Days(30)).map_err(io::Error::other)?;
    for number in 1..=count {
        put(&journal, run.number, number).map_err(io::Error::other)?;
    }
    Ok(())
}

fn path(number: u64) -> PathBuf {
    format!("/nowhere/customers/rack-{}/customer-{number:06}/disk.img", number % 17).into()
}

fn put(journal: &Journal, run: i64, number: u64) -> calve_migrate::Result<()> {
    let stamp = Stamped { inode: number, size: 1_000_000, modified: 1 };
    let path = path(number);
    let mut kept = path.clone().into_os_string();
    kept.push(".calve-original");
    let (state, failure) = match number % 10 {
        5 => (FamilyState::Failed, Some((Cause::NoSpace, "no room for it"))),
        _ => (FamilyState::Done, None),
    };
    journal.set_family(run, number, state, failure)?;
    journal.set_image(
        run,
        &ImageRecord {
            family: number,
            place: 1,
            path,
            strategy: Strategy::Convert,
            state: ImageState::Switched,
            old: stamp,
            new: Some(stamp),
            kept: Some(kept.into()),
            header: None,
            digest: Some(format!("{:064x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            missing: 0,
            began: ENDED - 10,
            ended: Some(ENDED),
        },
    )
}

/// Has Chromium sort the page by its fourth column and search in it: seconds for each, the layout
/// included. The page's own policy lets nothing else run in it, so that is taken out here.
fn browser(folder: &Path) -> io::Result<String> {
    const MEASURES: &str = "<script>addEventListener('load', () => { \
        const timed = (what) => { const start = performance.now(); what(); \
        document.body.getBoundingClientRect(); return (performance.now() - start) / 1000; }; \
        const heads = document.querySelectorAll('#images th button'); \
        const sorted = timed(() => heads[3].click()); \
        const field = document.querySelector('#tools input'); field.value = 'customer-000123'; \
        const found = timed(() => field.dispatchEvent(new Event('input'))); \
        document.documentElement.textContent = `${sorted.toFixed(2)} | ${found.toFixed(2)}`; \
        });</script>";
    let page = std::fs::read_to_string(folder.join("target"))?;
    let (before, rest) = page.split_once("<meta http-equiv").unwrap_or((&page, ""));
    let rest = rest.split_once('>').map_or("", |(_, rest)| rest);
    std::fs::write(folder.join("page.html"), [before, rest, MEASURES].concat())?;
    let said = Command::new("chromium")
        .current_dir(folder)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--timeout=120000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", folder.join("page.html").display()))
        .output();
    let Ok(said) = said else { return Ok("no Chromium here | ".into()) };
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let told = text.split_once("<html lang=\"en\">").map_or("", |(_, rest)| rest);
    let told = told.trim().trim_end_matches("</html>");
    // Where it gave up before the page was there, that is what it shows.
    Ok(if told.starts_with('<') { "not within two minutes | ".into() } else { told.into() })
}
