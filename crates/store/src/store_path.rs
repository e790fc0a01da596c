//! Store paths: their syntax, the folder they lie in and how they are computed.
//!
//! A store path is the store folder, a `/`, 32 digits of [`nix32`] (160 bits), a
//! `-` and a name. The digits are never the hash of the contents themselves; they are the folded
//! SHA-256 of a line of text `<type>:<hash>:<store folder>:<name>`, where the type says what was hashed
//! and which paths it refers to. The computations here follow the chapter "Store Path Specification"
//! of the Nix manual.

use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::error::{Error, ErrorKind, Result, excerpt};
use crate::hash::{Hash, HashAlgorithm, HashFormat, Hasher, compress_hash, nix32};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Number of digits in the hash part.
pub const HASH_PART_LEN: usize = 32;

/// The longest name, in bytes.
pub const MAX_NAME_LEN: usize = 211;

/// Suffix of the names of derivation files.
pub const DRV_EXTENSION: &str = ".drv";

/// Checks that a name may follow the hash part of a store path.
///
/// Allowed are 1 to 211 of the characters `0-9 a-z A-Z + - . _ ? =`; a name may begin with a dot, but
/// its first part up to a dash must not be `.` or `..`.
pub fn check_name(name: impl AsRef<[u8]>) -> Result<()> {
    let name = name.as_ref();
    let fail = |message: String| Err(Error::new(ErrorKind::InvalidName, message));
    if name.is_empty() {
        return fail("name must not be empty".into());
    }
    if name.len() > MAX_NAME_LEN {
        return fail(format!(
            "name '{}' must be no longer than {MAX_NAME_LEN} characters",
            excerpt(name)
        ));
    }
    if name == b"." || name == b".." {
        return fail(format!("name '{}' is not valid", excerpt(name)));
    }
    for dots in [".", ".."] {
        let rest = name.strip_prefix(dots.as_bytes());
        if rest.is_some_and(|rest| rest.first() == Some(&b'-')) {
            return fail(format!(
                "name '{}' is not valid: first dash-separated component must not be '{dots}'",
                excerpt(name)
            ));
        }
    }
    for &c in name {
        if !is_name_byte(c) {
            return fail(format!(
                "name '{}' contains illegal character '{}'",
                excerpt(name),
                String::from_utf8_lossy(&[c])
            ));
        }
    }
    Ok(())
}

fn is_name_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.' | b'_' | b'?' | b'=')
}

/// A store path without its store folder: `<32 digits>-<name>`. Always valid; cheap to clone; ordered
/// by its text, as everywhere in Nix's formats.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StorePath(Arc<str>);

impl std::hash::Hash for StorePath {
    // The first digits are those of a cryptographic hash already.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let digits = self.0.as_bytes().first_chunk::<16>();
        state.write(digits.map_or(&[], |digits| digits));
    }
}

impl StorePath {
    /// Parses `<32 digits>-<name>`.
    pub fn from_base_name(base_name: impl AsRef<[u8]>) -> Result<StorePath> {
        let base_name = base_name.as_ref();
        let fail = |message: String| Err(Error::new(ErrorKind::InvalidStorePath, message));
        let (Some(hash_part), Some(name)) = (
            base_name.get(..HASH_PART_LEN),
            base_name.get(HASH_PART_LEN + 1..),
        ) else {
            return fail(format!(
                "'{}' is too short to be a valid store path",
                excerpt(base_name)
            ));
        };
        if let Some(&c) = hash_part.iter().find(|c| !nix32::is_digit(**c)) {
            return fail(format!(
                "store path '{}' contains illegal base-32 character '{}'",
                excerpt(base_name),
                String::from_utf8_lossy(&[c])
            ));
        }
        if base_name.get(HASH_PART_LEN) != Some(&b'-') {
            return fail(format!(
                "path '{}' is not a valid store path: no dash after the hash part",
                excerpt(base_name)
            ));
        }
        check_name(name).map_err(|e| not_a_path(base_name, &e))?;
        match std::str::from_utf8(base_name) {
            Ok(text) => Ok(StorePath(text.into())),
            // Unreachable: digits, the dash and the characters of names are ASCII.
            Err(_) => fail(format!(
                "path '{}' is not a valid store path",
                excerpt(base_name)
            )),
        }
    }

