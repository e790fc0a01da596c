//! Paths as text: `baseNameOf`, `dirOf` and the lexical form of absolute paths.

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

/// The canonical form of an absolute path: no empty, `.` or `..` components and no final slash. `..` above the
/// root stays at the root. Links are not looked at. A path without a leading slash is taken from the root.
pub fn canonicalise(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// True for a path that [`canonicalise`] would leave as it is.
pub fn is_canonical(path: &[u8]) -> bool {
    match path {
        b"/" => true,
        [b'/', rest @ ..] => rest
            .split(|b| *b == b'/')
            .all(|c| !matches!(c, b"" | b"." | b"..")),
        _ => false,
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

    #[test]
    fn canonical() {
        for (path, want) in [
            ("/", "/"),
            ("//", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/../../x/", "/x"),
            ("/a/b/..", "/a"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/a/b/../../c/.", "/c"),
        ] {
            assert_eq!(canonicalise(path.as_bytes()), want.as_bytes(), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn canonical_is_a_fixpoint(path in "/[a./]{0,12}") {
            let once = canonicalise(path.as_bytes());
            proptest::prop_assert!(is_canonical(&once));
            proptest::prop_assert_eq!(canonicalise(&once), once.clone());
            proptest::prop_assert_eq!(is_canonical(path.as_bytes()), once == path.as_bytes());
        }
    }
}
