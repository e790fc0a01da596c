//! Placeholders: strings that stand for output paths which are not known yet, and are replaced when
//! the derivation that holds them is built.

use crate::error::Result;
use crate::hash::{Hash, HashFormat, compress_hash, nix32, sha256};
use crate::store_path::{StorePath, output_path_name};

/// What a derivation calls its own output (`builtins.placeholder`, and `$out` of floating outputs).
pub fn hash_placeholder(output: impl AsRef<[u8]>) -> String {
    let mut text = b"nix-output:".to_vec();
    text.extend_from_slice(output.as_ref());
    DownstreamPlaceholder(sha256(text)).render()
}

/// What a derivation calls an output of another derivation whose path is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DownstreamPlaceholder([u8; 32]);

impl DownstreamPlaceholder {
    /// The output of a known derivation whose contents decide about its path. An error when the path
    /// is not that of a derivation.
    pub fn unknown_ca_output(drv_path: &StorePath, output: &str) -> Result<DownstreamPlaceholder> {
        let name = output_path_name(drv_path.derivation_name()?, output);
        let text = format!("nix-upstream-output:{}:{name}", drv_path.hash_part());
        Ok(DownstreamPlaceholder(sha256(text)))
    }

    /// The output of a derivation that is itself only known by a placeholder (dynamic derivations).
    pub fn unknown_derivation(&self, output: &str) -> DownstreamPlaceholder {
        let digits = nix32::encode(&compress_hash(&self.0));
        DownstreamPlaceholder(sha256(format!("nix-computed-output:{digits}:{output}")))
    }

    /// The text: a slash and 52 digits.
    pub fn render(&self) -> String {
        format!("/{}", Hash::from_sha256(self.0).encode(HashFormat::Nix32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_the_reference() {
        assert_eq!(
            hash_placeholder("out"),
            "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"
        );
        let x = StorePath::from_base_name("58n44qvvh49mxyash33m1kadrd9k20gr-x.drv").unwrap();
        assert_eq!(
            DownstreamPlaceholder::unknown_ca_output(&x, "out")
                .unwrap()
                .render(),
            "/1f1zyhhkv8fknnw29db09z7mqvc53q91xhdjxr19c6brkv16h4d6"
        );
        let hello =
            StorePath::from_base_name("dz4k4qqmlxbs3gx58fp5rwa7rg88ban9-hello.drv.drv").unwrap();
        assert_eq!(
            DownstreamPlaceholder::unknown_ca_output(&hello, "out")
                .unwrap()
                .unknown_derivation("out")
                .render(),
            "/0sxwn4vawkjam1rzv6inh740ip30f9wfk7x8yn2wj8zqyh8ik9jk"
        );
        let text = StorePath::from_base_name("58n44qvvh49mxyash33m1kadrd9k20gr-x").unwrap();
        assert!(DownstreamPlaceholder::unknown_ca_output(&text, "out").is_err());
    }
}
