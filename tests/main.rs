//! The built program, tried as somebody would use it. One program of tests: linking one takes as
//! long as linking each of many.

mod common;

mod buckets;
mod check;
mod command_line;
mod configurations;
mod damage;
mod differential;
mod documents;
mod evidence;
mod examine;
mod full;
mod hooks;
mod hostile;
mod instructions;
mod interrupted;
mod live;
mod memory;
mod migrate;
mod moves;
mod plan;
mod read_only;
mod repair;
mod report;
mod rescue;
mod room;
mod scan;
mod scan_deep;
mod shared_blocks;
mod sources;
mod store;
mod target;
mod traces;
mod untrusted;
mod upgrade;
mod work;
