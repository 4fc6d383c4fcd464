//! `info`: what an image is, who made it, and what to do about it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use calve_disk::formats::qcow1::Qcow1Facts;
use calve_disk::formats::qcow2::Qcow2Facts;
use calve_disk::open::{escaped, shown};
use calve_disk::shell;
use calve_disk::{BackingReference, Facts, Finding, Layer, Rule, Specific, Status, Survey, Weight};
use calve_scan::Counts;
use calve_upgrade::State;
use serde_json::{Value, json};

use crate::args::{InfoArgs, Shape};
use crate::evidence::Evidence;
use crate::exit::{Code, Failure};
use crate::source::{self, Request};
use crate::worker::{self, Death, Plan};
use crate::{findings, print, store};

pub(crate) fn run(args: &InfoArgs, program: &str, evidence: &Evidence) -> Result<Code, Failure> {
    let mut request =
        Request::new(&args.file, args.format.as_deref(), args.backing_chain, &args.open)?;
    let died = |death: &Death| tell_death(args, death);
    let mut plan = Plan::usual(program, &args.open.sandbox, evidence, &died);
    plan.is_usual = !args.backing_chain;
    if let Some(code) = worker::enter(&plan, &mut request)? {
        return Ok(code);
    }
    let disk = evidence.opening(&mut request, |request| request.open())?;
    let reports = disk.layers().iter().map(|layer| Report::new(&request, layer, args.deep));
    let reports = reports.collect::<Result<Vec<_>, _>>()?;
    evidence.note("findings", || json!(reports.iter().map(Report::count).sum::<u64>()));
    evidence.unchanged()?;
    match args.output {
        Shape::Json => {
            let mut documents = reports.iter().map(Report::json);
            let document = match args.backing_chain {
                true => documents.collect(),
                false => documents.next().unwrap_or_default(),
            };
            print::json(&document)?;
        }
        Shape::Human => {
            let texts: Vec<String> = reports.iter().map(Report::human).collect();
            print::out(&texts.join("\n"))?;
        }
    }
    Ok(Code::Done)
}

/// What is told of one image.
struct Report<'a> {
    layer: &'a Layer,
    /// Bytes that the host spends on the file.
    disk_size: u64,
    survey: Option<Survey>,
    /// What state its upgrade is in, where there is an undo record.
    upgrade: Option<&'static UpgradeWords>,
    /// What is odd: how often, and where first.
    odd: BTreeMap<Rule, (u64, Finding)>,
}

impl<'a> Report<'a> {
    fn new(request: &Request, layer: &'a Layer, is_deep: bool) -> Result<Self, Failure> {
        let storage = layer.image.storage();
        let status = storage.as_file().and_then(|file| Status::of(file).ok());
        let disk_size = match status {
            Some(status) => status.spent,
            // A store keeps every byte.
            None if store::is_object(&layer.path) => layer.image.facts().file_size,
            None => 0,
        };
        let mut odd = BTreeMap::new();
        let mut note = |finding: Finding| {
            odd.entry(finding.rule).or_insert((0, finding)).0 += 1;
        };
        let survey = match is_deep {
            true => Some(layer.image.survey(&mut note)?),
            false => {
                layer.image.facts().findings.iter().for_each(|finding| note(*finding));
                None
            }
        };
        let upgrade = upgrade_words(request.upgrade_state(layer));
        Ok(Self { layer, disk_size, survey, upgrade, odd })
    }

