//! Settings: a name that speaks of a format, and version 1 as its value.

use crate::kind::Kind;
use crate::limits;
use crate::rule::Rule;
use crate::words::{Token, Word};

/// What the name of a setting speaks of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The format of an image.
    Format,
    /// The format of a base.
    Backing,
    /// The format as QEMU's block drivers have it.
    Driver,
    /// A kind of something, perhaps of a disk.
    Type,
}

impl Key {
    /// What a name speaks of, if it is one of these.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        // What stands for a value is compared, and not set.
        if name.starts_with(b"$") {
            return None;
        }
        let name = name.to_ascii_lowercase();
        let last = name.rsplit(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
        let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
        let is_format = last.ends_with(b"format") || last.ends_with(b"fmt");
        let is_of_disk =
            ["disk", "image", "img", "volume", "vol"].map(str::as_bytes).iter().any(|it| has(it));
        Some(match last {
            _ if is_format && (has(b"backing") || has(b"base")) => Self::Backing,
            _ if is_format => Self::Format,
            b"driver" if has(b"backing") => Self::Backing,
            b"driver" => Self::Driver,
            b"type" if is_of_disk => Self::Format,
            b"type" => Self::Type,
            _ => return None,
        })
    }
}

/// What a name is set to.
#[derive(Clone, Copy)]
pub(crate) struct Assigned<'a> {
    pub(crate) word: Word<'a>,
    /// Whether it stands in quotes.
    pub(crate) is_quoted: bool,
    /// Whether no blank stands before it.
    pub(crate) is_glued: bool,
    /// Whether a colon alone sets it.
    pub(crate) has_colon: bool,
}

/// The value that follows a name, behind one of `=`, `:`, `:=`, `=>`, `?=` and their kind.
pub(crate) fn assigned<'a>(rest: &[Token<'a>]) -> Option<Assigned<'a>> {
    use Token::{Mark, Word as W};
    let (word, has_colon) = match rest {
        [Mark(b':'), W(word), ..] => (*word, true),
        [Mark(b'='), W(word), ..]
        | [Mark(b'='), Mark(b'>'), W(word), ..]
        | [Mark(b':'), Mark(b'='), W(word), ..] => (*word, false),
        _ => return None,
    };
    Some(Assigned { word, is_quoted: word.is_quoted, is_glued: !word.is_apart, has_colon })
}

