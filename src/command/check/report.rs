//! What a check tells: findings as they come, so that no number of them takes memory, then sums.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use calve_disk::open::{escaped, shown};
use calve_disk::{Checked, Facts, Finding, Format, Rule, Weight};
use calve_repair::{Mend, Mended};
use serde_json::{Map, Value, json};

use super::mend::{self, Mends};
use crate::args::{CheckArgs, Shape};
use crate::command::info::survey_json;
use crate::exit::{Code, Failure};
use crate::{findings, print};

/// Findings of one rule that people are told one by one.
pub(super) const LISTED: u64 = 10;

/// Bytes of text that are gathered before they are printed.
const GATHERED: usize = 64 << 10;

/// A report that is being printed.
pub(super) struct Report<'a> {
    args: &'a CheckArgs,
    text: String,
    images: usize,
    /// How often each rule is broken in the image at hand.
    counts: BTreeMap<Rule, u64>,
    file_size: u64,
    /// Where the room at the end of the file begins that nothing refers to.
    image_end: u64,
    failure: Option<Failure>,
    /// What was mended so far, where something was to be.
    mends: Option<Mends>,
    mended: Option<Mended>,
}

impl<'a> Report<'a> {
    pub(super) fn new(args: &'a CheckArgs) -> Self {
        Self {
            args,
            text: String::new(),
            images: 0,
            counts: BTreeMap::new(),
            file_size: 0,
            image_end: 0,
            failure: None,
            mends: None,
            mended: None,
        }
    }

    fn is_json(&self) -> bool {
        self.args.output == Shape::Json
    }

    pub(super) fn begin(&mut self) {
        if self.is_json() && self.args.backing_chain {
            self.say("[\n");
        }
    }

    pub(super) fn begin_image(&mut self, path: &Path, format: &str, file_size: u64) {
        self.counts.clear();
        (self.file_size, self.image_end) = (file_size, file_size);
        if self.mends.is_none() {
            self.begin_document(path, format);
        }
        if self.is_json() {
            self.say(",\n    \"findings\": [");
        }
    }

    /// Begins with what is mended before the image is checked.
    pub(super) fn begin_repair(&mut self, path: &Path, format: &str) {
        self.begin_document(path, format);
        self.mends = Some(Mends::default());
        if self.is_json() {
            self.say(",\n    \"repairs\": [");
        }
    }

    /// Tells of one thing that was mended.
    pub(super) fn mend(&mut self, mend: &Mend) {
        let (is_json, lists_all) = (self.is_json(), self.args.all);
        let Some(mends) = &mut self.mends else { return };
        let text = mends.text(mend, is_json, lists_all);
        self.say(&text);
    }

    /// What was mended in all, or up to where it failed.
    pub(super) fn end_repair(&mut self, mended: Option<&Mended>) {
        let Some(mends) = &self.mends else { return };
        let text = match self.is_json() {
            true => mends.end_of_list(mended.is_some()).to_owned(),
            false => mended.map(mend::summary).unwrap_or_default(),
        };
        self.say(&text);
        self.mended = mended.copied();
    }

    fn begin_document(&mut self, path: &Path, format: &str) {
        self.images += 1;
        let name = shown(path);
        let format = escaped(format.as_bytes());
        if self.is_json() {
            let separator = if self.images > 1 { ",\n" } else { "" };
            let (name, format) = (json!(name), json!(format));
            self.say(&format!(
                "{separator}{{\n    \"filename\": {name},\n    \"format\": {format}"
            ));
        } else {
            let separator = if self.images > 1 { "\n" } else { "" };
            self.say(&format!("{separator}image: {name}\nfile format: {format}\n"));
        }
    }

    /// Tells of one finding, as soon as it is known.
    pub(super) fn find(&mut self, finding: &Finding) {
        let count = self.counts.entry(finding.rule).or_default();
        *count += 1;
        let count = *count;
        if let (Rule::Leak, Some(at), Some(length)) = (finding.rule, finding.at, finding.value)
            && at.get() + length == self.file_size
        {
            self.image_end = at.get();
        }
        if self.is_json() {
            let is_first = self.counts.len() == 1 && count == 1;
            let separator = if is_first { "" } else { "," };
            let object = Value::Object(findings::object(finding));
            self.say(&format!("{separator}\n        {object}"));
        } else if self.args.all || count <= LISTED {
            self.say(&format!("{}\n", findings::line(1, finding)));
        }
    }

    /// The sums of an image. `checked` is what was looked at, where the host let it be.
    pub(super) fn end_image(&mut self, facts: &Facts, checked: Option<&Checked>) {
        if self.is_json() {
            let document = self.sums(facts, checked);
            self.end_document(document);
        } else {
            self.say_omitted();
            let text = self.text_of(facts, checked);
            self.say(&text);
        }
    }

    /// The end of the report on an image that was not opened, or whose worker ended like `how`.
    pub(super) fn end_unopened(&mut self, how: Option<&str>) {
        if self.is_json() {
            let mut document = Map::new();
            document.insert("check-errors".into(), json!(u8::from(how.is_some())));
            document.insert("corruptions".into(), json!(self.corruptions()));
            if let Some(how) = how {
                document.insert("worker".into(), json!(how));
            }
            self.end_document(document);
        } else {
            let how = how.map(|how| format!("worker: {how}\n")).unwrap_or_default();
            self.say(&format!("{how}verdict: damaged; nothing else of it could be checked\n"));
        }
    }

