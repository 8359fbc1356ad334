//! One rule, ready to be held against files.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use super::check::{person, root};
use super::media::MediaPattern;
use super::{Item, Maker, Verdict};
use crate::limits::RULE_TOKENS_MAX;
use crate::transfer::name::SafeName;
use crate::transfer::search::Pattern;
use crate::wire::name::FullName;
use crate::wire::sharing::{Limits, Rule};
use crate::wire::text::harmless;

/// A rule whose patterns were read. One that cannot be read allows nothing: its maker wanted something, and it is not known what.
#[derive(Debug)]
pub struct Compiled {
    maker: Maker,
    rule: Rule,
    read: Option<Read>,
}

#[derive(Debug)]
struct Read {
    deny_names: Vec<Pattern>,
    allow_names: Vec<Pattern>,
    deny_types: Vec<MediaPattern>,
    allow_types: Vec<MediaPattern>,
    deny_roots: BTreeSet<[u8; 32]>,
    only: Vec<FullName>,
}

impl Compiled {
    /// Reads one rule.
    pub fn new(maker: Maker, rule: Rule) -> Self {
        let mut room = RULE_TOKENS_MAX;
        Self::within(&mut room, maker, rule)
    }

    /// Reads all rules of a server or a room. Those whose patterns would take too much memory together with the ones before are as
    /// those that cannot be read.
    pub fn all(maker: &Maker, rules: impl IntoIterator<Item = Rule>) -> Vec<Arc<Self>> {
        let mut room = RULE_TOKENS_MAX;
        rules.into_iter().map(|rule| Arc::new(Self::within(&mut room, maker.clone(), rule))).collect()
    }

    fn within(room: &mut usize, maker: Maker, rule: Rule) -> Self {
        let read = Read::new(&rule.limits, room);
        Self { maker, rule, read }
    }

    /// As it was made.
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Whose it is.
    pub const fn maker(&self) -> &Maker {
        &self.maker
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.rule.limits
    }

    pub(super) fn asks_type(&self) -> bool {
        let limits = self.limits();
        !limits.deny_types.is_empty() || !limits.allow_types.is_empty()
    }

    /// Whether somebody may share at all.
    pub(super) fn sharer(&self, sharer: Option<&FullName>) -> Result<(), Verdict> {
        let Some(read) = &self.read else {
            return Err(self.no("this program does not understand the rule, so nothing is shared"));
        };
        if self.limits().off {
            return Err(self.no("nothing is shared"));
        }
        if !read.only.is_empty() && !sharer.is_some_and(|sharer| read.only.contains(sharer)) {
            let who = sharer.map_or_else(|| "somebody unknown".to_owned(), ToString::to_string);
            return Err(self.no(format!("{who} is not among those who may share")));
        }
        Ok(())
    }

    /// Whether what is known of a file fits.
    pub(super) fn item(&self, item: &Item<'_>) -> Result<(), Verdict> {
        let Some(read) = &self.read else { return self.sharer(None) };
        self.name(read, item)?;
        if let (Some(size), Some(max)) = (item.size, self.limits().max_size)
            && size > max
        {
            return Err(self.no(format!("{} has {size} bytes, and at most {max} are shared", item.name)));
        }
        if item.root.is_some_and(|root| read.deny_roots.contains(root)) {
            return Err(self.no(format!("the content of {} is not shared, whatever its name", item.name)));
        }
        Ok(())
    }

    /// A denied name may stand anywhere in a path; allowed names are those of files.
    fn name(&self, read: &Read, item: &Item<'_>) -> Result<(), Verdict> {
        if read.deny_names.is_empty() && read.allow_names.is_empty() {
            return Ok(());
        }
        for part in item.name.split('/') {
            let forms = forms(part);
            let denied = read.deny_names.iter().position(|glob| forms.iter().any(|form| glob.matches(form)));
            if let Some(at) = denied {
                let glob = self.limits().deny_names.get(at).map_or("", String::as_str);
                return Err(self.no(format!("{part}: names like {glob} are not shared")));
            }
        }
        let base = item.name.rsplit('/').next().unwrap_or(item.name);
        let fits = |form: &String| read.allow_names.iter().any(|glob| glob.matches(form));
        if !item.folder && !read.allow_names.is_empty() && !forms(base).iter().all(fits) {
            return Err(self.no(format!("{base}: only names like {} are shared", listed(&self.limits().allow_names))));
        }
        Ok(())
    }

