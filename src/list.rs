//! Lists of `key=value` separated by commas, as `-o`, `--image-opts` and `--object` take them.

use crate::exit::Failure;

/// The pairs of a list. A comma within a value is doubled; a key without a value is `on`.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut items = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_doubled = character == ',' && characters.next_if_eq(&',').is_some();
        if character == ',' && !is_doubled {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(character);
        }
    }
    let pair = |item: String| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (item, "on".to_owned()),
    };
    items.into_iter().filter(|item| !item.is_empty()).map(pair).collect()
}

/// Whether a value says yes.
pub(crate) fn is_on(key: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(Failure::usage(format!("{key}: '{value}' is neither on nor off"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_comma_is_part_of_a_value() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            pairs("a=1,b=x,,y,flag,c=u=v"),
            [pair("a", "1"), pair("b", "x,y"), pair("flag", "on"), pair("c", "u=v")]
        );
        assert_eq!(pairs(""), []);
    }
}