    /// Prints what is left, and tells of the first print that failed.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        if self.is_json() {
            self.say(if self.args.backing_chain { "\n]\n" } else { "\n" });
        }
        self.print();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// What the findings of the image at hand come to.
    pub(super) fn code(&self) -> Code {
        if self.corruptions() > 0 {
            Code::Corruption
        } else if self.count(Weight::Leak) > 0 {
            Code::Leaks
        } else {
            Code::Done
        }
    }

    fn corruptions(&self) -> u64 {
        self.count(Weight::Damage) + self.count(Weight::Suspect)
    }

    fn count(&self, weight: Weight) -> u64 {
        let counts = self.counts.iter().filter(|(rule, _)| rule.weight() == weight);
        counts.map(|(_, count)| *count).sum()
    }

    fn say(&mut self, text: &str) {
        if self.args.progress.quiet && !self.is_json() {
            return;
        }
        self.text.push_str(text);
        if self.text.len() >= GATHERED {
            self.print();
        }
    }

    /// Prints what was gathered.
    pub(super) fn print(&mut self) {
        if self.failure.is_none() {
            self.failure = print::out(&self.text).err();
        }
        self.text.clear();
    }

    fn end_document(&mut self, document: Map<String, Value>) {
        let list_end = if self.counts.is_empty() { "]" } else { "\n    ]" };
        self.say(list_end);
        for (key, value) in document {
            self.say(&format!(",\n    \"{key}\": {value}"));
        }
        self.say("\n}");
    }

    /// The keys of `qemu-img check`, where they have a meaning here, and ours.
    fn sums(&self, facts: &Facts, checked: Option<&Checked>) -> Map<String, Value> {
        let mut document = Map::new();
        let mut set = |key: &str, value: Value| document.insert(key.into(), value);
        // What qemu-img means: errors of the check, and not of the image.
        set("check-errors", json!(u8::from(checked.is_none())));
        set("corruptions", json!(self.corruptions()));
        set("notes", json!(self.count(Weight::Note)));
        if let Some(mended) = &self.mended {
            let cluster = facts.cluster_size.map_or(1, |size| size.bytes());
            set("leaks-fixed", json!(mended.trimmed.div_ceil(cluster)));
            set("corruptions-fixed", json!(mended.unallocated + mended.copied));
            for (key, value) in mend::keys(mended) {
                set(key, value);
            }
        }
        let Some(Checked { survey, unpacked, probed, .. }) = checked else { return document };
        if survey.are_owners_compared {
            let cluster = facts.cluster_size.map_or(1, |size| size.bytes());
            set("leaks", json!(survey.leaked_bytes.div_ceil(cluster)));
            set("image-end-offset", json!(self.image_end));
        }
        set("total-clusters", json!(survey.total));
        set("allocated-clusters", json!(survey.allocated));
        set("compressed-clusters", json!(survey.packed));
        set("survey", survey_json(survey));
        set("deep", json!(self.args.deep));
        set("unpacked", json!(unpacked));
        set("probed", json!(probed));
        if facts.format == Format::Qcow2 {
            set("reference-counts-compared", json!(false));
        }
        document
    }

    /// One line for each rule that is broken more often than was told.
    fn say_omitted(&mut self) {
        if self.args.all {
            return;
        }
        let mut text = String::new();
        for (rule, count) in self.counts.iter().filter(|(_, count)| **count > LISTED) {
            let (word, more) = (rule.weight().word(), count - LISTED);
            let number = rule.number();
            let _ = writeln!(text, "{word}: {more} more like that [{number}]; --all lists them");
        }
        self.say(&text);
    }

    fn text_of(&self, facts: &Facts, checked: Option<&Checked>) -> String {
        let mut text = String::new();
        if let Some(Checked { survey, unpacked, probed, .. }) = checked {
            let (total, allocated, packed) = (survey.total, survey.allocated, survey.packed);
            let _ = writeln!(
                text,
                "clusters: {total}, allocated: {allocated} (packed: {packed}), lost: {}",
                survey.lost
            );
            if survey.are_owners_compared {
                let leaked = survey.leaked_bytes;
                let _ = writeln!(text, "leaked: {leaked} bytes, image end: {}", self.image_end);
            }
            let depth = match self.args.deep {
                true => "all that is stored was read",
                false => "--deep reads all that is stored",
            };
            let _ = writeln!(text, "unpacked: {unpacked}, looked into: {probed}; {depth}");
        }
        if facts.format == Format::Qcow2 {
            text.push_str("reference counts: not compared; qemu-img check does that\n");
        }
        let verdict = self.verdict(facts, checked.is_some());
        let _ = writeln!(text, "verdict: {verdict}");
        text
    }

    fn verdict(&self, facts: &Facts, is_whole: bool) -> String {
        let name = facts.format.name();
        let counted = |weight: Weight| self.count(weight);
        let (damage, suspect) = (counted(Weight::Damage), counted(Weight::Suspect));
        match self.code() {
            Code::Corruption => format!("damage: {damage}, suspect: {suspect}"),
            _ if !is_whole => "the host did not let it be checked to its end".to_owned(),
            Code::Leaks => "nothing is lost; there is room that nothing refers to".to_owned(),
            _ if facts.format == Format::Raw => format!("{name}: nothing can be checked"),
            _ if self.args.deep => "no errors were found".to_owned(),
            _ => "no errors were found in the tables".to_owned(),
        }
    }
}