    /// How its bytes are come by.
    fn protocol(&self) -> &'static str {
        if store::is_object(&self.layer.path) { "s3" } else { "file" }
    }

    fn facts(&self) -> &Facts {
        self.layer.image.facts()
    }

    fn name(&self) -> String {
        shown(&self.layer.path)
    }

    /// The backing file's path, where it is a path at all.
    fn base_path(&self, backing: &BackingReference) -> String {
        let name = Path::new(OsStr::from_bytes(&backing.name));
        let path = source::beside(&self.layer.path, name);
        shown(&path)
    }

    /// How often something is odd.
    fn count(&self) -> u64 {
        self.odd.values().map(|(count, _)| count).sum()
    }

    fn has(&self, weight: Weight) -> bool {
        self.odd.keys().any(|rule| rule.weight() == weight)
    }

    /// What to do about this image, in plain words.
    fn advice(&self) -> String {
        let facts = self.facts();
        let name = shell::path(&self.layer.path);
        let target = shell::path(&target_name(&self.layer.path));
        if self.has(Weight::Damage) {
            return format!(
                "damaged: calve check lists all of it; look for a better copy; or take what is left: \
                 calve convert -p --salvage --map lost.map -O qcow2 {name} {target}"
            );
        }
        match &facts.specific {
            Specific::Qcow1(_) => {
                let mut text = "a deprecated format, without checksums, that modern hosts stop \
                                reading; migrate it: "
                    .to_owned();
                let _ = write!(text, "calve convert -p --verify -O qcow2 {name} {target}");
                let _ = write!(text, ", or where it lies: calve upgrade {name}");
                if facts.is_encrypted {
                    text.push_str(
                        " (convert asks for its passphrase, and the result is not encrypted)",
                    );
                }
                if facts.backing.is_some() {
                    text.push_str(
                        " (what convert makes holds the base's data too; -B and -F keep it thin)",
                    );
                }
                text
            }
            Specific::Qcow2(qcow2) if qcow2.is_corrupt => {
                "marked corrupt: run qemu-img check on it before you trust it".to_owned()
            }
            Specific::Qcow2(_) | Specific::Raw => "nothing has to be done about it".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let facts = self.facts();
        let name = self.name();
        let mut document = json!({
            "children": [{
                "name": "file",
                "info": {
                    "children": [],
                    "virtual-size": facts.file_size,
                    "filename": name,
                    "format": self.protocol(),
                    "actual-size": self.disk_size,
                    "format-specific": { "type": self.protocol(), "data": {} },
                    "dirty-flag": false,
                },
            }],
            "virtual-size": facts.virtual_size,
            "filename": name,
        });
        let mut set = |key: &str, value: Value| document[key] = value;
        if let Some(cluster_size) = facts.cluster_size {
            set("cluster-size", json!(cluster_size.bytes()));
        }
        if facts.is_encrypted {
            set("encrypted", json!(true));
        }
        set("format", json!(facts.format.name()));
        set("actual-size", json!(self.disk_size));
        if let Some(backing) = &facts.backing {
            set("full-backing-filename", json!(self.base_path(backing)));
            set("backing-filename", json!(escaped(&backing.name)));
            if let Some(format) = &backing.format {
                set("backing-filename-format", json!(format));
            }
        }
        if let Some(specific) = specific_json(facts) {
            set("format-specific", specific);
        }
        let is_dirty = matches!(&facts.specific, Specific::Qcow2(qcow2) if qcow2.is_dirty);
        set("dirty-flag", json!(is_dirty));
        set(
            "findings",
            self.odd.values().map(|(count, first)| finding_json(*count, first)).collect(),
        );
        if let Some(survey) = &self.survey {
            set("survey", survey_json(survey));
        }
        if let Some((word, _)) = self.upgrade {
            set("upgrade", json!(word));
        }
        set("advice", json!(self.advice()));
        document
    }

    fn human(&self) -> String {
        let facts = self.facts();
        let name = self.name();
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!("image: {name}"));
        line(format!("file format: {}", facts.format));
        line(format!(
            "virtual size: {} ({} bytes)",
            print::size(facts.virtual_size),
            facts.virtual_size
        ));
        line(format!("disk size: {}", print::size(self.disk_size)));
        if facts.is_encrypted {
            line("encrypted: yes".to_owned());
        }
        if let Some(cluster_size) = facts.cluster_size {
            line(format!("cluster_size: {}", cluster_size.bytes()));
        }
        if let Some(backing) = &facts.backing {
            let (named, path) = (escaped(&backing.name), self.base_path(backing));
            let actual =
                if named == path { String::new() } else { format!(" (actual path: {path})") };
            line(format!("backing file: {named}{actual}"));
            if let Some(format) = &backing.format {
                line(format!("backing file format: {}", escaped(format.as_bytes())));
            }
        }
        let specific = specific_lines(facts);
        if !specific.is_empty() {
            line("Format specific information:".to_owned());
            specific.iter().for_each(|(key, value)| line(format!("    {key}: {value}")));
        }
        if let Some(survey) = &self.survey {
            line("Survey of all tables:".to_owned());
            survey_lines(survey).into_iter().for_each(|text| line(format!("    {text}")));
        }
        line("Child node '/file':".to_owned());
        line(format!("    filename: {name}"));
        line(format!("    protocol type: {}", self.protocol()));
        line(format!(
            "    file length: {} ({} bytes)",
            print::size(facts.file_size),
            facts.file_size
        ));
        line(format!("    disk size: {}", print::size(self.disk_size)));
        for (count, first) in self.odd.values() {
            line(findings::line(*count, first));
        }
        if let Some((_, text)) = self.upgrade {
            line(format!("upgrade: {text}"));
        }
        line(format!("advice: {}", self.advice()));
        text
    }
}

