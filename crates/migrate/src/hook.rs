//! Commands of the user's that run before and after an image is migrated.

use std::process::{Command, Stdio};

use calve_plan::Image;

use crate::error::{Error, Result};

/// Commands for a shell. They are told of the image by the variables `CALVE_IMAGE`,
/// `CALVE_STRATEGY`, `CALVE_FAMILY` and `CALVE_RUN`; one that does not end with 0 makes the family
/// what it was.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Before anything is done with the image.
    pub before: Option<String>,
    /// When all images of its family are migrated.
    pub after: Option<String>,
}

impl Hooks {
    pub(crate) fn before(&self, run: i64, image: &Image) -> Result<()> {
        call("before", self.before.as_deref(), run, image)
    }

    pub(crate) fn after(&self, run: i64, image: &Image) -> Result<()> {
        call("after", self.after.as_deref(), run, image)
    }
}

fn call(hook: &'static str, command: Option<&str>, run: i64, image: &Image) -> Result<()> {
    let Some(command) = command else { return Ok(()) };
    let path = &image.path.0;
    let failed = |what: String| Error::Hook { path: path.clone(), hook, what };
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("CALVE_IMAGE", path)
        .env("CALVE_STRATEGY", image.strategy.word())
        .env("CALVE_FAMILY", image.family.to_string())
        .env("CALVE_RUN", run.to_string())
        .stdin(Stdio::null())
        // What it says is no part of what this program prints.
        .stdout(Stdio::null())
        .status()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("ended with {status}"))),
    }
}