    /// Puts a hash part and a name together.
    pub fn from_parts(hash_part: [u8; 20], name: &str) -> Result<StorePath> {
        let mut text = String::with_capacity(HASH_PART_LEN + 1 + name.len());
        nix32::encode_to(&hash_part, &mut text);
        text.push('-');
        text.push_str(name);
        check_name(name).map_err(|e| not_a_path(text.as_bytes(), &e))?;
        Ok(StorePath(text.into()))
    }

    /// `<32 digits>-<name>`.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 digits.
    pub fn hash_part(&self) -> &str {
        self.0.get(..HASH_PART_LEN).unwrap_or("")
    }

    /// What follows the dash.
    pub fn name(&self) -> &str {
        self.0.get(HASH_PART_LEN + 1..).unwrap_or("")
    }

    /// Whether the name ends in `.drv`.
    pub fn is_derivation(&self) -> bool {
        self.name().ends_with(DRV_EXTENSION)
    }

    /// The name without `.drv`; an error when the path is not that of a derivation.
    pub fn derivation_name(&self) -> Result<&str> {
        self.name().strip_suffix(DRV_EXTENSION).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidStorePath,
                format!("store path '{self}' is not a valid derivation path"),
            )
        })
    }
}

fn not_a_path(path: &[u8], error: &Error) -> Error {
    Error::new(
        ErrorKind::InvalidStorePath,
        format!(
            "path '{}' is not a valid store path: {}",
            excerpt(path),
            error.message()
        ),
    )
}

/// The base name.
impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for StorePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The paths that a store object refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreReferences {
    /// Other store objects.
    pub others: BTreeSet<StorePath>,
    /// Whether the object mentions its own path.
    pub self_reference: bool,
}

impl StoreReferences {
    /// No references at all.
    pub fn none() -> StoreReferences {
        StoreReferences::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.others.is_empty() && !self.self_reference
    }
}

/// The logical folder of a store, `/nix/store` unless told otherwise. It is part of what is hashed, so
/// stores with different folders have different paths throughout. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(Arc<str>);

impl Default for StoreDir {
    fn default() -> StoreDir {
        StoreDir("/nix/store".into())
    }
}

impl fmt::Debug for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StoreDir {
    /// A store folder: an absolute path. It is made canonical lexically (`.`, `..` and doubled slashes).
    pub fn new(dir: &str) -> Result<StoreDir> {
        let bad = |why| {
            Error::new(
                ErrorKind::InvalidStorePath,
                format!("store directory '{}' {why}", excerpt(dir.as_bytes())),
            )
        };
        if !dir.starts_with('/') {
            return Err(bad("is not an absolute path"));
        }
        if dir.contains('\0') {
            return Err(bad("contains a NUL byte"));
        }
        let canonical = canonical_path(dir.as_bytes());
        if canonical == b"/" {
            return Err(bad("is the root directory"));
        }
        match String::from_utf8(canonical) {
            Ok(text) => Ok(StoreDir(text.into())),
            Err(_) => Err(bad("is not valid UTF-8")),
        }
    }

    /// The folder, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole path as text.
    pub fn print(&self, path: &StorePath) -> String {
        let mut out = String::with_capacity(self.printed_len(path));
        self.print_to(path, &mut out);
        out
    }

    /// Appends the whole path to a string.
    pub fn print_to(&self, path: &StorePath, out: &mut String) {
        out.push_str(&self.0);
        out.push('/');
        out.push_str(&path.0);
    }

    pub(crate) fn printed_len(&self, path: &StorePath) -> usize {
        self.0.len() + 1 + path.0.len()
    }

    /// Parses the path of a store object, spelled exactly (no `//`, no `.` or `..`, no slash at the
    /// end, nothing below it). This is what file formats use.
    pub fn parse(&self, path: impl AsRef<[u8]>) -> Result<StorePath> {
        let path = path.as_ref();
        match self.strip(path) {
            Some(base_name) => StorePath::from_base_name(base_name),
            None => Err(self.not_in_store(path)),
        }
    }

    /// As [`StoreDir::parse`], but makes the path canonical first (lexically), as commands and the
    /// language do with paths that people write.
    pub fn parse_lenient(&self, path: impl AsRef<[u8]>) -> Result<StorePath> {
        let path = path.as_ref();
        if path.first() != Some(&b'/') {
            return Err(self.not_in_store(path));
        }
        self.parse(canonical_path(path))
    }