/// The report on an image whose worker died: all that is known of it.
fn tell_death(args: &InfoArgs, death: &Death) -> Result<Code, Failure> {
    let name = shown(&death.path);
    let advice = "do not open it; what is to become of it is for a person to say";
    match args.output {
        Shape::Json => print::json(&json!({
            "filename": name,
            "findings": [finding_json(1, &Death::FINDING)],
            "worker": death.how,
            "advice": advice,
        }))?,
        Shape::Human => {
            let mut text = format!("image: {name}\n");
            let _ = writeln!(text, "{}", findings::line(1, &Death::FINDING));
            let _ = writeln!(text, "worker: {}\nadvice: {advice}", death.how);
            print::out(&text)?;
        }
    }
    Ok(Code::Damaged)
}

/// What is said of an upgrade: in JSON, and to people.
type UpgradeWords = (&'static str, &'static str);

/// What an undo record beside an image means.
fn upgrade_words(state: calve_upgrade::Result<Option<State>>) -> Option<&'static UpgradeWords> {
    Some(match state {
        Ok(None) => return None,
        Ok(Some(State::Interrupted)) => {
            &("interrupted", "was interrupted; calve upgrade --recover settles it")
        }
        Ok(Some(State::Upgraded)) => {
            &("upgraded", "was done, and can be undone: calve upgrade --undo")
        }
        Ok(Some(State::Written)) => &("written", "was done, and the image was written to since"),
        Err(_) => &("unknown", "there may be an undo record, and it cannot be read"),
    })
}

/// A name for the migrated image, beside the old one.
fn target_name(path: &Path) -> PathBuf {
    let name = path.as_os_str().as_bytes();
    let ends = [".qcow", ".qcow1", ".img"];
    let stem = ends.iter().find_map(|end| name.strip_suffix(end.as_bytes()));
    let name = [stem.unwrap_or(name), b".qcow2"].concat();
    PathBuf::from(OsString::from_vec(name))
}

fn finding_json(count: u64, first: &Finding) -> Value {
    let mut value = findings::object(first);
    value.insert("count".into(), json!(count));
    Value::Object(value)
}

pub(super) fn survey_json(survey: &Survey) -> Value {
    let mut object = counts_json(&Counts::from(*survey));
    object["sharing-looked-for"] = json!(survey.are_owners_compared);
    object
}

/// What a walk over all tables counted.
pub(super) fn counts_json(counts: &Counts) -> Value {
    json!({
        "total-clusters": counts.total,
        "allocated-clusters": counts.allocated,
        "compressed-clusters": counts.packed,
        "zero-clusters": counts.zero,
        "lost-clusters": counts.lost,
        "leaked-bytes": counts.leaked_bytes,
    })
}

