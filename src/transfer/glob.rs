//! Glob patterns over file names, by characters and not bytes, so that `?` takes one letter of any script.

use unicode_normalization::UnicodeNormalization;

use super::search::PatternError;

/// `*` any characters, `?` one, `[a-z]` and `[!a-z]` one of a set, `{a,b}` either, `\` before a character that stands
/// for itself. Upper and lower case match each other, and so do composed and decomposed letters.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    // What the braces stand for: at most ALTERNATIVES_MAX.
    alternatives: Vec<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    One(char),
    AnyOne,
    AnyMany,
    // Inclusive ranges; `true` where what is outside of them matches.
    Set(bool, Vec<(char, char)>),
}

impl Glob {
    /// Reads a pattern of a length that the caller has capped.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let folded: Vec<char> = fold(text).collect();
        let mut alternatives = vec![Vec::new()];
        let mut rest = folded.as_slice();
        while let Some((first, after)) = rest.split_first() {
            if *first == '{' {
                let (choices, after) = parse_braces(after)?;
                alternatives = combine(&alternatives, &choices)?;
                rest = after;
            } else {
                let (token, after) = parse_token(*first, after)?;
                alternatives.iter_mut().for_each(|tokens| tokens.push(token.clone()));
                rest = after;
            }
        }
        Ok(Self { alternatives })
    }

    /// What it is read into: characters and sets of all alternatives.
    pub(super) fn tokens(&self) -> usize {
        self.alternatives.iter().map(Vec::len).sum()
    }

    /// Whether the whole of `name` matches. The work is at most pattern times name.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = fold(name).collect();
        self.alternatives.iter().any(|tokens| matches(tokens, &name))
    }
}

/// The pattern that matches `name` and nothing else but its other spellings.
pub(super) fn escape(name: &str) -> String {
    let escaped = |c: char| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | ',' | '\\' | '!');
    name.chars().flat_map(|c| escaped(c).then_some('\\').into_iter().chain([c])).collect()
}

fn fold(text: &str) -> impl Iterator<Item = char> + '_ {
    text.nfc().flat_map(char::to_lowercase).nfc()
}

/// What follows a `{`, up to its `}`: the choices, and the rest. Braces do not stand in braces.
fn parse_braces(mut rest: &[char]) -> Result<(Vec<Vec<Token>>, &[char]), PatternError> {
    let mut choices = vec![Vec::new()];
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            '}' => return Ok((choices, rest)),
            '{' => return Err(PatternError::Malformed),
            ',' => choices.push(Vec::new()),
            _ => {
                let (token, after) = parse_token(*first, rest)?;
                choices.last_mut().ok_or(PatternError::Malformed)?.push(token);
                rest = after;
            }
        }
    }
    Err(PatternError::Malformed)
}

fn combine(before: &[Vec<Token>], choices: &[Vec<Token>]) -> Result<Vec<Vec<Token>>, PatternError> {
    if before.len().saturating_mul(choices.len()) > ALTERNATIVES_MAX {
        return Err(PatternError::TooLong);
    }
    Ok(before.iter().flat_map(|head| choices.iter().map(move |tail| [head.as_slice(), tail].concat())).collect())
}

fn parse_token(first: char, rest: &[char]) -> Result<(Token, &[char]), PatternError> {
    match first {
        '*' => Ok((Token::AnyMany, rest)),
        '?' => Ok((Token::AnyOne, rest)),
        '[' => parse_set(rest),
        '\\' => {
            let (literal, rest) = rest.split_first().ok_or(PatternError::Malformed)?;
            Ok((Token::One(*literal), rest))
        }
        '}' => Err(PatternError::Malformed),
        literal => Ok((Token::One(literal), rest)),
    }
}

/// What follows a `[`, up to its `]`; one that comes first stands for itself.
fn parse_set(rest: &[char]) -> Result<(Token, &[char]), PatternError> {
    let (outside, mut rest) = match rest.split_first() {
        Some(('!' | '^', after)) => (true, after),
        _ => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        let (first, after) = rest.split_first().ok_or(PatternError::Malformed)?;
        rest = after;
        match (first, rest) {
            (']', _) if !ranges.is_empty() => return Ok((Token::Set(outside, ranges), rest)),
            (low, ['-', high, after @ ..]) if *high != ']' => {
                if low > high {
                    return Err(PatternError::Malformed);
                }
                ranges.push((*low, *high));
                rest = after;
            }
            (one, _) => ranges.push((*one, *one)),
        }
    }
}

/// Goes back only to the last `*`, which is enough: what came before it has matched as short as it could.
fn matches(tokens: &[Token], name: &[char]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(at), name.get(pos)) {
            (None, None) => return true,
            (Some(Token::AnyMany), _) => {
                at += 1;
                star = Some((at, pos));
            }
            (Some(token), Some(c)) if token.takes(*c) => {
                at += 1;
                pos += 1;
            }
            _ => {
                let Some((after, from)) = star.filter(|(_, from)| *from < name.len()) else { return false };
                star = Some((after, from + 1));
                (at, pos) = (after, from + 1);
            }
        }
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::One(own) => *own == c,
            Self::AnyOne => true,
            Self::AnyMany => false,
            Self::Set(outside, ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *outside,
        }
    }
}

/// Braces multiply; this bounds the work that one pattern makes.
const ALTERNATIVES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hit(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn wildcards_sets_and_braces() {
        assert!(hit("*", "") && hit("a*b*c", "aXbbYc") && !hit("a*b", "abc") && hit("**.x", "a.x"));
        assert!(hit("?", "№") && !hit("?", "") && !hit("?", "ab"));
        assert!(hit("[a-c]x", "Bx") && !hit("[!a-c]x", "bx") && hit("[]]", "]") && hit("[a-]", "-"));
        assert!(hit("{a,b*}.{jpg,png}", "bcd.PNG") && !hit("{a,b}.jpg", "c.jpg") && hit("a{,2}.x", "a.x"));
        assert!(hit("ÉCOLE", "e\u{301}cole") && hit("[а-я]*", "Жук"));
    }

    #[test]
    fn what_is_half_a_pattern_is_refused() {
        for bad in ["[", "[]", "[a", "[!", "{", "{a", "{a,{b}}", "}", "\\", "[z-a]"] {
            assert_eq!(Glob::parse(bad).unwrap_err(), PatternError::Malformed, "{bad}");
        }
        assert_eq!(Glob::parse(&"{a,b}".repeat(7)).unwrap_err(), PatternError::TooLong);
    }

    proptest! {
        #[test]
        fn an_escaped_name_matches_itself_alone(name in r"(\PC|[*?{}!,\[\]\\-]){1,40}", other in "[a-z*?]{1,5}") {
            prop_assert!(hit(&escape(&name), &name));
            prop_assert_eq!(hit(&escape(&other), &name), fold(&other).eq(fold(&name)));
        }

        #[test]
        fn no_pattern_is_slow_or_panics(pattern in r"(\PC|[*?{}!,\[\]\\-]){0,100}", name in r"\PC{0,100}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                glob.matches(&name);
            }
        }
    }
}