    /// Whether the path lies in the store folder (the folder itself does not count).
    pub fn contains(&self, path: impl AsRef<[u8]>) -> bool {
        self.strip(path.as_ref())
            .is_some_and(|rest| !rest.is_empty())
    }

    /// Splits a path in the store into the store object and what follows it (empty, or beginning with
    /// a slash).
    pub fn split<'p>(&self, path: &'p [u8]) -> Result<(StorePath, &'p [u8])> {
        let rest = match self.strip(path) {
            Some(rest) if !rest.is_empty() => rest,
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidStorePath,
                    format!("path '{}' is not in the Nix store", excerpt(path)),
                ));
            }
        };
        let at = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (base_name, below) = rest.split_at(at);
        Ok((StorePath::from_base_name(base_name)?, below))
    }

    fn strip<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        path.strip_prefix(self.0.as_bytes())?.strip_prefix(b"/")
    }

    fn not_in_store(&self, path: &[u8]) -> Error {
        Error::new(
            ErrorKind::InvalidStorePath,
            format!("path '{}' is not in the Nix store", excerpt(path)),
        )
    }

    /// The path for a `type` and a hash spelled `<algorithm>:<base 16>`: the function that all others
    /// end in.
    pub fn make_store_path(&self, kind: &str, hash: &str, name: &str) -> Result<StorePath> {
        self.make_path_from(|h| h.update(kind.as_bytes()), hash, name)
    }

    fn make_path_from(
        &self,
        kind: impl FnOnce(&mut Hasher),
        hash: &str,
        name: &str,
    ) -> Result<StorePath> {
        let mut hasher = Hasher::new(HashAlgorithm::Sha256);
        kind(&mut hasher);
        for part in [":", hash, ":", &self.0, ":", name] {
            hasher.update(part.as_bytes());
        }
        StorePath::from_parts(compress_hash(hasher.finish().as_bytes()), name)
    }

    // The references are part of the type, which looks odd but keeps the grammar unambiguous.
    fn hash_references<'a>(
        &self,
        hasher: &mut Hasher,
        references: impl Iterator<Item = &'a StorePath>,
    ) {
        let prefix = format!(":{}/", self.0);
        for path in references {
            hasher.update(prefix.as_bytes());
            hasher.update(path.0.as_bytes());
        }
    }

    /// The path of an input-addressed output, from the derivation's hash modulo.
    pub fn make_output_path(
        &self,
        output: &str,
        hash_modulo: &[u8; 32],
        drv_name: &str,
    ) -> Result<StorePath> {
        let hash = Hash::from_sha256(*hash_modulo).encode_with_algorithm(HashFormat::Base16);
        self.make_store_path(
            &format!("output:{output}"),
            &hash,
            &output_path_name(drv_name, output),
        )
    }

    /// The path of a text file (`builtins.toFile`, `.drv` files) with the paths it refers to, which
    /// must come sorted and without repetition.
    pub fn make_text_path<'a>(
        &self,
        name: &str,
        sha256: &[u8; 32],
        references: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<StorePath> {
        let hash = Hash::from_sha256(*sha256).encode_with_algorithm(HashFormat::Base16);
        self.make_path_from(
            |h| {
                h.update(b"text");
                self.hash_references(h, references.into_iter());
            },
            &hash,
            name,
        )
    }

    /// The path of a store object that is found by its contents, with references.
    ///
    /// The hash is that of the file itself ([`Flat`](ContentAddressMethod::Flat) and
    /// [`Text`](ContentAddressMethod::Text)), of its archive ([`Nar`](ContentAddressMethod::Nar)) or of
    /// its Git object. Only a SHA-256 of an archive may have references of every kind; text may refer
    /// to other paths.
    pub fn make_content_path(
        &self,
        name: &str,
        content: &ContentAddress,
        references: &StoreReferences,
    ) -> Result<StorePath> {
        let hash = &content.hash;
        let algorithm = hash.algorithm();
        let invalid = |message: String| Error::new(ErrorKind::InvalidDerivation, message);
        match content.method {
            ContentAddressMethod::Text => {
                if references.self_reference {
                    return Err(invalid(
                        "self-reference not allowed with text hashing".into(),
                    ));
                }
                match <&[u8; 32]>::try_from(hash.as_bytes()) {
                    Ok(digest) if algorithm == HashAlgorithm::Sha256 => {
                        self.make_text_path(name, digest, &references.others)
                    }
                    _ => Err(invalid(format!(
                        "text hashing of '{name}' must use SHA-256, but instead using: {algorithm}"
                    ))),
                }
            }
            ContentAddressMethod::Nar if algorithm == HashAlgorithm::Sha256 => self.make_path_from(
                |h| {
                    h.update(b"source");
                    self.hash_references(h, references.others.iter());
                    if references.self_reference {
                        h.update(b":self");
                    }
                },
                &hash.encode_with_algorithm(HashFormat::Base16),
                name,
            ),
            ContentAddressMethod::Git
                if !matches!(algorithm, HashAlgorithm::Sha1 | HashAlgorithm::Sha256) =>
            {
                Err(invalid(format!(
                    "Git file ingestion must use SHA-1 or SHA-256 hash, but instead using: {algorithm}"
                )))
            }
            method => {
                if !references.is_empty() {
                    return Err(invalid(format!(
                        "fixed output derivation '{name}' is not allowed to refer to other store paths.\nYou may need to use the 'unsafeDiscardReferences' derivation attribute, see the manual for more details."
                    )));
                }
                let fixed = format!(
                    "fixed:out:{}{}:",
                    method.prefix(),
                    hash.encode_with_algorithm(HashFormat::Base16)
                );
                let digest = Hash::of(HashAlgorithm::Sha256, fixed);
                self.make_store_path(
                    "output:out",
                    &digest.encode_with_algorithm(HashFormat::Base16),
                    name,
                )
            }
        }
    }

    /// The path of a fixed output, which has no references.
    pub fn make_fixed_output_path(
        &self,
        name: &str,
        content: &ContentAddress,
    ) -> Result<StorePath> {
        self.make_content_path(name, content, &StoreReferences::none())
    }

    /// The path of a source tree copied to the store, from the SHA-256 of its archive.
    pub fn make_source_path(&self, name: &str, nar_sha256: &[u8; 32]) -> Result<StorePath> {
        let content = ContentAddress {
            method: ContentAddressMethod::Nar,
            hash: Hash::from_sha256(*nar_sha256),
        };
        self.make_fixed_output_path(name, &content)
    }
}

