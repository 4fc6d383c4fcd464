//! A finding as a line for people and as JSON for programs.

use calve_disk::Finding;
use serde_json::{Map, Value, json};

/// A finding as one line: weight, places, rule, and what to do. `count` says how many are alike.
pub(crate) fn line(count: u64, first: &Finding) -> String {
    let rule = first.rule;
    let times = if count > 1 { format!(", {count} times, first") } else { String::new() };
    format!("{}{times}: {first}; {}", rule.weight().word(), rule.next())
}

/// A finding as an object.
pub(crate) fn object(finding: &Finding) -> Map<String, Value> {
    let mut value = Map::new();
    let mut set = |key: &str, of: Value| value.insert(key.into(), of);
    set("rule", json!(finding.rule.number()));
    set("weight", json!(finding.rule.weight().word()));
    set("statement", json!(finding.rule.statement()));
    if let Some(at) = finding.at {
        set("host-offset", json!(at.get()));
    }
    if let Some(guest) = finding.guest {
        set("start", json!(guest.start.get()));
        set("length", json!(guest.length));
    }
    if let Some(found) = finding.value {
        set("value", json!(found));
    }
    if let Some(other) = finding.other {
        set("other-start", json!(other.get()));
    }
    set("next", json!(finding.rule.next()));
    value
}
