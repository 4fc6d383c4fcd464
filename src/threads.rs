//! How many threads read and write at the same time.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::exit::Failure;
use crate::store;

/// Threads beyond this bring nothing but memory.
const MOST: NonZeroUsize = NonZeroUsize::new(8).expect("no zero");

/// The threads of `-m`, or one for each processor up to a bound. Where one of the images is an
/// object it is that bound: threads wait for its store, and not for a processor.
pub(crate) fn of<'a>(
    asked: Option<&str>,
    images: impl IntoIterator<Item = &'a Path>,
) -> Result<NonZeroUsize, Failure> {
    let Some(asked) = asked else {
        if images.into_iter().any(store::is_object) {
            return Ok(MOST);
        }
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        return Ok(NonZeroUsize::new(processors).unwrap_or(NonZeroUsize::MIN).min(MOST));
    };
    match asked.parse::<NonZeroUsize>() {
        Ok(count) if count.get() <= 16 => Ok(count),
        _ => Err(Failure::usage(format!("-m: '{asked}' is not a number from 1 to 16"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_asked_for_more_than_there_are_processors() {
        let of = |asked, name| of(asked, [Path::new(name)]).ok().map(NonZeroUsize::get);
        assert_eq!(of(None, "s3://bucket/old.qcow"), Some(8));
        assert_eq!(of(Some("2"), "s3://bucket/old.qcow"), Some(2));
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        assert_eq!(of(None, "./s3:/bucket/old.qcow"), Some(processors.min(8)));
        assert_eq!(of(Some("17"), "old.qcow"), None);
    }
}
