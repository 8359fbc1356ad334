//! Reads the repository's files, and Rust code without its comments and literals.

use std::fs;
use std::path::Path;

/// One Rust file.
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// The same lines with comments and literals blanked out.
    pub code: String,
}

/// Every Rust file under a folder, in order of its path.
pub fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(Path::new(folder), &mut paths);
    let rust = paths.into_iter().filter(|p| p.ends_with(".rs"));
    rust.map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let code = blank(&text);
        Source { path, text, code }
    })
    .collect()
}

/// Every text file of the repository but for this test's own and the lock files.
pub fn texts() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(Path::new("."), &mut paths);
    paths.retain(|p| !p.starts_with("tests/tidy/") && !p.ends_with(".lock"));
    paths.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?))).collect()
}

impl Source {
    /// The room that the file belongs to; none for `lib.rs` and `main.rs`.
    pub fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let room = below.split('/').next()?.trim_end_matches(".rs");
        (room != "lib" && room != "main").then_some(room)
    }

    /// Whether the whole file is the test code of a room.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("src/") && (self.path.ends_with("/tests.rs") || self.path.contains("/tests/"))
    }

    /// Whether the file is test code that another file has said the purpose of.
    pub fn is_part_of_test(&self) -> bool {
        let below = self.path.strip_prefix("tests/");
        self.is_test() || below.is_some_and(|path| path.contains('/') && !path.ends_with("/main.rs"))
    }

    /// The code up to its test module, which stands last.
    pub fn code_without_tests(&self) -> String {
        let tests = self.code.find("#[cfg(test)]\nmod tests {");
        self.code.chars().take(tests.map_or(usize::MAX, |at| self.code[..at].chars().count())).collect()
    }

    /// The rooms that the code reaches, with line numbers: through `crate::`, or through `super` up to the root.
    pub fn rooms_named(&self) -> Vec<(usize, String)> {
        let mut named = named_after(&self.code, "crate::");
        let inner = self.path.trim_start_matches("src/").trim_end_matches("/mod.rs").trim_end_matches(".rs");
        let depth = inner.split('/').count();
        let up = "super::".repeat(depth);
        let rooms = named_after(&self.code, &up);
        named.extend(rooms.into_iter().filter(|(_, room)| room != "super" && super::floor(room).is_some()));
        named
    }
}

/// First path segments that follow a prefix, with line numbers; both of `std::fs` and `std::{fs, io}`.
pub fn named_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = code[at + prefix.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(segments(group).into_iter().map(|s| (line, s))),
            None => found.push((line, ident(rest))),
        }
    }
    found
}

/// Lines that hold a word as a whole identifier.
pub fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str| line.split(|c| !part(c)).any(|w| w == word);
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(number, _)| number + 1).collect()
}

/// First segments of the items of a use group, up to its closing brace.
fn segments(group: &str) -> Vec<String> {
    let (mut depth, mut found, mut fresh) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                found.push(ident(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    found
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shown = path.to_string_lossy().trim_start_matches("./").to_owned();
        if ["target", ".git", "artifacts", "corpus", "proptest-regressions"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() { walk(&path, found) } else { found.push(shown) }
    }
}

/// Blanks comments and literals; line breaks stay, so that lines keep their numbers.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that begins here ends; `at` itself if none begins.
fn literal_end(chars: &[char], at: usize) -> usize {
    let here = |i: usize| chars.get(at + i).copied().unwrap_or('\0');
    let after_ident = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (here(0), here(1)) {
        ('/', '/') => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', '"' | '#') if !after_ident => raw_end(chars, at + 1).unwrap_or(at),
        ('b', 'r') if !after_ident => raw_end(chars, at + 2).unwrap_or(at),
        ('\'', '\\') => (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1),
        ('\'', _) if here(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// A raw string's end, if its hashes and quote begin here.
fn raw_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    let open = start + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |i: &usize| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes))
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "use a; // unsafe\nlet s = \"unsafe \\\" unsafe\"; /* unsafe /* x */ unsafe */ r#\"unsafe\"#; 'a'; fn f<'a>() {}\nunsafe {}";
    assert_eq!(lines_with_word(&blank(text), "unsafe"), [3]);
    assert_eq!(
        named_after("use crate::{a::{b, c}, d};\ncrate::e::f()", "crate::"),
        [(1, "a".into()), (1, "d".into()), (2, "e".into())]
    );
}
