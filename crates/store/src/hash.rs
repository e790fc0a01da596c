//! Hash algorithms, hash values, their four encodings and streaming hashing.
//!
//! [`Hash::parse_any`] accepts what the Nix language accepts where a hash is written
//! (`sha256:<base16, nix32 or base64>`, `sha256-<base64>` (SRI), or the digits alone when the
//! algorithm is known). It is as lenient as C++ Nix about the padding of base64, because existing
//! packages depend on it. File formats do not use it; they demand the one canonical spelling.

use crate::error::{Error, ErrorKind, Result, excerpt};
use data_encoding::{BASE64, HEXLOWER};
use std::fmt;
use std::io;

/// The hash algorithms of Nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// MD5, 16 bytes. Broken; old packages name it.
    Md5,
    /// SHA-1, 20 bytes. Broken; old packages name it, and Git hashing needs it.
    Sha1,
    /// SHA-256, 32 bytes: what Nix itself uses everywhere.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// BLAKE3, 32 bytes (the experimental feature `blake3-hashes` in C++ Nix).
    Blake3,
}

/// The longest digest, in bytes (SHA-512).
pub const MAX_HASH_LEN: usize = 64;

impl HashAlgorithm {
    /// Every algorithm, in the order of the C++ implementation's names.
    pub const ALL: [HashAlgorithm; 5] = [
        HashAlgorithm::Blake3,
        HashAlgorithm::Md5,
        HashAlgorithm::Sha1,
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha512,
    ];

    /// The name used in derivations, store paths and the language.
    pub const fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Md5 => "md5",
            HashAlgorithm::Sha1 => "sha1",
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha512 => "sha512",
            HashAlgorithm::Blake3 => "blake3",
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            HashAlgorithm::Md5 => 16,
            HashAlgorithm::Sha1 => 20,
            HashAlgorithm::Sha256 | HashAlgorithm::Blake3 => 32,
            HashAlgorithm::Sha512 => 64,
        }
    }

    /// The algorithm of that name, if there is one. Names are case-sensitive.
    pub fn from_name(name: impl AsRef<[u8]>) -> Option<HashAlgorithm> {
        let name = name.as_ref();
        HashAlgorithm::ALL
            .into_iter()
            .find(|a| a.name().as_bytes() == name)
    }

    /// As [`HashAlgorithm::from_name`], with an error that lists the names.
    pub fn parse(name: impl AsRef<[u8]>) -> Result<HashAlgorithm> {
        let name = name.as_ref();
        HashAlgorithm::from_name(name).ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownMethod,
                format!(
                    "unknown hash algorithm '{}', expect 'blake3', 'md5', 'sha1', 'sha256', or 'sha512'",
                    excerpt(name)
                ),
            )
        })
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the bytes of a hash are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashFormat {
    /// Lower-case hexadecimal digits.
    Base16,
    /// Nix's own base 32 (see [`nix32`]).
    Nix32,
    /// Base 64 with padding.
    Base64,
    /// `<algorithm>-<base64>`, as in "subresource integrity".
    Sri,
}

impl HashFormat {
    /// The name that commands and `builtins.convertHash` use.
    pub const fn name(self) -> &'static str {
        match self {
            HashFormat::Base16 => "base16",
            HashFormat::Nix32 => "nix32",
            HashFormat::Base64 => "base64",
            HashFormat::Sri => "sri",
        }
    }

    /// What to warn about when a format is called by a name: `base32` is an old alias of `nix32`.
    pub fn warning(name: impl AsRef<[u8]>) -> Option<&'static str> {
        (name.as_ref() == b"base32")
            .then_some(r#""base32" is a deprecated alias for hash format "nix32"."#)
    }

    /// The format of that name. Callers should show its [`HashFormat::warning`].
    pub fn parse(name: impl AsRef<[u8]>) -> Result<HashFormat> {
        Ok(match name.as_ref() {
            b"base16" => HashFormat::Base16,
            b"nix32" | b"base32" => HashFormat::Nix32,
            b"base64" => HashFormat::Base64,
            b"sri" => HashFormat::Sri,
            other => {
                return Err(Error::new(
                    ErrorKind::UnknownMethod,
                    format!(
                        "unknown hash format '{}', expect 'base16', 'base32', 'base64', or 'sri'",
                        excerpt(other)
                    ),
                ));
            }
        })
    }
}