    pub(super) fn media(&self, name: &str, media: &str) -> Result<(), Verdict> {
        let Some(read) = &self.read else { return self.sharer(None) };
        if read.deny_types.iter().any(|pattern| pattern.matches(media)) {
            return Err(self.no(format!("{name} is {media} by its content, and that is not shared")));
        }
        if !read.allow_types.is_empty() && !read.allow_types.iter().any(|pattern| pattern.matches(media)) {
            let allowed = listed(&self.limits().allow_types);
            return Err(self.no(format!("{name} is {media} by its content, and only {allowed} is shared")));
        }
        Ok(())
    }

    pub(super) fn unseen(&self, name: &str) -> Verdict {
        self.no(format!("the beginning of {name} is not here, so nobody knows what it is"))
    }

    /// Whether so many files and bytes in a day, and so many transfers at once, are all right.
    pub(super) fn amount(&self, files: u64, bytes: u64, at_once: u32) -> Result<(), Verdict> {
        let limits = self.limits();
        if let Some(max) = limits.at_once.filter(|max| at_once > *max) {
            return Err(self.no(format!("one person sends at most {max} at once")));
        }
        if let Some(max) = limits.files_a_day.filter(|max| files > *max) {
            return Err(self.no(format!("one person sends at most {max} files a day, and this would be {files}")));
        }
        if let Some(max) = limits.bytes_a_day.filter(|max| bytes > *max) {
            return Err(self.no(format!("one person sends at most {max} bytes a day, and this would be {bytes}")));
        }
        Ok(())
    }

    fn no(&self, why: impl Into<String>) -> Verdict {
        let Rule { id, reason, .. } = &self.rule;
        Verdict { rule: *id, maker: self.maker.clone(), why: why.into(), reason: reason.clone() }
    }
}

impl Read {
    fn new(limits: &Limits, room: &mut usize) -> Option<Self> {
        let mut glob = |text: &String| {
            let pattern = Pattern::parse(text).ok()?;
            *room = room.checked_sub(pattern.tokens())?;
            Some(pattern)
        };
        let mut globs = |list: &[String]| list.iter().map(&mut glob).collect::<Option<Vec<_>>>();
        let types = |list: &[String]| list.iter().map(|text| MediaPattern::parse(text)).collect::<Option<Vec<_>>>();
        Some(Self {
            deny_names: globs(&limits.deny_names)?,
            allow_names: globs(&limits.allow_names)?,
            deny_types: types(&limits.deny_types)?,
            allow_types: types(&limits.allow_types)?,
            deny_roots: limits.deny_roots.iter().map(|text| root(text)).collect::<Option<_>>()?,
            only: limits.only.iter().map(|text| person(text)).collect::<Option<_>>()?,
        })
    }
}

/// A name as it came, as it would be written to a disk here, without the end that some systems drop, and as it looks.
fn forms(name: &str) -> Vec<String> {
    let safe = SafeName::new(name).map(|safe| safe.as_str().to_owned()).unwrap_or_default();
    let bare = name.trim_end_matches(['.', ' ']).to_owned();
    let looks = name.chars().filter(|c| harmless(*c)).collect();
    let mut forms = vec![name.to_owned()];
    forms.extend([safe, bare, looks].into_iter().filter(|form| !form.is_empty() && form != name));
    forms
}

/// The first of a list.
fn listed(list: &[impl Display]) -> String {
    let first: Vec<String> = list.iter().take(LISTED).map(ToString::to_string).collect();
    let more = if list.len() > LISTED { " …" } else { "" };
    format!("{}{more}", first.join(", "))
}

/// What is named of a list in a refusal.
const LISTED: usize = 6;
