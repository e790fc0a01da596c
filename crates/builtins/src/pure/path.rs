//! Paths as text: `baseNameOf` and `dirOf`. Canonical forms are in `nivis_eval::machine`.

/// The last component, as `baseNameOf` gives it for a string: one final slash is ignored, no more.
pub fn base_name(path: &[u8]) -> &[u8] {
    let trimmed = match path {
        [head @ .., b'/'] if !head.is_empty() => head,
        all => all,
    };
    let start = trimmed
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |slash| slash + 1);
    trimmed.get(start..).unwrap_or_default()
}

/// Everything before the last slash, as `dirOf` gives it for a string: `.` without a slash, `/` when the only
/// slash is the first byte.
pub fn dir_of(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        None => b".",
        Some(0) => b"/",
        Some(slash) => path.get(..slash).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names() {
        for (path, want) in [
            ("", ""),
            ("/", ""),
            ("a", "a"),
            ("/a", "a"),
            ("a/", "a"),
            ("a/b", "b"),
            ("a//", ""),
            ("/a/b/", "b"),
            ("//", ""),
            ("a//b", "b"),
        ] {
            assert_eq!(base_name(path.as_bytes()), want.as_bytes(), "{path}");
        }
    }

    #[test]
    fn directories() {
        for (path, want) in [
            ("", "."),
            ("/", "/"),
            ("a", "."),
            ("/a", "/"),
            ("a/", "a"),
            ("a/b", "a"),
            ("a//", "a/"),
            ("/a/b/", "/a/b"),
            ("//", "/"),
            ("a//b", "a/"),
        ] {
            assert_eq!(dir_of(path.as_bytes()), want.as_bytes(), "{path}");
        }
    }
}