fn survey_lines(survey: &Survey) -> Vec<String> {
    vec![
        format!("clusters: {}", survey.total),
        format!("allocated clusters: {} (packed: {})", survey.allocated, survey.packed),
        format!("zero clusters: {}", survey.zero),
        format!("lost clusters: {}", survey.lost),
        format!("leaked: {} bytes", survey.leaked_bytes),
    ]
}

fn specific_json(facts: &Facts) -> Option<Value> {
    match &facts.specific {
        Specific::Raw => None,
        Specific::Qcow1(qcow1) => {
            let mut data = qcow1_json(qcow1);
            if facts.is_encrypted {
                data["encryption"] = json!("aes-128-cbc");
            }
            Some(json!({ "type": "qcow", "data": data }))
        }
        Specific::Qcow2(qcow2) => Some(json!({ "type": "qcow2", "data": qcow2_json(qcow2) })),
    }
}

fn qcow1_json(facts: &Qcow1Facts) -> Value {
    json!({
        "dialect": facts.dialect.to_string(),
        "producer": facts.producer,
        "cluster-bits": facts.cluster_bits,
        "l2-bits": facts.l2_bits,
        "l1-offset": facts.l1_at,
        "l1-entries": facts.l1_entries,
        "mtime": facts.mtime,
    })
}

fn qcow2_json(facts: &Qcow2Facts) -> Value {
    let mut data = json!({
        "compat": compat(facts),
        "compression-type": facts.codec.to_string(),
        "lazy-refcounts": facts.has_lazy_refcounts,
        "refcount-bits": facts.refcount_bits,
        "corrupt": facts.is_corrupt,
        "extended-l2": facts.has_extended_l2,
    });
    if let Some(name) = &facts.data_file {
        data["data-file"] = json!(escaped(name));
        data["data-file-raw"] = json!(facts.is_data_file_raw);
    }
    if facts.snapshots > 0 {
        data["snapshots"] = json!(facts.snapshots);
    }
    data
}

fn compat(facts: &Qcow2Facts) -> &'static str {
    if facts.version == 2 { "0.10" } else { "1.1" }
}

fn specific_lines(facts: &Facts) -> Vec<(&'static str, String)> {
    match &facts.specific {
        Specific::Raw => Vec::new(),
        Specific::Qcow1(qcow1) => {
            let mut lines = vec![
                ("dialect", qcow1.dialect.to_string()),
                ("written by", qcow1.producer.to_owned()),
                ("cluster bits", qcow1.cluster_bits.to_string()),
                ("l2 bits", qcow1.l2_bits.to_string()),
                ("l1 table", format!("{} entries at {:#x}", qcow1.l1_entries, qcow1.l1_at)),
            ];
            if qcow1.mtime != 0 {
                lines.push(("mtime", format!("{} seconds since 1970", qcow1.mtime)));
            }
            if facts.is_encrypted {
                let text = "AES-128-CBC without a salt, weak by today's measure";
                lines.push(("encryption", text.to_owned()));
            }
            lines
        }
        Specific::Qcow2(facts) => {
            let mut lines = vec![
                ("compat", compat(facts).to_owned()),
                ("compression type", facts.codec.to_string()),
                ("lazy refcounts", facts.has_lazy_refcounts.to_string()),
                ("refcount bits", facts.refcount_bits.to_string()),
                ("corrupt", facts.is_corrupt.to_string()),
                ("extended l2", facts.has_extended_l2.to_string()),
            ];
            if let Some(name) = &facts.data_file {
                lines.push(("data file", escaped(name)));
                lines.push(("data file raw", facts.is_data_file_raw.to_string()));
            }
            if facts.snapshots > 0 {
                lines.push(("snapshots", facts.snapshots.to_string()));
            }
            lines
        }
    }
}
