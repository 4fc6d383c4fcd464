//! The result of a scan, told row by row as it comes out of the catalogue.

use std::io::{self, BufWriter, Write};

use calve_disk::open::shown;
use calve_fleet::{
    Catalogue, Error as FleetError, Family, Hints, OnDisk, Row, Totals, Which, families,
};
use serde_json::{Map, Value, json};

use super::{Scanned, record, table};
use crate::args::{ScanArgs, ScanShape};
use crate::exit::Failure;
use crate::print::of_kind;
use table::Table;

/// Why no more is told.
enum End {
    /// The reader has gone away, and so has seen enough.
    Gone,
    Failed(Failure),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Failed(Failure::not_printed(&error)),
        }
    }
}

impl From<FleetError> for End {
    fn from(error: FleetError) -> Self {
        Self::Failed(error.into())
    }
}

/// Tells what a scan has found.
pub(super) fn tell(
    args: &ScanArgs,
    catalogue: &Catalogue,
    scanned: &Scanned,
) -> Result<(), Failure> {
    let out = BufWriter::new(io::stdout().lock());
    let mut report = Report { args, catalogue, scanned, out };
    let told = match args.output {
        ScanShape::Human if args.progress.quiet => return Ok(()),
        ScanShape::Human => report.human(),
        ScanShape::Json => report.json(),
        ScanShape::Jsonl => report.lines(),
        ScanShape::Csv => report.csv(),
    };
    match told.and_then(|()| Ok(report.out.flush()?)) {
        Ok(()) | Err(End::Gone) => Ok(()),
        Err(End::Failed(failure)) => Err(failure),
    }
}

struct Report<'a, W> {
    args: &'a ScanArgs,
    catalogue: &'a Catalogue,
    scanned: &'a Scanned,
    out: W,
}

impl<W: Write> Report<'_, W> {
    fn rows(&mut self, mut tell: impl FnMut(&mut W, &Row) -> Result<(), End>) -> Result<(), End> {
        let which = if self.args.all { Which::All } else { Which::Notable };
        let out = &mut self.out;
        self.catalogue.rows(which, |row| tell(out, &row))
    }

    fn families(&self) -> Result<Vec<Family>, End> {
        match self.args.families {
            true => Ok(families(self.catalogue, &Hints::default())?),
            false => Ok(Vec::new()),
        }
    }

    fn human(&mut self) -> Result<(), End> {
        let table = Table::new();
        let catalogue = self.catalogue;
        let mut is_first = true;
        self.rows(|out, row| {
            if std::mem::take(&mut is_first) {
                out.write_all(Table::heading().as_bytes())?;
            }
            let first = match row.name_of.or(row.reflink_of) {
                Some(id) => catalogue.row(id)?,
                None => None,
            };
            Ok(out.write_all(table.row(row, first.as_ref()).as_bytes())?)
        })?;
        for family in self.families()? {
            if let Some(text) = table.family(&family) {
                self.out.write_all(text.as_bytes())?;
            }
        }
        let totals = self.catalogue.totals()?;
        let disk = self.catalogue.on_disk(None)?;
        let text = table::totals(&totals, self.catalogue.count_version1()?, disk);
        Ok(self.out.write_all(text.as_bytes())?)
    }

    fn json(&mut self) -> Result<(), End> {
        let (scan, known) = (self.scanned.number, self.scanned.known());
        let mut separator = "\n";
        write!(self.out, "{{\n\"files\": [")?;
        self.rows(|out, row| {
            let object = Value::Object(record::of_row(row, known));
            Ok(write!(out, "{}{object}", std::mem::replace(&mut separator, ",\n"))?)
        })?;
        write!(self.out, "\n],\n")?;
        if self.args.families {
            let families = self.families()?;
            let mut separator = "\n";
            write!(self.out, "\"families\": [")?;
            for family in &families {
                let object = Value::Object(record::of_family(family));
                write!(self.out, "{}{object}", std::mem::replace(&mut separator, ",\n"))?;
            }
            write!(self.out, "\n],\n")?;
        }
        let mut separator = "\n";
        write!(self.out, "\"troubles\": [")?;
        let out = &mut self.out;
        self.catalogue.troubles(scan, |trouble| {
            let object = trouble_object(&trouble);
            Ok::<(), End>(write!(out, "{}{object}", std::mem::replace(&mut separator, ",\n"))?)
        })?;
        writeln!(self.out, "\n],\n\"totals\": {}\n}}", self.totals()?)?;
        Ok(())
    }

    fn lines(&mut self) -> Result<(), End> {
        let (scan, known) = (self.scanned.number, self.scanned.known());
        self.rows(|out, row| {
            Ok(writeln!(out, "{}", of_kind("file", record::of_row(row, known)))?)
        })?;
        for family in self.families()? {
            writeln!(self.out, "{}", of_kind("family", record::of_family(&family)))?;
        }
        let out = &mut self.out;
        self.catalogue.troubles(scan, |trouble| {
            let Value::Object(object) = trouble_object(&trouble) else { return Ok(()) };
            Ok::<(), End>(writeln!(out, "{}", of_kind("trouble", object))?)
        })?;
        let Value::Object(totals) = self.totals()? else { return Ok(()) };
        Ok(writeln!(self.out, "{}", of_kind("totals", totals))?)
    }

    fn csv(&mut self) -> Result<(), End> {
        let known = self.scanned.known();
        writeln!(self.out, "{}", record::COLUMNS)?;
        self.rows(|out, row| Ok(writeln!(out, "{}", record::csv_of(row, known))?))
    }

    fn totals(&self) -> Result<Value, End> {
        let class = |totals: &Totals| {
            let counted = json!({ "count": totals.count, "bytes": totals.bytes });
            (totals.class.word().to_owned(), counted)
        };
        let classes: Map<String, Value> = self.catalogue.totals()?.iter().map(class).collect();
        let mut object = json!({
            "scan": self.scanned.number,
            "read": self.scanned.read,
            "unchanged": self.scanned.unchanged,
            "classes": classes,
            "version1": self.catalogue.count_version1()?,
            "on-disk": on_disk_object(self.catalogue.on_disk(None)?),
            "version1-on-disk": on_disk_object(self.catalogue.on_disk(Some("qcow"))?),
            "new-version1": self.catalogue.count_new_version1(self.scanned.known())?,
            "gone-version1": self.catalogue.count_gone_version1(self.scanned.number)?,
            "not-looked-into": self.catalogue.count_problems()?,
        });
        if let Some(traffic) = &self.scanned.traffic {
            object["traffic"] = traffic.clone();
        }
        Ok(object)
    }
}

fn on_disk_object(disk: OnDisk) -> Value {
    json!({ "bytes": disk.bytes, "shared": disk.shared, "reflink-copies": disk.copies })
}

fn trouble_object(trouble: &calve_fleet::Trouble) -> Value {
    let path = shown(&trouble.path);
    json!({ "filename": path, "what": trouble.what })
}