/// The name of an output's store path: that of the derivation, and `-<output>` unless it is `out`.
pub fn output_path_name(drv_name: &str, output: &str) -> String {
    if output == "out" {
        drv_name.to_owned()
    } else {
        format!("{drv_name}-{output}")
    }
}

/// Resolves `.`, `..` and repeated slashes of an absolute path without looking at the file system.
pub(crate) fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for good in ["a", ".a", "...", "..a-b", "A+b-c.d_e?f=0", &"a".repeat(211)] {
            check_name(good).unwrap();
        }
        for (bad, message) in [
            ("", "name must not be empty"),
            ("a b", "name 'a b' contains illegal character ' '"),
            ("a/b", "name 'a/b' contains illegal character '/'"),
            ("a\0", "name 'a\0' contains illegal character '\0'"),
            (".", "name '.' is not valid"),
            ("..", "name '..' is not valid"),
            (
                ".-x",
                "name '.-x' is not valid: first dash-separated component must not be '.'",
            ),
            (
                "..-x",
                "name '..-x' is not valid: first dash-separated component must not be '..'",
            ),
        ] {
            assert_eq!(check_name(bad).unwrap_err().message(), message);
        }
        assert!(check_name("a".repeat(212)).is_err());
    }

    #[test]
    fn parsing() {
        let store = StoreDir::default();
        let text = "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-x.drv";
        let path = store.parse(text).unwrap();
        assert_eq!(path.hash_part(), "58n44qvvh49mxyash33m1kadrd9k20gr");
        assert_eq!(path.name(), "x.drv");
        assert_eq!(path.derivation_name().unwrap(), "x");
        assert_eq!(store.print(&path), text);
        for bad in [
            "/nix/store/abc",
            "/nix/store",
            "/nix/store/",
            "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr",
            "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-",
            "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr_x",
            "/nix/store/58n44qvvh49mxyash33m1kadrd9k20ge-x",
            "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-x/y",
            "/nix/store//58n44qvvh49mxyash33m1kadrd9k20gr-x",
            "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-x/",
            "/nix/storage/58n44qvvh49mxyash33m1kadrd9k20gr-x",
            "58n44qvvh49mxyash33m1kadrd9k20gr-x",
            "",
        ] {
            let error = store.parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidStorePath, "{bad}");
        }
        let lenient = format!("/nix/./x/..//store/{}/", path.base_name());
        assert_eq!(store.parse_lenient(lenient).unwrap(), path);
        let below = format!("{text}/a/b");
        assert_eq!(store.split(below.as_bytes()).unwrap(), (path, &b"/a/b"[..]));
        assert_eq!(
            store.split(b"/foo/bar").unwrap_err().message(),
            "path '/foo/bar' is not in the Nix store"
        );
        assert_eq!(
            store.parse("/nix/store/abc").unwrap_err().message(),
            "'abc' is too short to be a valid store path"
        );
    }

    #[test]
    fn store_dirs() {
        assert_eq!(StoreDir::new("/a//b/../c/.").unwrap().as_str(), "/a/c");
        for bad in ["", "nix/store", "/", "/a/..", "/a\0b"] {
            assert!(StoreDir::new(bad).is_err(), "{bad:?}");
        }
    }

    fn content(method: ContentAddressMethod, hash: &str) -> ContentAddress {
        let hash = Hash::parse_prefixed(hash).unwrap();
        ContentAddress { method, hash }
    }

    #[test]
    fn paths_of_the_reference() {
        use ContentAddressMethod::*;
        let store = StoreDir::default();
        let text = store
            .make_text_path("foo.txt", &crate::hash::sha256("hello"), [])
            .unwrap();
        assert_eq!(text.base_name(), "m0iyz1rzcgxw68h6skk8b9sg0p0napwc-foo.txt");
        let empty = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let sha1 = "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709";
        for (method, hash, expected) in [
            (Flat, empty, "i8yf3p9li8bd9rwjsr5nkg63lxs367am-f"),
            (Nar, empty, "f66gffbbljx7hpk8xw2f4ylk355g52as-f"),
            (Nar, sha1, "bzirgabdilmf2hrsm7q0qmnrs06yvrdq-f"),
            (Text, empty, "4xm65f7dnxj2ahcbhsala7lhgdkrnd73-f"),
            (Git, sha1, "89s3j9xjavdyb10xld8zwwpjlr75wyzd-f"),
        ] {
            let path = store
                .make_fixed_output_path("f", &content(method, hash))
                .unwrap();
            assert_eq!(path.base_name(), expected);
        }
        assert!(
            store
                .make_fixed_output_path("f", &content(Text, sha1))
                .is_err()
        );
        let md5 = "md5:d41d8cd98f00b204e9800998ecf8427e";
        assert!(
            store
                .make_fixed_output_path("f", &content(Git, md5))
                .is_err()
        );
    }

    #[test]
    fn references_where_they_are_allowed() {
        use ContentAddressMethod::*;
        let store = StoreDir::default();
        let empty = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let other = StorePath::from_base_name("m0iyz1rzcgxw68h6skk8b9sg0p0napwc-foo.txt").unwrap();
        let mut references = StoreReferences {
            others: [other].into(),
            self_reference: false,
        };
        let make = |method, references: &_| {
            store.make_content_path("f", &content(method, empty), references)
        };
        assert!(make(Nar, &references).is_ok());
        assert!(make(Text, &references).is_ok());
        assert!(make(Flat, &references).is_err());
        assert_ne!(
            make(Nar, &references).unwrap(),
            make(Nar, &StoreReferences::none()).unwrap()
        );
        references.self_reference = true;
        assert!(make(Nar, &references).is_ok());
        assert!(make(Text, &references).is_err());
    }

    proptest! {
        #[test]
        fn paths_round_trip(hash: [u8; 20], name in "[0-9a-zA-Z+_?=][-0-9a-zA-Z+._?=]{0,210}") {
            let store = StoreDir::default();
            let path = StorePath::from_parts(hash, &name).unwrap();
            prop_assert_eq!(store.parse(store.print(&path)).unwrap(), path.clone());
            prop_assert_eq!(StorePath::from_base_name(path.base_name()).unwrap(), path);
        }

        #[test]
        fn any_text_is_an_answer(text: Vec<u8>) {
            let store = StoreDir::default();
            let _ = store.parse_lenient(&text);
            if let Ok(path) = StorePath::from_base_name(&text) {
                prop_assert_eq!(path.base_name().as_bytes(), &text[..]);
            }
        }
    }
}
