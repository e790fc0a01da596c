//! Versions and derivation names: `compareVersions`, `splitVersion`, `parseDrvName`.

use std::cmp::Ordering;

/// The components of a version, as `builtins.splitVersion` gives them.
///
/// Dots and dashes separate; besides, a run of digits and a run of other bytes are components of their own.
pub fn components(version: &[u8]) -> Components<'_> {
    Components { rest: version }
}

/// Iterator over the components of a version.
#[derive(Debug, Clone)]
pub struct Components<'a> {
    rest: &'a [u8],
}

fn is_separator(byte: u8) -> bool {
    byte == b'.' || byte == b'-'
}

impl<'a> Iterator for Components<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|b| !is_separator(*b));
        let Some(rest) = start.and_then(|s| self.rest.get(s..)) else {
            self.rest = &[];
            return None;
        };
        let digits = rest.first().is_some_and(u8::is_ascii_digit);
        let len = rest
            .iter()
            .position(|b| b.is_ascii_digit() != digits || (!digits && is_separator(*b)))
            .unwrap_or(rest.len());
        let (component, rest) = rest.split_at(len);
        self.rest = rest;
        Some(component)
    }
}

/// A component as a number, when it is one that fits 32 bits; longer ones compare as text, as in C++ Nix.
fn number(component: &[u8]) -> Option<i32> {
    if component.is_empty() {
        return None;
    }
    component.iter().try_fold(0i32, |n, b| {
        let digit = b.is_ascii_digit().then(|| i32::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

fn component_less(a: &[u8], b: &[u8]) -> bool {
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x < y,
        (_, Some(_)) if a.is_empty() => true,
        _ if a == b"pre" && b != b"pre" => true,
        _ if b == b"pre" => false,
        (_, Some(_)) => true,
        (Some(_), _) => false,
        _ => a < b,
    }
}

/// Compares two versions as `builtins.compareVersions` does.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut left, mut right) = (components(a), components(b));
    loop {
        let (x, y) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (x, y) => (x.unwrap_or_default(), y.unwrap_or_default()),
        };
        if component_less(x, y) {
            return Ordering::Less;
        }
        if component_less(y, x) {
            return Ordering::Greater;
        }
    }
}

/// Splits the name of a derivation into name and version, as `builtins.parseDrvName` does: at the first
/// dash that something other than an ASCII letter follows.
pub fn parse_drv_name(full: &[u8]) -> (&[u8], &[u8]) {
    let dash = full
        .windows(2)
        .position(|pair| matches!(pair, [b'-', next] if !next.is_ascii_alphabetic()));
    match dash {
        Some(at) => (
            full.get(..at).unwrap_or_default(),
            full.get(at + 1..).unwrap_or_default(),
        ),
        None => (full, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(v: &str) -> Vec<String> {
        components(v.as_bytes())
            .map(|c| String::from_utf8(c.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn splitting() {
        assert_eq!(split("1.2.3"), ["1", "2", "3"]);
        assert_eq!(split("1.2pre3"), ["1", "2", "pre", "3"]);
        assert_eq!(split("--1..a-"), ["1", "a"]);
        assert_eq!(split("a+b1_"), ["a+b", "1", "_"]);
        assert!(split("").is_empty());
        assert!(split("..-").is_empty());
    }

    #[test]
    fn comparing() {
        let cmp = |a: &str, b: &str| compare(a.as_bytes(), b.as_bytes());
        assert_eq!(cmp("1.0", "2.3"), Ordering::Less);
        assert_eq!(cmp("2.1", "2.3"), Ordering::Less);
        assert_eq!(cmp("2.3", "2.3"), Ordering::Equal);
        assert_eq!(cmp("2.5", "2.3"), Ordering::Greater);
        assert_eq!(cmp("3.1", "2.3"), Ordering::Greater);
        assert_eq!(cmp("2.3.1", "2.3"), Ordering::Greater);
        assert_eq!(cmp("2.3.1", "2.3a"), Ordering::Greater);
        assert_eq!(cmp("2.3pre1", "2.3"), Ordering::Less);
        assert_eq!(cmp("2.3pre3", "2.3pre12"), Ordering::Less);
        assert_eq!(cmp("2.3a", "2.3c"), Ordering::Less);
        assert_eq!(cmp("2.3pre1", "2.3c"), Ordering::Less);
        assert_eq!(cmp("2.3pre1", "2.3q"), Ordering::Less);
        assert_eq!(cmp("1.02", "1.2"), Ordering::Equal);
        assert_eq!(cmp("1-2", "1.2"), Ordering::Equal);
        assert_eq!(cmp("1.", "1"), Ordering::Equal);
        // Beyond 32 bits the components are text: '9' > '1'.
        assert_eq!(cmp("9999999999", "10000000000"), Ordering::Greater);
        // A number sorts above text, here text that looks like a number.
        assert_eq!(cmp("9999999999", "1"), Ordering::Less);
    }

    #[test]
    fn drv_names() {
        let parse = |n: &'static str| {
            let (name, version) = parse_drv_name(n.as_bytes());
            (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(version),
            )
        };
        assert_eq!(
            parse("nix-0.12pre12876"),
            ("nix".into(), "0.12pre12876".into())
        );
        assert_eq!(
            parse("a-b-c-1234pre5+git"),
            ("a-b-c".into(), "1234pre5+git".into())
        );
        assert_eq!(parse("nix-"), ("nix-".into(), "".into()));
        assert_eq!(parse("nix--1"), ("nix".into(), "-1".into()));
        assert_eq!(parse("-1"), ("".into(), "1".into()));
        assert_eq!(parse(""), ("".into(), "".into()));
        assert_eq!(parse("a-\u{e9}"), ("a".into(), "\u{e9}".into()));
    }
}
