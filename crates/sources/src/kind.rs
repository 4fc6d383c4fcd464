//! What kind of text a file is, by its name: how lines go on, what is a comment, which settings
//! count.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A kind of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Written for people: only command lines count.
    Prose,
    /// Elements and attributes.
    Xml,
    /// JSON and HCL.
    Json,
    Yaml,
    Ruby,
    /// Scripts of Windows' command line.
    Batch,
    PowerShell,
    /// Languages with comments as C++ has them.
    Braces,
    /// Scripts, settings, and all else.
    Other,
}

/// Extensions that say that a file is made into one of the name before them.
const TEMPLATES: &[&[u8]] = &[
    b"j2",
    b"jinja",
    b"jinja2",
    b"erb",
    b"in",
    b"tmpl",
    b"tpl",
    b"template",
    b"dist",
    b"example",
    b"sample",
    b"orig",
    b"bak",
    b"old",
];

const PROSE: &[&[u8]] = &[
    b"md",
    b"markdown",
    b"rst",
    b"txt",
    b"adoc",
    b"asciidoc",
    b"tex",
    b"texi",
    b"html",
    b"htm",
    b"org",
    b"log",
    b"pod",
    b"po",
    b"csv",
    b"1",
    b"5",
    b"7",
    b"8",
];

const BRACES: &[&[u8]] = &[
    b"c", b"h", b"cc", b"cpp", b"hpp", b"cs", b"go", b"groovy", b"java", b"js", b"kt", b"php",
    b"rs", b"scala", b"swift", b"ts",
];

impl Kind {
    /// The kind of a file with this name.
    pub(crate) fn of(name: &OsStr) -> Self {
        let mut name = name.as_bytes().to_ascii_lowercase();
        loop {
            let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
            let Some(dot) = dot else { return Self::without_extension(&name) };
            let extension = &name[dot + 1..];
            if !TEMPLATES.contains(&extension) {
                return Self::of_extension(extension);
            }
            name.truncate(dot);
        }
    }

    fn without_extension(name: &[u8]) -> Self {
        match name {
            b"vagrantfile" | b"rakefile" | b"gemfile" => Self::Ruby,
            b"jenkinsfile" => Self::Braces,
            b"readme" | b"changelog" | b"changes" | b"news" | b"copying" | b"license"
            | b"authors" | b"todo" | b"install" => Self::Prose,
            _ => Self::Other,
        }
    }

    fn of_extension(extension: &[u8]) -> Self {
        match extension {
            b"xml" => Self::Xml,
            b"json" | b"hcl" | b"tf" | b"tfvars" => Self::Json,
            b"yml" | b"yaml" => Self::Yaml,
            b"rb" | b"gemspec" => Self::Ruby,
            b"bat" | b"cmd" => Self::Batch,
            b"ps1" | b"psm1" => Self::PowerShell,
            _ if PROSE.contains(&extension) => Self::Prose,
            _ if BRACES.contains(&extension) => Self::Braces,
            _ => Self::Other,
        }
    }

    /// The byte at the end of a line that says that the next one belongs to it.
    pub(crate) const fn continuation(self) -> u8 {
        match self {
            Self::Batch => b'^',
            Self::PowerShell => b'`',
            _ => b'\\',
        }
    }

    /// Whether a line is all comment.
    pub(crate) fn is_comment(self, line: &[u8]) -> bool {
        let line = line.trim_ascii_start();
        match self {
            Self::Prose | Self::Xml => false,
            Self::Batch => {
                line.starts_with(b"::")
                    || line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"rem "))
            }
            Self::Braces => line.starts_with(b"//"),
            Self::Json => line.starts_with(b"//") || line.starts_with(b"#"),
            Self::Yaml | Self::Ruby | Self::PowerShell => line.starts_with(b"#"),
            Self::Other => line.starts_with(b"#") || line.starts_with(b";"),
        }
    }

    /// Whether what follows a `#` between words is a comment.
    pub(crate) const fn has_hashes(self) -> bool {
        matches!(self, Self::Json | Self::Yaml | Self::Ruby | Self::PowerShell | Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_kind_of_a_text() {
        for (name, kind) in [
            ("README", Kind::Prose),
            ("README.md", Kind::Prose),
            ("vm.xml.j2", Kind::Xml),
            ("box.pkr.hcl", Kind::Json),
            ("Vagrantfile", Kind::Ruby),
            (".yml", Kind::Other),
            ("Makefile.in", Kind::Other),
            ("make.CMD", Kind::Batch),
            ("", Kind::Other),
            ("a.", Kind::Other),
        ] {
            assert_eq!(Kind::of(OsStr::new(name)), kind, "{name}");
        }
    }
}