/// A digest together with its algorithm. `Copy`, 65 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash {
    algorithm: HashAlgorithm,
    // Bytes beyond the algorithm's length stay zero, so that derived equality is right.
    bytes: [u8; MAX_HASH_LEN],
}

impl Hash {
    /// Wraps a digest; `None` unless it has the algorithm's length.
    pub fn from_bytes(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Hash> {
        if digest.len() != algorithm.digest_len() {
            return None;
        }
        let mut bytes = [0; MAX_HASH_LEN];
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(Hash { algorithm, bytes })
    }

    /// Wraps a SHA-256 digest.
    pub fn from_sha256(digest: [u8; 32]) -> Hash {
        let mut bytes = [0; MAX_HASH_LEN];
        bytes[..32].copy_from_slice(&digest);
        Hash {
            algorithm: HashAlgorithm::Sha256,
            bytes,
        }
    }

    /// The hash of all zeros, which stands for "not known yet" in the language (`lib.fakeHash`, `""`).
    pub const fn zero(algorithm: HashAlgorithm) -> Hash {
        Hash {
            algorithm,
            bytes: [0; MAX_HASH_LEN],
        }
    }

    /// Hashes bytes at hand.
    pub fn of(algorithm: HashAlgorithm, data: impl AsRef<[u8]>) -> Hash {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data.as_ref());
        hasher.finish()
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.digest_len()).unwrap_or(&[])
    }

    /// The digits alone, without the algorithm (except that SRI always has it).
    pub fn encode(&self, format: HashFormat) -> String {
        match format {
            HashFormat::Base16 => HEXLOWER.encode(self.as_bytes()),
            HashFormat::Nix32 => nix32::encode(self.as_bytes()),
            HashFormat::Base64 => BASE64.encode(self.as_bytes()),
            HashFormat::Sri => self.to_sri(),
        }
    }

    /// `<algorithm>:<digits>`, or SRI.
    pub fn encode_with_algorithm(&self, format: HashFormat) -> String {
        match format {
            HashFormat::Sri => self.to_sri(),
            _ => format!("{}:{}", self.algorithm, self.encode(format)),
        }
    }

    /// `<algorithm>-<base64>`.
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algorithm, BASE64.encode(self.as_bytes()))
    }

    /// Parses any spelling that the language accepts. Given an algorithm, the text may omit it, but
    /// may not contradict it.
    pub fn parse_any(text: impl AsRef<[u8]>, algorithm: Option<HashAlgorithm>) -> Result<Hash> {
        Hash::parse_any_with_format(text, algorithm).map(|(hash, _)| hash)
    }

    /// As [`Hash::parse_any`]; also tells the format that was found.
    pub fn parse_any_with_format(
        text: impl AsRef<[u8]>,
        algorithm: Option<HashAlgorithm>,
    ) -> Result<(Hash, HashFormat)> {
        let original = text.as_ref();
        let (prefix, rest, sri) = match split_once(original, b':') {
            Some((prefix, rest)) => (Some(prefix), rest, false),
            None => match split_once(original, b'-') {
                Some((prefix, rest)) => (Some(prefix), rest, true),
                None => (None, original, false),
            },
        };
        let parsed = prefix.map(HashAlgorithm::parse).transpose()?;
        let algorithm = match (parsed, algorithm) {
            (None, None) => {
                return Err(invalid(format!(
                    "hash '{}' does not include a type, nor is the type otherwise known from context",
                    excerpt(original)
                )));
            }
            (Some(parsed), Some(wanted)) if parsed != wanted => {
                return Err(invalid(format!(
                    "hash '{}' should have type '{wanted}'",
                    excerpt(original)
                )));
            }
            (Some(known), _) | (None, Some(known)) => known,
        };
        let format = if sri {
            HashFormat::Sri
        } else {
            format_from_length(rest, algorithm)?
        };
        Ok((decode(rest, algorithm, format)?, format))
    }

    /// Parses `<algorithm>:<digits>` or SRI; the algorithm may not be left out.
    pub fn parse_prefixed(text: impl AsRef<[u8]>) -> Result<Hash> {
        let text = text.as_ref();
        if !text.iter().any(|b| matches!(b, b':' | b'-')) {
            return Err(invalid(format!(
                "hash '{}' does not include a type",
                excerpt(text)
            )));
        }
        Hash::parse_any(text, None)
    }

    /// Parses `<algorithm>-<base64>`.
    pub fn parse_sri(text: impl AsRef<[u8]>) -> Result<Hash> {
        let text = text.as_ref();
        let (prefix, rest) = split_once(text, b'-')
            .ok_or_else(|| invalid(format!("hash '{}' is not SRI", excerpt(text))))?;
        decode(rest, HashAlgorithm::parse(prefix)?, HashFormat::Sri)
    }

    /// Parses digits without an algorithm; the encoding follows from their number.
    pub fn parse_digits(text: impl AsRef<[u8]>, algorithm: HashAlgorithm) -> Result<Hash> {
        let text = text.as_ref();
        decode(text, algorithm, format_from_length(text, algorithm)?)
    }

    /// Parses digits of a known encoding, without an algorithm.
    pub fn parse_format(
        text: impl AsRef<[u8]>,
        algorithm: HashAlgorithm,
        format: HashFormat,
    ) -> Result<Hash> {
        decode(text.as_ref(), algorithm, format)
    }

    /// Parses lower-case base 16 of exactly the right length: the one spelling in `.drv` files.
    pub fn parse_base16_strict(text: impl AsRef<[u8]>, algorithm: HashAlgorithm) -> Result<Hash> {
        let text = text.as_ref();
        HEXLOWER
            .decode(text)
            .ok()
            .and_then(|bytes| Hash::from_bytes(algorithm, &bytes))
            .ok_or_else(|| {
                invalid(format!(
                    "'{}' is not a {algorithm} hash in lower-case base 16",
                    excerpt(text)
                ))
            })
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_sri())
    }
}

