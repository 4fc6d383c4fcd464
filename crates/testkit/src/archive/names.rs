//! Names as people give them: some awkward, some the same in every folder, some that lie.

use std::collections::BTreeSet;

use super::truth::What;
use crate::random::Random;

const COMMON: [&str; 5] = ["base", "disk", "template", "system", "hda"];
const AWKWARD: [&str; 6] = ["old disk", "Büro-Server", "-dash", "it's", "a \"quote\"", "disk,1"];

/// A name without extension for an image of a family.
pub(super) fn stem(family: usize, random: &mut Random) -> String {
    match random.below(20) {
        0 => random.one_of(&AWKWARD).to_owned(),
        1..=4 => random.one_of(&COMMON).to_owned(),
        _ => format!("{}-{family:03}", random.one_of(&COMMON)),
    }
}

/// An extension, mostly that of the format.
pub(super) fn extension(what: &What, random: &mut Random) -> &'static str {
    let choices: &[&str] = match what {
        What::Version1(_) => match random.below(3) {
            0 => &[".img", ".img", ".qcow2", ".raw", ""],
            _ => &[".qcow"],
        },
        What::Qcow2 { .. } => &[".qcow2", ".qcow2", ".qcow2", ".qcow", ".img"],
        What::Raw | What::Other => &[".img", ".img", ".img", ".raw", ".raw", ".qcow"],
    };
    random.one_of(choices)
}

/// Paths that are taken.
#[derive(Default)]
pub(super) struct Taken(BTreeSet<String>);

impl Taken {
    /// A path in a folder that no other file has, and takes it.
    pub(super) fn place(&mut self, folder: &str, stem: &str, extension: &str) -> String {
        let numbers = std::iter::once(String::new()).chain((2..).map(|n| format!("-{n}")));
        let mut paths = numbers.map(|number| format!("{folder}/{stem}{number}{extension}"));
        let path = paths.find(|path| !self.0.contains(path)).expect("there are enough numbers");
        self.0.insert(path.clone());
        path
    }
}

/// The folder of a path, and its last part.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The last part of a path without its extension, and the extension with its dot.
pub(super) fn parts(path: &str) -> (&str, &str) {
    let name = split(path).1;
    name.rfind('.').map_or((name, ""), |dot| name.split_at(dot))
}

/// The name of a path as it is seen from a folder, both below the same one.
pub(super) fn relative(folder: &str, path: &str) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (folder.split('/').collect(), path.split('/').collect());
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n("..", from.len() - common);
    up.chain(to[common..].iter().copied()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn relative_names_lead_there() {
        assert_eq!(relative("a/b", "a/b/c"), "c");
        assert_eq!(relative("a/b", "a/d/c"), "../d/c");
        assert_eq!(relative("x/y", "a/c"), "../../a/c");
    }
}
