//! Sizes as `qemu-img` understands them: `64k`, `1.5G`, `0x200`, `512b`.

use crate::exit::Failure;

/// The number of bytes that `text` names.
pub(crate) fn parse(what: &str, text: &str) -> Result<u64, Failure> {
    bytes(text).ok_or_else(|| {
        Failure::usage(format!("{what}: '{text}' is no size"))
            .next("write a number, with k, M, G, T, P or E for powers of 1024")
    })
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let shift = match suffix {
        "" | "b" | "B" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
        _ => return None,
    };
    let unit = 1u64 << shift;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    whole.checked_add(part_of(unit, fraction)?)
}

/// A decimal fraction of a unit, rounded down; a fraction of a byte is none.
fn part_of(unit: u64, fraction: &str) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let digits = fraction.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    if unit == 1 || digits.len() > 18 {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
    let part = u128::from(unit) * u128::from(digits.parse::<u64>().ok()?) / scale;
    u64::try_from(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("512b", Some(512)),
            ("64k", Some(64 << 10)),
            ("1.5G", Some(3 << 29)),
            ("0x200", Some(512)),
            ("15E", Some(15 << 60)),
            ("16E", None),
            ("1.5", None),
            ("1.50k", Some(1536)),
            ("", None),
            ("-1", None),
            ("1kk", None),
            ("1.2.3k", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
