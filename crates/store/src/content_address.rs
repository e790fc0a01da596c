//! Content addresses: how an object's contents are turned into bytes before they are hashed, and the
//! hash.

use crate::error::{Error, ErrorKind, Result, excerpt};
use crate::hash::{Hash, HashAlgorithm, HashFormat};
use std::fmt;

/// How contents become bytes to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentAddressMethod {
    /// The bytes of a single file (`flat`).
    Flat,
    /// The Nix archive of a file or folder (`nar`, once called `recursive`).
    Nar,
    /// The bytes of a single file which may refer to other paths (`text`).
    Text,
    /// The Git blob or tree (`git`).
    Git,
}

impl ContentAddressMethod {
    /// `flat`, `nar`, `text` or `git`.
    pub const fn name(self) -> &'static str {
        match self {
            ContentAddressMethod::Flat => "flat",
            ContentAddressMethod::Nar => "nar",
            ContentAddressMethod::Text => "text",
            ContentAddressMethod::Git => "git",
        }
    }

    /// The method of that name. `recursive`, which the language also has for `nar` in
    /// `outputHashMode`, is not among them.
    pub fn parse(name: impl AsRef<[u8]>) -> Result<ContentAddressMethod> {
        Ok(match name.as_ref() {
            b"flat" => ContentAddressMethod::Flat,
            b"nar" => ContentAddressMethod::Nar,
            b"text" => ContentAddressMethod::Text,
            b"git" => ContentAddressMethod::Git,
            other => {
                return Err(Error::new(
                    ErrorKind::UnknownMethod,
                    format!(
                        "Unknown file ingestion method '{}', expect `flat`, `nar`, or `git`",
                        excerpt(other)
                    ),
                ));
            }
        })
    }

    /// What precedes the algorithm in derivations: nothing, `r:`, `text:` or `git:`.
    pub const fn prefix(self) -> &'static str {
        match self {
            ContentAddressMethod::Flat => "",
            ContentAddressMethod::Nar => "r:",
            ContentAddressMethod::Text => "text:",
            ContentAddressMethod::Git => "git:",
        }
    }

    /// Method and algorithm as in derivations, for instance `r:sha256`.
    pub fn print_with_algorithm(self, algorithm: HashAlgorithm) -> String {
        format!("{}{algorithm}", self.prefix())
    }

    /// Reverses [`ContentAddressMethod::print_with_algorithm`].
    pub fn parse_with_algorithm(
        text: impl AsRef<[u8]>,
    ) -> Result<(ContentAddressMethod, HashAlgorithm)> {
        let text = text.as_ref();
        for method in [
            ContentAddressMethod::Nar,
            ContentAddressMethod::Text,
            ContentAddressMethod::Git,
        ] {
            if let Some(rest) = text.strip_prefix(method.prefix().as_bytes()) {
                return Ok((method, HashAlgorithm::parse(rest)?));
            }
        }
        Ok((ContentAddressMethod::Flat, HashAlgorithm::parse(text)?))
    }
}

/// A method and the hash that it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentAddress {
    /// How the contents were made into bytes.
    pub method: ContentAddressMethod,
    /// The hash of these bytes.
    pub hash: Hash,
}

impl ContentAddress {
    /// Parses the form of the database and of `.narinfo` files, such as `fixed:r:sha256:<nix32>` or
    /// `text:sha256:<nix32>`. Only the canonical spelling is accepted.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<ContentAddress> {
        let text = text.as_ref();
        let bad = |why: &str| {
            Error::new(
                ErrorKind::InvalidHash,
                format!("'{}' is not a content address: {why}", excerpt(text)),
            )
        };
        let (method, rest) = if let Some(rest) = text.strip_prefix(b"text:") {
            (ContentAddressMethod::Text, rest)
        } else if let Some(rest) = text.strip_prefix(b"fixed:") {
            if let Some(rest) = rest.strip_prefix(b"r:") {
                (ContentAddressMethod::Nar, rest)
            } else if let Some(rest) = rest.strip_prefix(b"git:") {
                (ContentAddressMethod::Git, rest)
            } else {
                (ContentAddressMethod::Flat, rest)
            }
        } else {
            return Err(bad("it begins neither with 'text:' nor with 'fixed:'"));
        };
        let colon = rest
            .iter()
            .position(|b| *b == b':')
            .ok_or_else(|| bad("the hash must be in the form '<algorithm>:<hash>'"))?;
        let (algorithm, digits) = rest.split_at(colon);
        let algorithm = HashAlgorithm::parse(algorithm)?;
        let digits = digits.get(1..).unwrap_or(&[]);
        let hash = Hash::parse_format(digits, algorithm, HashFormat::Nix32)?;
        // Digits can be missing where they would be zero.
        if hash.encode(HashFormat::Nix32).as_bytes() != digits {
            return Err(bad("the hash has not as many digits as it should"));
        }
        Ok(ContentAddress { method, hash })
    }
}

/// The form of the database and of `.narinfo` files.
impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.method {
            ContentAddressMethod::Text => "text:",
            ContentAddressMethod::Flat => "fixed:",
            ContentAddressMethod::Nar => "fixed:r:",
            ContentAddressMethod::Git => "fixed:git:",
        };
        let hash = self.hash.encode_with_algorithm(HashFormat::Nix32);
        write!(f, "{prefix}{hash}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METHODS: [ContentAddressMethod; 4] = [
        ContentAddressMethod::Flat,
        ContentAddressMethod::Nar,
        ContentAddressMethod::Text,
        ContentAddressMethod::Git,
    ];

    proptest! {
        #[test]
        fn round_trips(method in prop::sample::select(METHODS.to_vec()), data: Vec<u8>,
                       algorithm in prop::sample::select(HashAlgorithm::ALL.to_vec())) {
            let address = ContentAddress { method, hash: Hash::of(algorithm, data) };
            prop_assert_eq!(ContentAddress::parse(address.to_string()).unwrap(), address);
            prop_assert_eq!(
                ContentAddressMethod::parse_with_algorithm(method.print_with_algorithm(algorithm)).unwrap(),
                (method, algorithm)
            );
            prop_assert_eq!(ContentAddressMethod::parse(method.name()).unwrap(), method);
        }

        #[test]
        fn any_text_is_an_answer(text: Vec<u8>) {
            if let Ok(address) = ContentAddress::parse(&text) {
                prop_assert_eq!(address.to_string().into_bytes(), text);
            }
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "text",
            "fixed:",
            "fixed:sha256",
            "fixed:x:sha256:abc",
            "text:r:sha256:abc",
            // A digit less than 52, which would do for 32 bytes.
            "text:sha256:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(ContentAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
