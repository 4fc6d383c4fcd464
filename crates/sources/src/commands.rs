//! Command lines: options of tools that make images or read them.

use crate::kind::Kind;
use crate::rule::Rule;
use crate::settings::{Key, assigned};
use crate::words::{Token, Word};

/// A tool, or an option of one that says enough by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    QemuImg,
    /// `qemu-nbd`, `qemu-io`.
    QemuReader,
    /// QEMU itself, or one of its options for drives.
    Qemu,
    VirtualBox,
    /// `virsh`, `virt-*`, `guest*`.
    Libvirt,
    Proxmox,
    Mkimg,
    OpenStack,
}

/// Verbs of `qemu-img` that look at images, or change them.
const VERBS: &[&[u8]] = &[
    b"amend",
    b"bench",
    b"bitmap",
    b"check",
    b"commit",
    b"compare",
    b"convert",
    b"create",
    b"dd",
    b"info",
    b"map",
    b"measure",
    b"rebase",
    b"resize",
    b"snapshot",
];

/// Words behind the tool among which its verb is.
const BEFORE_VERB: usize = 4;

/// Adds what command lines say: rules, and where in the line the words are.
pub(crate) fn find(tokens: &[Token<'_>], kind: Kind, found: &mut Vec<(Rule, usize)>) {
    let mut start = 0;
    while start < tokens.len() {
        let tool = tokens[start].word().and_then(|word| tool_of(&word));
        let Some(tool) = tool else {
            start += 1;
            continue;
        };
        let rest = &tokens[start + 1..];
        let length = rest.iter().position(|token| ends(tool, *token)).unwrap_or(rest.len());
        Scope::new(tool, &rest[..length], kind).find(found);
        start += 1 + length;
    }
    disk_formats(tokens, found);
    if kind != Kind::Prose {
        pairs(tokens, found);
    }
}

/// Whether a command ends before this token: the next one begins, or another tool has the word.
fn ends(tool: Tool, token: Token<'_>) -> bool {
    match token {
        Token::Mark(mark) => matches!(mark, b';' | b'|' | b'&'),
        Token::Word(word) => tool_of(&word).is_some_and(|other| other != tool),
    }
}

fn tool_of(word: &Word<'_>) -> Option<Tool> {
    match word.text {
        b"-drive" | b"--drive" | b"-blockdev" | b"--blockdev" => return Some(Tool::Qemu),
        b"--disk" => return Some(Tool::Libvirt),
        _ => {}
    }
    Some(match &*word.program() {
        b"qemu-img" | b"qemuimg" | b"kvm-img" => Tool::QemuImg,
        b"qemu-nbd" | b"qemu-io" => Tool::QemuReader,
        b"qemu" | b"kvm" | b"qemu-kvm" | b"qemu-storage-daemon" => Tool::Qemu,
        b"vboxmanage" => Tool::VirtualBox,
        b"virsh" | b"guestfish" | b"guestmount" => Tool::Libvirt,
        b"qm" | b"pct" | b"pvesm" | b"pvesh" => Tool::Proxmox,
        b"mkimg" => Tool::Mkimg,
        b"openstack" | b"glance" => Tool::OpenStack,
        name if name.starts_with(b"qemu-system-") => Tool::Qemu,
        name if name.starts_with(b"virt-") => Tool::Libvirt,
        _ => return None,
    })
}

/// The words of one command behind its tool.
struct Scope<'a> {
    tool: Tool,
    tokens: &'a [Token<'a>],
    /// The verb of `qemu-img`, where it is one.
    verb: &'a [u8],
    kind: Kind,
}

