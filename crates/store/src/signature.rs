//! Signatures of store paths: Ed25519 (<https://www.rfc-editor.org/rfc/rfc8032>) over one line of text that says what a
//! path is ([`PathInfo::fingerprint`](crate::local::PathInfo::fingerprint)).
//!
//! Keys and signatures are written `<key name>:<base 64>`. Only looking whether they are good is here; nothing signs.

use crate::{Error, ErrorKind, Result, hash};
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, UnparsedPublicKey};
use std::collections::BTreeMap;

/// Length of a signature in bytes.
const SIGNATURE_LEN: usize = 64;

/// Length of a secret key in bytes: what it is made from, then the public key.
const SECRET_KEY_LEN: usize = 64;

/// Public keys that are trusted, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeys(BTreeMap<String, [u8; ED25519_PUBLIC_KEY_LEN]>);

impl PublicKeys {
    /// Adds a public key, `<name>:<base 64>`; of several with one name the first counts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] when that is none.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let (name, key) = decode(text, "key")?;
        let key = key
            .try_into()
            .map_err(|_| invalid("public key is not valid"))?;
        self.0.entry(name.to_string()).or_insert(key);
        Ok(())
    }

    /// Adds the public key that belongs to a secret one, `<name>:<base 64>`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] when that is none.
    pub fn add_of_secret(&mut self, text: &str) -> Result<()> {
        let (name, key) = decode(text, "key")?;
        let public = match key.len() {
            SECRET_KEY_LEN => key.last_chunk().copied(),
            _ => None,
        };
        let public = public.ok_or_else(|| invalid("secret key is not valid"))?;
        self.0.entry(name.to_string()).or_insert(public);
        Ok(())
    }

    /// Whether a signature, `<key name>:<base 64>`, is one of these keys', and of this text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] when it is no signature at all.
    pub fn verify(&self, text: &[u8], signature: &str) -> Result<bool> {
        let (name, signature) = decode(signature, "signature")?;
        let Some(key) = self.0.get(name) else {
            return Ok(false);
        };
        if signature.len() != SIGNATURE_LEN {
            return Err(invalid("signature is not valid"));
        }
        let key = UnparsedPublicKey::new(&ED25519, key);
        Ok(key.verify(text, &signature).is_ok())
    }
}

fn decode<'a>(text: &'a str, what: &str) -> Result<(&'a str, Vec<u8>)> {
    let parts = text.split_once(':').filter(|(name, _)| !name.is_empty());
    let decoded = parts.and_then(|(name, digits)| {
        let bytes = hash::decode_base64(digits.as_bytes())?;
        (!bytes.is_empty()).then_some((name, bytes))
    });
    decoded.ok_or_else(|| invalid(&format!("{what} is corrupt")))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidKey, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by C++ Nix: `nix key generate-secret`, `convert-secret-to-public`, `nix store sign`.
    const SECRET: &str = "k-1:SgN3fb1I2HjrWu5zhwUV8ePk67VR2RyMqdFCqJMay0cegReBWylBgxnP1eCit5p8pj7VVUjKA00e1MR/vfkHHg==";
    const PUBLIC: &str = "k-1:HoEXgVspQYMZz9XgoreafKY+1VVIygNNHtTEf735Bx4=";
    const FINGERPRINT: &str = "1;/tmp/audit/w/store/2ayf2gd4qskm1z7zai7innky23xx1pxh-n;sha256:0yp26jwn95v7qsph5m1nb445xxhfmkylanihsfxcm1vrr1jn0rb8;168;/tmp/audit/w/store/nzg3yw58anc7pqfakryxg8a9iljxvlil-t";
    const SIGNATURE: &str = "k-1:86/MmYR+Ia+RMPuHtqq7i44Pae4swSdpWEudcvD21WHOuaKDmTAarZnxl6f/+pHuZE7FBN1pUbMauWnWfmb7Dw==";

    #[test]
    fn signatures_of_the_reference() -> Result<()> {
        let mut keys = PublicKeys::default();
        assert!(!keys.verify(FINGERPRINT.as_bytes(), SIGNATURE)?);
        keys.add(PUBLIC)?;
        assert!(keys.verify(FINGERPRINT.as_bytes(), SIGNATURE)?);
        assert!(!keys.verify(b"something else", SIGNATURE)?);
        let mut same = PublicKeys::default();
        same.add_of_secret(SECRET)?;
        assert_eq!(keys, same);
        // Each bit counts.
        let (name, signature) = decode(SIGNATURE, "signature")?;
        for bit in 0..signature.len() * 8 {
            let mut wrong = signature.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let wrong = format!("{name}:{}", data_encoding::BASE64.encode(&wrong));
            assert!(!keys.verify(FINGERPRINT.as_bytes(), &wrong)?, "{bit}");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_key_or_signature() {
        let mut keys = PublicKeys::default();
        let text = |result: Result<()>| result.map_err(|e| e.to_string());
        for (wrong, message) in [
            ("", "key is corrupt"),
            ("name", "key is corrupt"),
            (":AAAA", "key is corrupt"),
            ("name:", "key is corrupt"),
            ("name:A!AA", "key is corrupt"),
            ("name:AAAA", "public key is not valid"),
        ] {
            assert_eq!(text(keys.add(wrong)), Err(message.into()), "{wrong}");
        }
        assert_eq!(
            text(keys.add_of_secret(PUBLIC)),
            Err("secret key is not valid".into())
        );
        assert_eq!(keys, PublicKeys::default());
        let short = keys.add(PUBLIC).and_then(|()| keys.verify(b"", "k-1:AAAA"));
        assert!(short.is_err_and(|e| e.to_string() == "signature is not valid"));
        assert!(keys.verify(b"", "corrupt").is_err());
    }
}
