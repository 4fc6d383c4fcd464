//! Descriptors: what was open when the process began.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;

/// What the process that started this one left open, beside the three standard streams.
#[derive(Debug)]
pub struct Inherited(Vec<RawFd>);

/// The standard streams have smaller numbers.
const FIRST: RawFd = 3;

impl Inherited {
    /// Looks at what is open. Called first of all, before the process opens anything itself:
    /// everything that is open now belongs to nobody.
    ///
    /// # Errors
    /// Where the host does not tell.
    pub fn look() -> io::Result<Self> {
        let entries = std::fs::read_dir("/proc/self/fd")?;
        let numbers =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<RawFd> = numbers.filter(|number| *number >= FIRST).collect();
        // The folder just read is among them and closed by now: its number is anybody's.
        numbers.retain(|number| Path::new(&format!("/proc/self/fd/{number}")).read_link().is_ok());
        Ok(Self(numbers))
    }

    /// Closes all of it. Nothing that was looked at may have been closed, or taken over, since.
    pub fn close(self) {
        for number in self.0 {
            // The only failure is that it is closed already.
            let _ = nix::unistd::close(number);
        }
    }
}
