//! Arguments for QEMU, which are too free to be changed by a program.

use crate::Changes;

/// What an argument says of images that change: the rest of a sentence, where it says anything.
pub(crate) fn mention(argument: &str, changes: &Changes) -> Option<&'static str> {
    let mut names = changes.names().filter_map(|name| name.to_str());
    if names.any(|name| argument.contains(name)) {
        return Some("an image that changes");
    }
    ["format=qcow", "driver=qcow"]
        .into_iter()
        .any(|words| has_word(argument, words))
        .then_some("an image of version 1")
}

/// Whether the text has these words with nothing behind them that would make another one.
fn has_word(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let behind = text[at + words.len()..].chars().next();
        behind.is_none_or(|character| !character.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_told_from_version_2() {
        let mention = |text| mention(text, &Changes::new());
        assert!(mention("-drive file=x,format=qcow").is_some());
        assert!(mention("-drive format=qcow,file=x").is_some());
        assert!(mention("-blockdev driver=qcow").is_some());
        assert!(mention("-drive format=qcow2").is_none());
    }
}
