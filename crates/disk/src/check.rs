//! Check: everything that can be told of one image of a disk, payloads included where asked.

mod deep;

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use crate::disk::Disk;
use crate::error::Result;
use crate::finding::{Finding, Rule};
use crate::formats::qcow1::Dialect;
use crate::image::{Specific, Survey};
use crate::units::HostOffset;

/// How an image is to be checked.
pub struct CheckOptions<'a> {
    /// Whether every payload is read and unpacked, not only the first few plain ones looked at.
    pub is_deep: bool,
    /// Threads that read payloads.
    pub threads: NonZeroUsize,
    /// Becomes true when the check is to stop.
    pub stop: &'a AtomicBool,
    /// Told of guest bytes read and of those to read, from any thread.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// What a check looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Checked {
    /// What the tables say.
    pub survey: Survey,
    /// Packed clusters that were unpacked.
    pub unpacked: u64,
    /// Plain clusters that were looked into.
    pub probed: u64,
    /// Whether `stop` ended it.
    pub is_stopped: bool,
}

/// Where the time of the base stands in the header.
const MTIME_AT: u64 = 20;

impl Disk {
    /// Checks layer number `layer` alone, and compares it with the next one where that is open:
    /// walks all tables, compares who claims which bytes of the file, and reads payloads.
    ///
    /// # Errors
    /// Only where the host fails: what the file got wrong is told to `report`.
    pub fn check(
        &self,
        layer: usize,
        options: &CheckOptions,
        report: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<Checked> {
        let survey = self.layers()[layer].image.survey(report)?;
        self.compare_with_base(layer, report)?;
        let mut checked = Checked { survey, ..Checked::default() };
        deep::run(self, layer, options, &mut checked, report)?;
        Ok(checked)
    }

    /// What an overlay recorded of its base, beside what the base is.
    fn compare_with_base(&self, layer: usize, report: &mut dyn FnMut(Finding)) -> Result<()> {
        let Some(base) = self.layers().get(layer + 1) else { return Ok(()) };
        let facts = self.layers()[layer].image.facts();
        let Specific::Qcow1(qcow1) = &facts.specific else { return Ok(()) };
        let base_size = base.image.facts().virtual_size;
        // Xen's tapdisk refuses another size; QEMU takes the base's when it makes an overlay.
        if base_size != facts.virtual_size {
            let finding = Finding::new(Rule::BaseSize).at(HostOffset::new(24));
            report(finding.value(base_size));
        }
        let recorded = i64::from(qcow1.mtime);
        let records_a_time = qcow1.dialect != Dialect::Qemu || qcow1.producer.contains("0.6.1");
        if let Some(modified) = base.modified()
            && recorded != 0
            && records_a_time
            && modified != recorded
        {
            let finding = Finding::new(Rule::BaseChanged).at(HostOffset::new(MTIME_AT));
            report(finding.value(u64::try_from(modified).unwrap_or_default()));
        }
        Ok(())
    }
}