/// SRI, the form that people paste.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_sri())
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidHash, message)
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn format_from_length(digits: &[u8], algorithm: HashAlgorithm) -> Result<HashFormat> {
    let len = algorithm.digest_len();
    if digits.len() == len * 2 {
        Ok(HashFormat::Base16)
    } else if digits.len() == nix32::encoded_len(len) {
        Ok(HashFormat::Nix32)
    } else if digits.len() == BASE64.encode_len(len) {
        Ok(HashFormat::Base64)
    } else {
        Err(invalid(format!(
            "hash '{}' has wrong length for hash algorithm '{algorithm}'",
            excerpt(digits)
        )))
    }
}

fn decode(digits: &[u8], algorithm: HashAlgorithm, format: HashFormat) -> Result<Hash> {
    // Digits that cannot be decoded count as no bytes at all: this is how the reference words it.
    let (bytes, name) = match format {
        HashFormat::Base16 => (decode_base16(digits), "base16"),
        HashFormat::Nix32 => (nix32::decode(digits), "nix32"),
        HashFormat::Base64 => (decode_base64(digits), "Base64"),
        HashFormat::Sri => (decode_base64(digits), "SRI"),
    };
    let bytes = bytes.unwrap_or_default();
    Hash::from_bytes(algorithm, &bytes).ok_or_else(|| {
        invalid(format!(
            "invalid {name} hash '{}', length {} != expected length {}",
            excerpt(digits),
            bytes.len(),
            algorithm.digest_len()
        ))
    })
}

fn decode_base16(digits: &[u8]) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()
}