/// Adds what settings say: rules, and where in the line the words are.
pub(crate) fn find(tokens: &[Token<'_>], kind: Kind, found: &mut Vec<(Rule, usize)>) {
    elements(tokens, found);
    if kind == Kind::Prose {
        return;
    }
    let is_disk_of_proxmox = is_disk_of_proxmox(tokens);
    for (number, token) in tokens.iter().enumerate() {
        let Some(name) = token.word() else { continue };
        let rest = &tokens[number + 1..];
        if let (b"tap" | b"tap2", [Token::Mark(b':'), Token::Word(word), Token::Mark(b':'), ..]) =
            (name.text, rest)
            && word.is_qcow()
        {
            found.push((Rule::Xen, word.at));
        }
        let Some(key) = Key::of(name.text) else { continue };
        if let Some(at) = default(rest) {
            found.push((Rule::Setting, at));
        }
        let Some(value) = assigned(rest).filter(|value| value.word.is_qcow()) else { continue };
        let is_first = is_first(&tokens[..number]);
        if is_compared(&tokens[..number], name, value) || !is_setting(kind, is_first, name, value) {
            continue;
        }
        let is_of_openstack = matches!(name.text, b"disk_format" | b"disk-format");
        let rule = match key {
            Key::Backing => Rule::Base,
            Key::Driver => continue,
            Key::Type if kind != Kind::Ruby => continue,
            _ if is_disk_of_proxmox => Rule::Proxmox,
            _ if kind == Kind::Ruby => Rule::Vagrant,
            _ if is_of_openstack => Rule::OpenStack,
            _ if kind == Kind::Json => Rule::Packer,
            _ if kind == Kind::Yaml => Rule::Yaml,
            _ => Rule::Setting,
        };
        found.push((rule, value.word.at));
    }
    if is_disk_of_proxmox && found.is_empty() {
        let words = tokens.iter().filter_map(|token| token.word());
        found.extend(words.filter(Word::is_qcow_file).map(|word| (Rule::Name, word.at)));
    }
}

/// Whether nothing, or only the mark of a list's entry or of a map, stands before a name.
fn is_first(before: &[Token<'_>]) -> bool {
    match before {
        [] | [.., Token::Mark(b'{' | b',')] => true,
        [Token::Word(word)] => {
            matches!(
                word.text,
                b"-" | b"export" | b"local" | b"readonly" | b"set" | b"ENV" | b"ARG"
            )
        }
        _ => false,
    }
}

/// Whether a name and its value are meant as a setting: what is written as a setting is in this
/// kind of text, or has quotes, and no sentence.
fn is_setting(kind: Kind, is_first: bool, name: Word<'_>, value: Assigned<'_>) -> bool {
    if value.has_colon {
        let is_quoted = value.is_quoted && (name.is_quoted || kind != Kind::Yaml || is_first);
        return is_quoted || (is_first && kind == Kind::Yaml);
    }
    value.is_quoted || value.is_glued || is_first
}

/// Words of SQL and of other languages behind which a name is compared and not set.
const BEFORE_COMPARED: &[&[u8]] =
    &[b"where", b"and", b"or", b"on", b"not", b"when", b"if", b"case"];

/// Whether it is compared, and not set: `[ format = qcow ]` in a shell, `WHERE format = 'qcow'`.
fn is_compared(before: &[Token<'_>], name: Word<'_>, value: Assigned<'_>) -> bool {
    let tests = [Token::Mark(b'['), Token::Mark(b'[')];
    let is_test = before.ends_with(&tests[..1]) || before.ends_with(&tests);
    let last = before.last().and_then(|token| token.word());
    let is_condition =
        last.is_some_and(|word| BEFORE_COMPARED.contains(&&*word.text.to_ascii_lowercase()));
    (is_test || is_condition) && name.is_apart && !value.is_glued
}

/// Where version 1 is what the shell takes for a variable that is not set: `${FORMAT:-qcow}`.
fn default(rest: &[Token<'_>]) -> Option<usize> {
    match rest {
        [Token::Mark(b':'), Token::Word(word), Token::Mark(b'}'), ..] => {
            let value = word.text.strip_prefix(b"-")?;
            value.eq_ignore_ascii_case(b"qcow").then_some(word.at + 1)
        }
        _ => None,
    }
}

/// Whether a line is a disk of a machine of Proxmox: `scsi0: store:100/disk.qcow,size=8G`.
fn is_disk_of_proxmox(tokens: &[Token<'_>]) -> bool {
    let [Token::Word(name), Token::Mark(b':'), Token::Word(_), Token::Mark(b':'), ..] = tokens
    else {
        return false;
    };
    let digits = name.text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (bus, number) = name.text.split_at(name.text.len() - digits);
    !number.is_empty()
        && matches!(bus, b"ide" | b"sata" | b"scsi" | b"virtio" | b"efidisk" | b"unused" | b"mp")
}

/// Elements of libvirt's definitions that stand in one line, also in other texts.
fn elements(tokens: &[Token<'_>], found: &mut Vec<(Rule, usize)>) {
    for (number, window) in tokens.windows(2).enumerate() {
        let [Token::Mark(b'<'), Token::Word(name)] = window else { continue };
        let rule = match name.text {
            b"driver" => Rule::LibvirtDriver,
            b"format" => Rule::LibvirtFormat,
            _ => continue,
        };
        let inside = tokens[number + 2..].iter().take(limits::ELEMENT);
        let inside: Vec<_> =
            inside.take_while(|token| **token != Token::Mark(b'>')).copied().collect();
        let types = inside
            .iter()
            .enumerate()
            .filter(|(_, token)| token.word().is_some_and(|word| word.text == b"type"));
        let values = types.filter_map(|(at, _)| assigned(&inside[at + 1..]));
        let values = values.filter(|value| value.is_quoted && value.word.is_qcow());
        found.extend(values.map(|value| (rule, value.word.at)));
    }
}
