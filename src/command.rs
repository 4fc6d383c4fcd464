//! The verbs. Each reads its words, calls a library and prints what came of it.

pub(crate) mod carve;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod create;
pub(crate) mod info;
pub(crate) mod layout;
pub(crate) mod map;
pub(crate) mod merge_reports;
pub(crate) mod migrate;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod rescue;
pub(crate) mod scan;
pub(crate) mod sources;
pub(crate) mod target;
pub(crate) mod timeline;
pub(crate) mod upgrade;
pub(crate) mod work;