/// Base 64 as the reference reads it: newlines are skipped, decoding ends at the first `=`, and left-over
/// bits are dropped. Hashes with missing padding or stray last bits occur in real packages.
pub(crate) fn decode_base64(digits: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(digits.len().min(2 * MAX_HASH_LEN) / 4 * 3 + 3);
    let (mut acc, mut bits) = (0u32, 0u32);
    for &c in digits {
        let digit = match c {
            b'=' => break,
            b'\n' => continue,
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        acc = acc << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((acc >> bits & 0xff) as u8);
        }
    }
    Some(out)
}

/// Folds a digest to 20 bytes by XOR: what the hash part of a store path is made from.
pub fn compress_hash(digest: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    for chunk in digest.chunks(20) {
        for (o, b) in out.iter_mut().zip(chunk) {
            *o ^= b;
        }
    }
    out
}

/// SHA-256 of bytes at hand, as plain bytes.
pub fn sha256(data: impl AsRef<[u8]>) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(data.as_ref()).into()
}

/// A running hash. Also an [`io::Write`] that never fails, so that every writer of this crate can
/// stream into it.
#[derive(Clone, Debug)]
pub struct Hasher {
    state: State,
    bytes: u64,
}

#[derive(Clone, Debug)]
enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Starts hashing. SHA instructions of the processor are used where they exist.
    pub fn new(algorithm: HashAlgorithm) -> Hasher {
        let state = match algorithm {
            HashAlgorithm::Md5 => State::Md5(Default::default()),
            HashAlgorithm::Sha1 => State::Sha1(Default::default()),
            HashAlgorithm::Sha256 => State::Sha256(Default::default()),
            HashAlgorithm::Sha512 => State::Sha512(Default::default()),
            HashAlgorithm::Blake3 => State::Blake3(Default::default()),
        };
        Hasher { state, bytes: 0 }
    }

    /// Adds data.
    pub fn update(&mut self, data: &[u8]) {
        use sha2::Digest;
        self.bytes = self.bytes.wrapping_add(data.len() as u64);
        match &mut self.state {
            State::Md5(s) => s.update(data),
            State::Sha1(s) => s.update(data),
            State::Sha256(s) => s.update(data),
            State::Sha512(s) => s.update(data),
            State::Blake3(s) => {
                s.update(data);
            }
        }
    }

    /// The number of bytes hashed so far.
    pub fn bytes_hashed(&self) -> u64 {
        self.bytes
    }

    /// The digest of all data so far.
    pub fn finish(self) -> Hash {
        use sha2::Digest;
        let mut bytes = [0; MAX_HASH_LEN];
        let algorithm = match self.state {
            State::Md5(s) => {
                bytes[..16].copy_from_slice(&s.finalize());
                HashAlgorithm::Md5
            }
            State::Sha1(s) => {
                bytes[..20].copy_from_slice(&s.finalize());
                HashAlgorithm::Sha1
            }
            State::Sha256(s) => {
                bytes[..32].copy_from_slice(&s.finalize());
                HashAlgorithm::Sha256
            }
            State::Sha512(s) => {
                bytes.copy_from_slice(&s.finalize());
                HashAlgorithm::Sha512
            }
            State::Blake3(s) => {
                bytes[..32].copy_from_slice(s.finalize().as_bytes());
                HashAlgorithm::Blake3
            }
        };
        Hash { algorithm, bytes }
    }
}

impl io::Write for Hasher {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.update(data);
        Ok(data.len())
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.update(data);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nix's base 32: five bits a digit, least significant digit last, digits of the first bytes last. The
/// alphabet leaves out `e`, `o`, `t` and `u`.
pub mod nix32 {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

    const VALUES: [u8; 256] = {
        let mut values = [0xff; 256];
        let mut i = 0;
        while i < 32 {
            values[DIGITS[i] as usize] = i as u8;
            i += 1;
        }
        values
    };

    /// Number of digits for so many bytes.
    pub const fn encoded_len(bytes: usize) -> usize {
        (bytes * 8).div_ceil(5)
    }

    /// Whether the byte is a digit.
    pub const fn is_digit(byte: u8) -> bool {
        VALUES[byte as usize] != 0xff
    }