impl<'a> Scope<'a> {
    fn new(tool: Tool, tokens: &'a [Token<'a>], kind: Kind) -> Self {
        let words = tokens.iter().take(BEFORE_VERB).filter_map(|token| token.word());
        let verb = words.map(|word| word.text).find(|word| VERBS.contains(word));
        Self { tool, tokens, verb: verb.unwrap_or_default(), kind }
    }

    fn find(&self, found: &mut Vec<(Rule, usize)>) {
        let before = found.len();
        for (number, token) in self.tokens.iter().enumerate() {
            let Some(word) = token.word() else { continue };
            let rest = &self.tokens[number + 1..];
            let value = self.option(&word).map(|rule| (rule, value_of(rest)));
            if let Some((rule, Some(value))) = value {
                found.push((rule, value.at));
            } else if let Some((rule, at)) = self.glued(&word) {
                found.push((rule, at));
            } else if let Some((rule, value)) = self.setting(&word, rest) {
                found.push((rule, value.at));
            }
        }
        if found.len() == before && !self.is_talk() {
            let words = self.tokens.iter().filter_map(|token| token.word());
            found.extend(words.filter(Word::is_qcow_file).map(|word| (Rule::Name, word.at)));
        }
    }

    /// Whether it may be a sentence that speaks of the tool, and no command.
    fn is_talk(&self) -> bool {
        self.kind == Kind::Prose && self.tool == Tool::QemuImg && self.verb.is_empty()
    }

    /// What it means that version 1 is the value of this option; none where that is no option for
    /// formats.
    fn option(&self, word: &Word<'_>) -> Option<Rule> {
        let long = word.text.strip_prefix(b"--");
        match self.tool {
            Tool::QemuImg if self.is_talk() => None,
            Tool::QemuImg => self.option_of_qemu_img(word.text),
            Tool::QemuReader => (is_letter(word.text, b'f') || long == Some(b"format"))
                .then_some(Rule::QemuToolReads),
            Tool::Qemu | Tool::OpenStack => None,
            Tool::VirtualBox => {
                let is_format = matches!(word.text, b"--format" | b"-format");
                is_format.then_some(Rule::VirtualBox)
            }
            Tool::Libvirt => {
                let is_format = long
                    .is_some_and(|long| long.ends_with(b"format") || long == b"convert")
                    || matches!(word.text, b"-of" | b"-F");
                let is_base = long.is_some_and(|long| long.starts_with(b"backing"));
                is_format.then_some(if is_base { Rule::Base } else { Rule::LibvirtTool })
            }
            Tool::Proxmox => matches!(word.text, b"--format" | b"-format").then_some(Rule::Proxmox),
            Tool::Mkimg => {
                (is_letter(word.text, b'f') || long == Some(b"format")).then_some(Rule::Mkimg)
            }
        }
    }

    fn option_of_qemu_img(&self, text: &[u8]) -> Option<Rule> {
        let compares = self.verb == b"compare";
        match text {
            b"--format" => Some(self.of_input()),
            b"--output-format" | b"--target-format" => Some(self.of_output()),
            b"--a-format" | b"--b-format" => Some(Rule::QemuToolReads),
            b"--backing-format" => Some(Rule::Base),
            _ if is_letter(text, b'f') => Some(self.of_input()),
            _ if is_letter(text, b'O') => Some(self.of_output()),
            _ if is_letter(text, b'F') && compares => Some(Rule::QemuToolReads),
            _ if is_letter(text, b'F') => Some(Rule::Base),
            _ => None,
        }
    }

    const fn of_input(&self) -> Rule {
        match self.verb {
            b"create" => Rule::QemuImgMakes,
            _ => Rule::QemuToolReads,
        }
    }

    const fn of_output(&self) -> Rule {
        match self.verb {
            b"measure" => Rule::QemuToolReads,
            _ => Rule::QemuImgMakes,
        }
    }

    /// An option and its value in one word: `-fqcow`.
    fn glued(&self, word: &Word<'_>) -> Option<(Rule, usize)> {
        let [b'-', letter, value @ ..] = word.text else { return None };
        if !value.eq_ignore_ascii_case(b"qcow") {
            return None;
        }
        let option = [b'-', *letter];
        let rule = self.option(&Word { text: &option, ..*word })?;
        Some((rule, word.at + 2))
    }

    /// A part of an option: `format=qcow`.
    fn setting<'t>(&self, word: &Word<'_>, rest: &[Token<'t>]) -> Option<(Rule, Word<'t>)> {
        let key = Key::of(word.text)?;
        let value = assigned(rest)?;
        let is_part = value.is_glued || (value.is_quoted && word.is_quoted);
        if !value.word.is_qcow() || !is_part || self.is_talk() {
            return None;
        }
        // Elsewhere a colon is for settings in a file, which are looked at there.
        if value.has_colon && !(self.tool == Tool::Qemu && key == Key::Driver) {
            return None;
        }
        let rule = match (key, self.tool) {
            (Key::Backing, _) => Rule::Base,
            (Key::Type, tool) if tool != Tool::Libvirt => return None,
            (_, Tool::QemuImg | Tool::QemuReader) => Rule::QemuToolReads,
            (_, Tool::Qemu) => Rule::QemuDrive,
            (Key::Driver, _) => return None,
            (_, Tool::VirtualBox) => Rule::VirtualBox,
            (_, Tool::Libvirt) => Rule::LibvirtTool,
            (_, Tool::Proxmox) => Rule::Proxmox,
            (_, Tool::Mkimg) => Rule::Mkimg,
            (_, Tool::OpenStack) => Rule::OpenStack,
        };
        Some((rule, value.word))
    }
}

/// Whether a word is this option alone, or the last of several in one word: `-pO`.
fn is_letter(text: &[u8], letter: u8) -> bool {
    let [b'-', letters @ ..] = text else { return false };
    letters.last() == Some(&letter)
        && letters.len() <= 4
        && letters.iter().all(u8::is_ascii_alphabetic)
}

/// The value of an option where that is version 1: the next word, whether `=`, a comma of a list or
/// nothing stands between.
fn value_of<'a>(rest: &[Token<'a>]) -> Option<Word<'a>> {
    let value = match rest {
        [Token::Word(word), ..] | [Token::Mark(b'=' | b','), Token::Word(word), ..] => *word,
        _ => return None,
    };
    value.is_qcow().then_some(value)
}

/// The option that only OpenStack's tools have, whoever calls them.
fn disk_formats(tokens: &[Token<'_>], found: &mut Vec<(Rule, usize)>) {
    for (number, token) in tokens.iter().enumerate() {
        let is_option =
            token.word().is_some_and(|it| matches!(it.text, b"--disk-format" | b"--disk_format"));
        if let Some(value) = value_of(&tokens[number + 1..]).filter(|_| is_option) {
            found.push((Rule::OpenStack, value.at));
        }
    }
}

/// An option and its value as neighbours in a list of strings, where the tool stands elsewhere:
/// `"-f", "qcow"`.
fn pairs(tokens: &[Token<'_>], found: &mut Vec<(Rule, usize)>) {
    let mut makes = false;
    for window in tokens.windows(3) {
        makes |= window[0].word().is_some_and(|word| word.is_quoted && word.text == b"create");
        let [Token::Word(option), Token::Mark(b','), Token::Word(value)] = window else { continue };
        if !(option.is_quoted && value.is_quoted && value.is_qcow()) {
            continue;
        }
        let rule = match option.text {
            b"-O" => Rule::QemuImgMakes,
            b"-F" | b"--backing-format" => Rule::Base,
            b"-f" if makes => Rule::QemuImgMakes,
            b"-f" => Rule::QemuToolReads,
            _ => continue,
        };
        found.push((rule, value.at));
    }
}