    /// Encodes any number of bytes.
    pub fn encode(bytes: &[u8]) -> String {
        let mut out = String::with_capacity(encoded_len(bytes.len()));
        encode_to(bytes, &mut out);
        out
    }

    /// Encodes to the end of a string.
    pub fn encode_to(bytes: &[u8], out: &mut String) {
        for n in (0..encoded_len(bytes.len())).rev() {
            let (i, j) = (n * 5 / 8, n * 5 % 8);
            let low = u16::from(bytes.get(i).copied().unwrap_or(0));
            let high = u16::from(bytes.get(i + 1).copied().unwrap_or(0));
            let digit = ((high << 8 | low) >> j) & 0x1f;
            out.push(char::from(DIGITS[usize::from(digit)]));
        }
    }

    /// Decodes; `None` for a byte that is no digit. When the digits hold more bits than whole bytes,
    /// set left-over bits give one byte more (so a caller that checks the length refuses them).
    pub fn decode(digits: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0u8; digits.len() * 5 / 8];
        for (n, c) in digits.iter().rev().enumerate() {
            let digit = VALUES[usize::from(*c)];
            if digit == 0xff {
                return None;
            }
            let (i, j) = (n * 5 / 8, n * 5 % 8);
            let wide = u16::from(digit) << j;
            for (k, byte) in [(i, wide as u8), (i + 1, (wide >> 8) as u8)] {
                if byte == 0 {
                    continue;
                }
                if k >= out.len() {
                    out.resize(k + 1, 0);
                }
                out[k] |= byte;
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sha256_of(text: &str) -> Hash {
        Hash::of(HashAlgorithm::Sha256, text)
    }

    #[test]
    fn encodings_of_the_reference() {
        let hash = sha256_of("abc");
        assert_eq!(
            hash.encode(HashFormat::Base16),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hash.encode(HashFormat::Nix32),
            "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"
        );
        assert_eq!(
            hash.to_sri(),
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
        );
        let sha512 = Hash::of(HashAlgorithm::Sha512, "abc");
        assert_eq!(
            sha512.encode(HashFormat::Nix32),
            "2gs8k559z4rlahfx0y688s49m2vvszylcikrfinm30ly9rak69236nkam5ydvly1ai7xac99vxfc4ii84hawjbk876blyk1jfhkbbyx"
        );
        assert_eq!(
            Hash::of(HashAlgorithm::Md5, "").encode(HashFormat::Nix32),
            "3y8bwfr609h3lh9ch0izcqq7fl"
        );
        assert_eq!(
            Hash::of(HashAlgorithm::Sha1, "abc").encode(HashFormat::Nix32),
            "kpcd173cq987hw957sx6m0868wv3x6d9"
        );
        assert_eq!(
            Hash::of(HashAlgorithm::Blake3, "").encode(HashFormat::Base16),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn all_spellings_parse() {
        let hash = sha256_of("abc");
        for format in [
            HashFormat::Base16,
            HashFormat::Nix32,
            HashFormat::Base64,
            HashFormat::Sri,
        ] {
            let text = hash.encode_with_algorithm(format);
            assert_eq!(
                Hash::parse_any_with_format(&text, None).unwrap(),
                (hash, format)
            );
            assert_eq!(Hash::parse_prefixed(&text).unwrap(), hash);
            let digits = hash.encode(format);
            let found = Hash::parse_any(&digits, Some(HashAlgorithm::Sha256)).unwrap();
            assert_eq!(found, hash);
        }
        let upper = hash.encode(HashFormat::Base16).to_uppercase();
        assert_eq!(
            Hash::parse_any(upper, Some(HashAlgorithm::Sha256)).unwrap(),
            hash
        );
        // Padding is optional in SRI, and what follows it is ignored.
        let sri = hash.to_sri();
        for text in [sri.trim_end_matches('=').to_owned(), format!("{sri} \n")] {
            assert_eq!(Hash::parse_any(text, None).unwrap(), hash);
        }
    }

    #[test]
    fn messages_are_those_of_the_reference() {
        let sha256 = Some(HashAlgorithm::Sha256);
        for (text, algorithm, message) in [
            (
                "sha256-AAAA",
                None,
                "invalid SRI hash 'AAAA', length 3 != expected length 32",
            ),
            (
                "zzz",
                sha256,
                "hash 'zzz' has wrong length for hash algorithm 'sha256'",
            ),
            (
                "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
                sha256,
                "hash 'sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709' should have type 'sha256'",
            ),
            (
                "da39a3ee5e6b4b0d3255bfef95601890afd8070z",
                Some(HashAlgorithm::Sha1),
                "invalid base16 hash 'da39a3ee5e6b4b0d3255bfef95601890afd8070z', length 0 != expected length 20",
            ),
            (
                "foo-xxx",
                None,
                "unknown hash algorithm 'foo', expect 'blake3', 'md5', 'sha1', 'sha256', or 'sha512'",
            ),
            (
                "zzz",
                None,
                "hash 'zzz' does not include a type, nor is the type otherwise known from context",
            ),
        ] {
            let error = Hash::parse_any(text, algorithm).unwrap_err();
            assert_eq!(error.message(), message);
        }
        assert_eq!(
            Hash::parse_prefixed("zzz").unwrap_err().message(),
            "hash 'zzz' does not include a type"
        );
        assert_eq!(
            Hash::parse_sri("zzz").unwrap_err().message(),
            "hash 'zzz' is not SRI"
        );
    }

    #[test]
    fn nix32_with_left_over_bits_is_refused() {
        // 52 digits hold 260 bits; the first digit may only be 0 or 1.
        let good = format!("1{}", "0".repeat(51));
        let bad = format!("2{}", "0".repeat(51));
        assert!(Hash::parse_digits(good, HashAlgorithm::Sha256).is_ok());
        let error = Hash::parse_digits(&bad, HashAlgorithm::Sha256).unwrap_err();
        assert_eq!(
            error.message(),
            format!("invalid nix32 hash '{bad}', length 33 != expected length 32")
        );
    }

    #[test]
    fn strict_base16() {
        let hash = sha256_of("abc");
        let text = hash.encode(HashFormat::Base16);
        let parse = |t: &str| Hash::parse_base16_strict(t, HashAlgorithm::Sha256);
        assert_eq!(parse(&text).unwrap(), hash);
        assert!(parse(&text.to_uppercase()).is_err());
        assert!(parse(&text[1..]).is_err());
        assert!(parse(&hash.encode(HashFormat::Nix32)).is_err());
    }

    fn algorithms() -> impl Strategy<Value = HashAlgorithm> {
        prop::sample::select(HashAlgorithm::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn every_encoding_round_trips(algorithm in algorithms(), data: Vec<u8>) {
            let hash = Hash::of(algorithm, &data);
            for format in [HashFormat::Base16, HashFormat::Nix32, HashFormat::Base64, HashFormat::Sri] {
                let text = hash.encode_with_algorithm(format);
                prop_assert_eq!(Hash::parse_any_with_format(&text, None).unwrap(), (hash, format));
            }
            prop_assert_eq!(nix32::decode(nix32::encode(&data).as_bytes()).unwrap(), data);
        }

        #[test]
        fn any_text_is_an_answer(text: Vec<u8>, algorithm in prop::option::of(algorithms())) {
            let _ = Hash::parse_any(&text, algorithm);
            let _ = Hash::parse_sri(&text);
            let _ = nix32::decode(&text);
        }

        #[test]
        fn pieces_hash_as_the_whole(algorithm in algorithms(), pieces: Vec<Vec<u8>>) {
            let mut hasher = Hasher::new(algorithm);
            for piece in &pieces {
                hasher.update(piece);
            }
            prop_assert_eq!(hasher.bytes_hashed(), pieces.concat().len() as u64);
            prop_assert_eq!(hasher.finish(), Hash::of(algorithm, pieces.concat()));
        }
    }
}
